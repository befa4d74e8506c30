"""Prove that an adapter fits a base: its files, its values, and that it changes the answers."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from blake3 import blake3

from p2pllm import adapter, base_files, weights
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId
from p2pllm.jobs import CheckJob, CheckReport, Progress, SketchJob, SketchReport
from p2pllm.learn import delta, memory, model
from p2pllm.learn.vitals import sketched
from p2pllm.manifest import MODEL_FILES, model_id_of

PROBE_TOKENS = 64


def check(job: CheckJob, say: Callable[[Progress], None]) -> CheckReport:
    """Return what was found if the adapter fits; PeerError E06.. or E07.. if it does not."""
    started = time.monotonic()
    base_dir, adapter_dir = Path(job.base_dir), Path(job.adapter_dir)
    say(Progress(stage="inspect", message="comparing names and shapes"))
    base_files.inspect(base_dir)
    lora = adapter.inspect(adapter_dir, base_dir)
    if job.model:
        say(Progress(stage="hash", message="hashing the base"))
        adapter.require_base(job.model, hash_base(base_dir))
    config = model.load_config(base_dir)
    dtype = model.compute_dtype()
    estimate = memory.evaluation_bytes(model.shape_of(base_dir, config), dtype.itemsize)
    memory.require(estimate, job.max_memory_bytes, "checking an adapter")
    say(Progress(stage="probe", message="comparing the answers"))
    network = model.load_base(base_dir, config, dtype)
    probe = _probe(int(config.vocab_size))
    before = _logits(network, probe)
    tuned = model.load_adapter(network, adapter_dir, lora)
    scale = lora.alpha / lora.rank
    norm = delta.norm(delta.from_tensors(model.adapter_tensors(tuned), scale))
    if norm == 0.0:
        raise _changes_nothing("every product B A is zero")
    after = _logits(tuned, probe)
    if not torch.isfinite(after).all():
        raise PeerError("E0609", "with the adapter the base answers NaN or infinite numbers")
    change = float((after - before).abs().max())
    if change == 0.0:
        raise _changes_nothing(f"with it the base answers the same (norm {norm:.3g})")
    return CheckReport(
        tensors=lora.tensors,
        delta_norm=norm,
        max_logit_change=change,
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
        sketch=_sketch(job) if job.sketch and job.model else None,
    )


def _sketch(job: CheckJob) -> SketchReport:
    asked = SketchJob(
        base_dir=job.base_dir, adapter_dir=job.adapter_dir, model=ContentId(job.model)
    )
    return sketched(asked)


def hash_base(base_dir: Path) -> ContentId:
    """The model id of the base's files: what an adapter's manifest names."""
    paths = [base_dir / name for name in MODEL_FILES] + weights.weight_files(base_dir)
    return model_id_of({path.name: blake3().update_mmap(path).hexdigest() for path in paths})


def _probe(vocabulary: int) -> torch.Tensor:
    # Any tokens do: the question is whether the answers differ, not whether they are good.
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (1, PROBE_TOKENS), generator=source)


def _logits(network: model.Network, probe: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = network(input_ids=probe, use_cache=False).logits
        return logits.float()


def _changes_nothing(why: str) -> PeerError:
    return PeerError("E0705", f"the adapter changes nothing: {why}")
