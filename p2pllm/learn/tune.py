"""Fine-tune an adapter on text: measure, train, measure again on the same tokens, write."""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from peft import PeftModel
from safetensors.torch import save
from transformers import PreTrainedModel

from p2pllm import adapter, adapter_config, corpus, durable, weights
from p2pllm.adapter_config import Config
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import Progress, TuneJob, TuneReport
from p2pllm.learn import checkpoint, measure, memory, model, training
from p2pllm.learn.checkpoint import State
from p2pllm.learn.measure import Passages
from p2pllm.learn.training import Blocks, Trainer

Say = Callable[[Progress], None]


class Texts(msgspec.Struct, frozen=True):
    """What is trained on and what is measured on: no document is in both."""

    train: list[str]
    held: list[str]


def tune(job: TuneJob, say: Say) -> TuneReport:
    """Run a tuning; the adapter stands in `out_dir` when this returns."""
    started = time.monotonic()
    job = _going_on(job)
    base_dir, out_dir = Path(job.base_dir), Path(job.out_dir)
    say(Progress(stage="read", message="reading the text"))
    texts = read_texts(job)
    config = model.load_config(base_dir)
    dtype = model.compute_dtype()
    estimate = require_memory(job, dtype)
    tokenizer = model.load_tokenizer(base_dir)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    held = measure.passages(tokenizer, texts.held, job.eval_tokens, context)
    rows = training.blocks(tokenizer, texts.train, end_token(config), job)
    torch.manual_seed(job.seed)
    tuned = _laid_on(job, model.load_base(base_dir, config, dtype))
    out_dir.mkdir(parents=True, exist_ok=True)
    state, resumed_at = _train(job, tuned, rows, held, say)
    loss = measure.score(tuned, held, "measure", say)
    write_adapter(job, tuned)
    checkpoint.remove(out_dir)
    return TuneReport(
        base_loss=state.base.nats_per_token,
        loss=loss.nats_per_token,
        base_bits_per_byte=state.base.bits_per_byte,
        bits_per_byte=loss.bits_per_byte,
        tokens=held.tokens,
        bytes=held.bytes,
        documents=held.documents,
        text=held.text,
        held_out=0.0 if job.eval_data else job.held_out,
        steps=job.steps,
        train_tokens=job.steps * job.batch * job.seq,
        train_documents=rows.documents,
        seconds=time.monotonic() - started,
        resumed_at=resumed_at,
        dtype=model.dtype_name(dtype),
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _going_on(job: TuneJob) -> TuneJob:
    """The job, in the rank, alpha and targets of the adapter that it starts from."""
    if job.start_dir is None:
        return job
    lora = adapter.inspect(Path(job.start_dir), Path(job.base_dir))
    return msgspec.structs.replace(job, rank=lora.rank, alpha=lora.alpha, targets=lora.targets)


def _laid_on(job: TuneJob, base: PreTrainedModel) -> PeftModel:
    if job.start_dir is None:
        return model.new_adapter(base, job.rank, job.alpha, list(job.targets))
    start = Path(job.start_dir)
    return model.load_adapter(base, start, adapter.inspect(start, Path(job.base_dir)))


def read_texts(job: TuneJob) -> Texts:
    """The job's documents, divided; LocalError E0406 if either part is empty."""
    documents = corpus.read_docs([Path(path) for path in job.data])
    if not job.eval_data:
        return Texts(*corpus.split(documents, job.held_out))
    held = corpus.read_docs([Path(path) for path in job.eval_data])
    measured = set(held)
    train = [document for document in documents if document not in measured]
    if not train:
        raise LocalError("E0406", "every document to train on is one to measure on")
    return Texts(train, held)


def _train(
    job: TuneJob, tuned: PeftModel, rows: Blocks, held: Passages, say: Say
) -> tuple[State, int]:
    out_dir, trainer = Path(job.out_dir), Trainer(tuned, rows, job)
    job_id = _job_id(job, rows, held)
    found = checkpoint.read(out_dir, job_id)
    if found is None:
        began = time.monotonic()
        with tuned.disable_adapter():
            base = measure.score(tuned, held, "measure-base", say)
        took = time.monotonic() - began
        state = State(job=job_id, step=0, base=base, measure_s=took)
    else:
        state = found
        checkpoint.restore(out_dir, state, trainer)
        say(Progress(stage="resume", message=f"going on after step {state.step}"))
    resumed_at = trainer.step
    tuned.train()
    state = checkpoint.follow(out_dir, state, trainer, job.steps, say)
    tuned.eval()
    return state, resumed_at


def require_memory(job: TuneJob, dtype: torch.dtype) -> int:
    """What a tuning will take, in bytes; LocalError E0708 if that may not be had."""
    base_dir = Path(job.base_dir)
    shape = model.shape_of(base_dir, model.load_config(base_dir))
    modules = adapter.targeted(weights.read_directory(base_dir), job.targets)
    trainable = sum(job.rank * sum(size) for size in modules.values())
    rows = min(job.batch, max(1, memory.MICRO_TOKENS // job.seq))
    needed = memory.training_bytes(
        shape, dtype.itemsize, memory.Training(trainable, rows * job.seq)
    )
    memory.require(needed, job.max_memory_bytes, "tuning")
    return needed


def end_token(config: object) -> int | None:
    """The token between two documents, if the base has one."""
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, list):
        end = end[0] if end else None
    return end if isinstance(end, int) else None


def _job_id(job: TuneJob, rows: Blocks, held: Passages) -> ContentId:
    # Where the result goes and how fast it is made do not change what is made.
    same = msgspec.structs.replace(job, out_dir="-", threads=1, max_memory_bytes=0)
    files = [(p.name, p.stat().st_size) for p in weights.weight_files(Path(job.base_dir))]
    text = rows.rows.numpy().tobytes()
    return content_id(msgspec.json.encode([same, files, held.text, content_id(text)]))


def write_adapter(job: TuneJob, tuned: PeftModel) -> None:
    """The trained adapter as a PEFT directory, proved to fit its base."""
    out_dir = Path(job.out_dir)
    tensors = {name: t.contiguous() for name, t in model.adapter_tensors(tuned).items()}
    data = save(tensors, metadata={"format": "pt"})
    durable.replace_file(out_dir / adapter.WEIGHTS_FILE, data, 0o644)
    config = Config(rank=job.rank, alpha=job.alpha, targets=tuple(sorted(set(job.targets))))
    path = out_dir / adapter_config.CONFIG_FILE
    durable.replace_file(path, adapter_config.write_config(config), 0o644)
    adapter.inspect(out_dir, Path(job.base_dir))
