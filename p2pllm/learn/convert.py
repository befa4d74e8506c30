"""Make files out of files: a base in fewer bits, and models in the formats of other tools."""

import gc
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from p2pllm import adapter, base_files, corpus, durable, model_json, weights
from p2pllm.adapter_config import CONFIG_FILE
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.jobs_files import (
    ComposeJob,
    ExportJob,
    ExportReport,
    FilesJob,
    FilesReport,
    QuantiseJob,
    QuantiseReport,
    Speed,
)
from p2pllm.learn import delta, gguf_out, measure, memory, model
from p2pllm.learn.compose import compose
from p2pllm.learn.delta import Delta
from p2pllm.learn.steps import Step, stepping

Say = Callable[[Progress], None]
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def run(job: FilesJob, say: Say) -> FilesReport:
    """Do one job of this kind."""
    if isinstance(job, ComposeJob):
        return compose(job, say)
    return export(job, say) if isinstance(job, ExportJob) else quantise(job, say)


def export(job: ExportJob, say: Say) -> ExportReport:
    """Write a model for other tools; it stands in `out_dir`.

    Raises what reading the base and the adapter raises, LocalError E0204 for what the format
    cannot say and E0708 for lack of memory.
    """
    started = time.monotonic()
    base_dir = Path(job.base_dir)
    say(Progress(stage="inspect", message="reading names and shapes"))
    base_files.inspect(base_dir)
    change = None
    if job.adapter_dir:
        change = delta.read(Path(job.adapter_dir), adapter.inspect(Path(job.adapter_dir), base_dir))
    estimate = _require_memory(base_dir, job.max_memory_bytes, whole=job.format == "safetensors")
    step = stepping("write", "bytes", say)
    with _making(Path(job.out_dir)) as making:
        lost = _write(job, change, making, step)
    files = sorted(Path(job.out_dir).iterdir())
    return ExportReport(
        files=tuple(path.name for path in files),
        size_bytes=sum(path.stat().st_size for path in files),
        rounding=lost / delta.norm(change) if change else 0.0,
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def quantise(job: QuantiseJob, say: Say) -> QuantiseReport:
    """Make a smaller variant of a base in `out_dir`, loaded and measured beside the base."""
    started = time.monotonic()
    base_dir, out_dir = Path(job.base_dir), Path(job.out_dir)
    say(Progress(stage="inspect", message="reading names and shapes"))
    base_files.inspect(base_dir)
    source = gguf_out.open_source(base_dir)
    config, dtype = source.config, model.compute_dtype()
    shape = model.shape_of(base_dir, config)
    # Unpacking holds float32 and the result side by side, as an import does.
    estimate = max(
        memory.evaluation_bytes(shape, dtype.itemsize), memory.import_bytes(shape.params)
    )
    memory.require(estimate, job.max_memory_bytes, "quantising")
    text = None
    if job.data:
        documents = corpus.read_docs([Path(path) for path in job.data])
        context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
        tokenizer = model.load_tokenizer(base_dir)
        text = measure.passages(tokenizer, documents, job.max_tokens, context)
    with _making(out_dir) as making:
        _copy_settings(base_dir, making)
        (making / base_files.CUT_FILE).unlink(missing_ok=True)  # it is about the other weights
        path = making / base_files.VARIANT_FILE
        written = gguf_out.write_base(
            source, path, job.bits, None, stepping("quantise", "bytes", say)
        )
        base_files.inspect(making)
        base, base_speed = _measured(base_dir, text, "measure-base", say)
        variant, speed = _measured(making, text, "measure", say)
    files = list(out_dir.iterdir())
    return QuantiseReport(
        size_bytes=sum(path.stat().st_size for path in files),
        base_size_bytes=sum(path.stat().st_size for path in base_dir.iterdir() if path.is_file()),
        params=shape.params,
        numbers=written.kind,
        base_loss=base.nats_per_token if base else None,
        loss=variant.nats_per_token if variant else None,
        bits_per_byte=variant.bits_per_byte if variant else None,
        base_bits_per_byte=base.bits_per_byte if base else None,
        tokens=text.tokens if text else 0,
        base_speed=base_speed,
        speed=speed,
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _write(job: ExportJob, change: Delta | None, making: Path, step: Step) -> float:
    """The files of an export; the norm of what rounding lost of the change."""
    base_dir = Path(job.base_dir)
    if job.alone:
        if change is None or job.adapter_dir is None:
            raise LocalError("E0204", "only an adapter can be exported alone")
        if job.format == "gguf":
            gguf_out.write_adapter(gguf_out.open_source(base_dir), change, making / "adapter.gguf")
        else:
            for name in (CONFIG_FILE, adapter.WEIGHTS_FILE):
                shutil.copyfile(Path(job.adapter_dir) / name, making / name)
        return 0.0
    if job.format == "gguf":
        source = gguf_out.open_source(base_dir)
        path = making / base_files.VARIANT_FILE
        return gguf_out.write_base(source, path, job.bits, change, step).lost
    if job.bits < 16:
        raise LocalError("E0204", f"{job.bits} bits are written as GGUF", fix=["--format gguf"])
    _copy_settings(base_dir, making)
    if job.bits == 32:
        config = base_files.read_json(making, base_files.CONFIG_FILE) | {"dtype": "float32"}
        (making / base_files.CONFIG_FILE).write_bytes(model_json.write_object(config))
    return _write_safetensors(job, change, making / "model.safetensors", step)


def _write_safetensors(job: ExportJob, change: Delta | None, path: Path, step: Step) -> float:
    """The base's weights in one file, in its own kinds of numbers or float32, a change laid in."""
    base_dir = Path(job.base_dir)
    headers = weights.read_directory(base_dir)
    made, lost = {}, 0.0
    done, total = 0, sum(tensor.size for tensor in headers.values())
    for name, values in gguf_out.read_weights(base_dir, change):
        step(name, done, total)
        done += headers[name].size
        made[name] = values if job.bits == 32 else values.to(_DTYPES[headers[name].dtype])
        if change and name.removesuffix(".weight") in change:
            lost += float((made[name].double() - values.double()).square().sum())
    save_file(made, path, metadata={"format": "pt"})
    return math.sqrt(lost)


def _copy_settings(base_dir: Path, making: Path) -> None:
    for name in (*base_files.JSON_FILES, *base_files.COPIED):
        if (base_dir / name).is_file():
            shutil.copyfile(base_dir / name, making / name)


def _measured(
    base_dir: Path, text: measure.Passages | None, stage: str, say: Say
) -> tuple[measure.Score | None, Speed | None]:
    """A base loaded as plain transformers loads it, and scored; without text only loaded."""
    before, started = memory.runtime_bytes(), time.monotonic()
    say(Progress(stage=stage, message="loading"))
    network = model.load_base(base_dir, model.load_config(base_dir), model.compute_dtype())
    loaded = time.monotonic() - started
    with torch.inference_mode():
        logits = network(input_ids=torch.arange(8)[None] % network.config.vocab_size).logits
    if not torch.isfinite(logits).all():
        raise LocalError("E0609", "the model answers NaN or infinite numbers")
    if text is None:
        return None, None
    started = time.monotonic()
    score = measure.score(network, text, stage, say)
    rate = text.tokens / (time.monotonic() - started)
    speed = Speed(
        load_s=loaded, read_tokens_s=rate, rss_bytes=max(0, memory.runtime_bytes() - before)
    )
    del network
    gc.collect()
    return score, speed


@contextmanager
def _making(out_dir: Path) -> Iterator[Path]:
    """A folder whose files stand in `out_dir` if nothing goes wrong, and that is gone after."""
    making, there = durable.making_for(out_dir), out_dir.exists()
    if there and any(path != making for path in out_dir.iterdir()):
        raise LocalError("E0204", f"{out_dir} is not empty", fix=["name a directory to be made"])
    shutil.rmtree(making, ignore_errors=True)  # what a killed job left
    making.mkdir(parents=True)
    try:
        yield making
        for path in making.iterdir():
            path.chmod(0o644)
        if there:
            for path in list(making.iterdir()):
                path.rename(out_dir / path.name)
        else:
            making.replace(out_dir)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _require_memory(base_dir: Path, allowed: int, *, whole: bool) -> int:
    tensors = weights.read_directory(base_dir).values()
    largest = max(tensor.count for tensor in tensors)
    held = weights.parameters(tensors) * 4 if whole else 0
    # A tensor as read, in float32, in float64 with the change, turned, and as it is written.
    estimate = memory.runtime_bytes() + largest * 28 + held
    memory.require(estimate, allowed, "exporting")
    return estimate
