"""Make one adapter out of several: exactly, in fewer directions, or by a merging method."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from blake3 import blake3

from p2pllm import adapter, base_files, weights
from p2pllm.adapter_config import CONFIG_FILE
from p2pllm.errors import LocalError, PeerError
from p2pllm.jobs import Progress
from p2pllm.jobs_files import Composed, ComposeJob, ComposeReport
from p2pllm.learn import adapter_io, algebra, delta, memory
from p2pllm.learn.delta import Delta
from p2pllm.learn.mixing import mixed
from p2pllm.learn.steps import stepping

ROUNDING = 1e-9  # of the parts' norms: a sum below is what float32 left of nothing
Say = Callable[[Progress], None]


def compose(job: ComposeJob, say: Say) -> ComposeReport:
    """Run the job; the adapter stands in `out_dir`, the same bytes for any order of the parts.

    Raises what reading the parts raises, LocalError E0204 for a rank that no adapter may have and
    E0708 for lack of memory, PeerError E0705 if the parts cancel out.
    """
    started = time.monotonic()
    base_dir = Path(job.base_dir)
    say(Progress(stage="inspect", message="reading names and shapes"))
    base_files.inspect(base_dir)
    estimate = _require_memory(job)
    parts = _ordered(job.parts)
    changes: list[tuple[Delta, float]] = []
    converted = []
    step = stepping("read", "adapters", say)
    for number, part in enumerate(parts):
        step(Path(part.adapter_dir).name, number, len(parts))
        found = adapter_io.read(Path(part.adapter_dir), base_dir)
        changes.append((found.delta, part.weight))
        if found.how:
            converted.append(f"{Path(part.adapter_dir).name}: {found.how}")
    whole = _joined(job, changes, say)
    norm = delta.norm(whole)
    if norm <= ROUNDING * sum(abs(weight) * delta.norm(change) for change, weight in changes):
        raise PeerError("E0705", "the adapters cancel each other out: nothing is changed")
    kept, residual, energy = _fewer(job, whole, say)
    say(Progress(stage="write", message=Path(job.out_dir).name))
    lora = adapter_io.write(kept, base_dir, Path(job.out_dir))
    left = bool(residual) and job.residual_dir is not None
    if left:
        adapter_io.write(residual, base_dir, Path(str(job.residual_dir)))
    return ComposeReport(
        adapters=len(parts),
        rank=lora.rank,
        energy=energy,
        norm=norm,
        residual=left,
        converted=tuple(converted),
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _ordered(parts: tuple[Composed, ...]) -> list[Composed]:
    """The parts by their ids, each once, with the larger of its weights: as a head has them."""
    named: dict[str, Composed] = {}
    for part in sorted(parts, key=lambda part: part.weight):
        named[part.id or _hash_of(Path(part.adapter_dir))] = part
    return [named[id_] for id_ in sorted(named)]


def _hash_of(adapter_dir: Path) -> str:
    digest = blake3()
    for name in (CONFIG_FILE, adapter.WEIGHTS_FILE):
        if not (adapter_dir / name).is_file():
            raise LocalError("E0402", f"no {name} in {adapter_dir}")
        digest.update((adapter_dir / name).read_bytes())
    return digest.hexdigest()


def _joined(job: ComposeJob, changes: list[tuple[Delta, float]], say: Say) -> Delta:
    if job.method == "exact":
        return delta.stack(changes)
    torch.manual_seed(job.seed)
    energy = min(job.energy, algebra.ALL_BUT_ROUNDING)
    modules = len({module for change, _weight in changes for module in change})
    made = {}
    step = stepping("merge", "modules", say)
    for number, (module, factors) in enumerate(mixed(changes, job.method, job.density, energy), 1):
        step(module, number, modules)
        made[module] = factors
    return made


def _fewer(job: ComposeJob, whole: Delta, say: Say) -> tuple[Delta, Delta, float]:
    """What is written, what is left out, and the share that a module keeps at least."""
    needed = max(factors.b.shape[1] for factors in whole.values())
    if job.energy == 1 and needed <= (job.rank or needed):
        return whole, {}, 1.0
    step = stepping("compress", "modules", say)
    found = algebra.recompress(whole, job.energy, job.rank, step)
    return found.kept, found.residual, found.energy


def _require_memory(job: ComposeJob) -> int:
    """Everything read in float64, stacked, and once more while it is compressed and written."""
    files = [Path(part.adapter_dir) / adapter.WEIGHTS_FILE for part in job.parts]
    read = sum(path.stat().st_size for path in files if path.is_file())
    base: Mapping[str, weights.Tensor] = weights.read_directory(Path(job.base_dir))
    largest = max(tensor.count for tensor in base.values())
    dense = 0 if job.method == "exact" else largest * 4 * (2 * len(job.parts) + 8)
    if any(adapter_io.needs_base(Path(part.adapter_dir)) for part in job.parts):
        # The base in float32, once more as PEFT lays the adapter in, and as it was before.
        dense += weights.parameters(base.values()) * 12
    estimate = memory.runtime_bytes() + read * 2 * 5 + dense
    memory.require(estimate, job.max_memory_bytes, "composing adapters")
    return estimate
