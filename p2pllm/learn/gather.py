"""The gather job: what blocks learnt, as one adapter of their parent or of another block.

Each adapter is lifted into the parent by its block's `block.cut`; the mean divides each entry by
the weights of those that have it, balanced so that a large block counts for no more; a block gets
what of the mean it has. With one adapter of the parent alone it is the way down: that adapter,
restricted to a block.
"""

import time
from collections.abc import Callable
from pathlib import Path

from p2pllm import adapter, blocks, weights
from p2pllm.errors import PeerError
from p2pllm.jobs import Progress
from p2pllm.jobs_blocks import Gathered, GatherJob, GatherReport
from p2pllm.learn import adapter_io, algebra, carve, delta, memory
from p2pllm.learn.algebra import Parts, Update
from p2pllm.learn.check import hash_base
from p2pllm.learn.steps import stepping

Say = Callable[[Progress], None]


def gather(job: GatherJob, say: Say) -> GatherReport:
    """Run the job; the adapter stands in `out_dir` when this returns.

    Raises what reading an adapter raises, PeerError E0702 for a block of another parent and E0705
    if nothing is left, LocalError E0708 for lack of memory.
    """
    started = time.monotonic()
    base_dir = Path(job.base_dir)
    estimate = _require_memory(job)
    parent = job.parent or hash_base(base_dir)
    updates, step = [], stepping("read", "adapters", say)
    for number, part in enumerate(job.parts):
        step(Path(part.adapter_dir).name, number, len(job.parts))
        updates.append(_update(part, base_dir, parent))
    say(Progress(stage="gather", message=f"{len(updates)} adapters"))
    whole = algebra.aggregate(algebra.balanced(updates))
    if job.into_dir:
        whole = algebra.restrict(whole, _parts(Path(job.into_dir), parent))
    norm = delta.norm(whole)
    if norm == 0:
        raise PeerError("E0705", "nothing is left of the change")
    step = stepping("compress", "modules", say)
    found = algebra.recompress(whole, job.energy, job.rank, step)
    say(Progress(stage="write", message=Path(job.out_dir).name))
    lora = adapter_io.write(found.kept, Path(job.into_dir or base_dir), Path(job.out_dir))
    return GatherReport(
        adapters=len(updates),
        rank=lora.rank,
        energy=found.energy,
        norm=norm,
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _update(part: Gathered, base_dir: Path, parent: str) -> Update:
    stands_on = Path(part.block_dir or base_dir)
    change = delta.read(Path(part.adapter_dir), adapter.inspect(Path(part.adapter_dir), stands_on))
    return Update(change, part.weight, _parts(stands_on, parent) if part.block_dir else None)


def _parts(block_dir: Path, parent: str) -> Parts:
    cut = blocks.read(block_dir)
    if cut is None:
        raise PeerError("E0702", f"{block_dir.name} is no block: it has no {blocks.CUT_FILE}")
    adapter.require_base(parent, cut.parent)
    return carve.parts(cut)


def _require_memory(job: GatherJob) -> int:
    """All changes in float64, lifted, aggregated and once more while they are compressed."""
    base = weights.read_directory(Path(job.base_dir))
    lifted = 0
    for part in job.parts:
        tensors = weights.read_header(Path(part.adapter_dir) / adapter.WEIGHTS_FILE)
        share = weights.parameters(base.values()) / weights.parameters(
            weights.read_directory(Path(part.block_dir or job.base_dir)).values()
        )
        lifted += int(weights.parameters(tensors.values()) * 8 * share)
    estimate = memory.runtime_bytes() + 6 * lifted
    memory.require(estimate, job.max_memory_bytes, "gathering adapters")
    return estimate
