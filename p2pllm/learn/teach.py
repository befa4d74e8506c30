"""The distill job: ask the teacher once, then train the student's adapter on its answers.

Teacher and student are never in memory together. What the teacher said stays in `resume/` beside
the checkpoint until the job is done, so that a job that was killed asks only for what is missing.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from peft import PeftModel

from p2pllm import adapter, durable
from p2pllm.ids import ContentId, content_id
from p2pllm.job_fields import Training
from p2pllm.jobs import Progress, TuneJob
from p2pllm.jobs_teach import DistillJob, DistillReport
from p2pllm.learn import checkpoint, distill, measure, memory, model, training, tune
from p2pllm.learn.checkpoint import State
from p2pllm.learn.distill import Asked, Lesson, LogitCache, Recipe
from p2pllm.learn.measure import Passages
from p2pllm.learn.training import Blocks
from p2pllm.logit_cache import bytes_per_token

Say = Callable[[Progress], None]


class Taught(msgspec.Struct, frozen=True):
    """What the teacher said to the text, and how well it does itself."""

    cache: LogitCache
    loss: float


class Ground(msgspec.Struct, frozen=True):
    """What a lesson stands on."""

    job_id: ContentId
    tokenizer: ContentId
    rows: Blocks
    held: Passages
    dtype: torch.dtype


def teach(job: DistillJob, say: Say) -> DistillReport:
    """Run a distillation; the student's adapter stands in `out_dir` when this returns."""
    started = time.monotonic()
    base_dir, out_dir = Path(job.base_dir), Path(job.out_dir)
    distill.require_divergence(job.caching.kind, reverse=job.reverse)
    say(Progress(stage="read", message="reading the text"))
    plain = _as_tuning(job)
    texts = tune.read_texts(plain)
    tokenizer_id = distill.require_same_tokenizer(Path(job.teacher_dir), base_dir)
    dtype = model.compute_dtype()
    estimate = _require_memory(job, plain, dtype)
    config, tokenizer = model.load_config(base_dir), model.load_tokenizer(base_dir)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    held = measure.passages(tokenizer, texts.held, job.eval_tokens, context)
    rows = training.blocks(tokenizer, texts.train, tune.end_token(config), plain)
    ground = Ground(_job_id(job, rows, held), tokenizer_id, rows, held, dtype)
    (out_dir / checkpoint.FOLDER).mkdir(parents=True, exist_ok=True)
    taught = _ask(job, ground, say)
    torch.manual_seed(job.seed)
    student = model.new_adapter(
        model.load_base(base_dir, config, dtype), job.rank, job.alpha, list(job.targets)
    )
    state, resumed_at = _train(job, ground, student, taught.cache, say)
    score = measure.score(student, held, "measure", say)
    tune.write_adapter(plain, student)
    checkpoint.remove(out_dir)
    return DistillReport(
        teacher_loss=taught.loss,
        base_loss=state.base.nats_per_token,
        loss=score.nats_per_token,
        base_bits_per_byte=state.base.bits_per_byte,
        bits_per_byte=score.bits_per_byte,
        tokens=held.tokens,
        bytes=held.bytes,
        documents=held.documents,
        text=held.text,
        held_out=0.0 if job.eval_data else job.held_out,
        steps=job.steps,
        train_tokens=job.steps * job.batch * job.seq,
        train_documents=rows.documents,
        cached_tokens=rows.rows.numel(),
        bytes_per_token=bytes_per_token(taught.cache.about),
        seconds=time.monotonic() - started,
        resumed_at=resumed_at,
        dtype=model.dtype_name(dtype),
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _as_tuning(job: DistillJob) -> TuneJob:
    """The same training by labels alone: what text, which rows, which adapter."""
    return TuneJob(**{name: getattr(job, name) for name in Training.__struct_fields__})


def _require_memory(job: DistillJob, plain: TuneJob, dtype: torch.dtype) -> int:
    teacher_dir = Path(job.teacher_dir)
    shape = model.shape_of(teacher_dir, model.load_config(teacher_dir))
    # A file of answers is read whole, and joined from its parts: twice its size at most.
    answers = 2 * job.steps * job.batch * job.seq * (job.caching.keep * 12 + 8)
    asking = memory.evaluation_bytes(shape, dtype.itemsize) + answers
    needed = max(asking, tune.require_memory(plain, dtype) + answers)
    memory.require(needed, job.max_memory_bytes, "teaching")
    return needed


def _ask(job: DistillJob, ground: Ground, say: Say) -> Taught:
    folder = Path(job.out_dir) / checkpoint.FOLDER
    path, note = folder / f"{ground.job_id[:16]}.logits", folder / f"{ground.job_id[:16]}.json"
    if path.is_file() and note.is_file():
        return Taught(LogitCache(path), float(note.read_text()))
    teacher_dir = Path(job.teacher_dir)
    base = model.load_base(teacher_dir, model.load_config(teacher_dir), ground.dtype)
    network: model.Network = base
    if job.teacher_adapter:
        adapter_dir = Path(job.teacher_adapter)
        lora = adapter.inspect(adapter_dir, teacher_dir)
        network = model.load_adapter(base, adapter_dir, lora)
    loss = measure.score(network, ground.held, "measure-teacher", say).nats_per_token
    asked = Asked(job.teacher, ground.tokenizer, job.caching)
    cache = distill.cache_logits(network, ground.rows.rows, path, asked, say)
    durable.replace_file(note, str(loss).encode())
    return Taught(cache, loss)


def _train(
    job: DistillJob, ground: Ground, student: PeftModel, cache: LogitCache, say: Say
) -> tuple[State, int]:
    recipe = Recipe(
        steps=job.steps,
        batch=job.batch,
        lr=job.lr,
        skew=job.skew,
        reverse=job.reverse,
        temperature=job.caching.temperature,
        hard=job.hard,
        seed=job.seed,
    )
    out_dir, lesson = Path(job.out_dir), Lesson(student, ground.rows.rows, cache, recipe)
    found = checkpoint.read(out_dir, ground.job_id)
    if found is None:
        began = time.monotonic()
        base = measure.score(student, ground.held, "measure-base", say)
        took = time.monotonic() - began
        state = State(job=ground.job_id, step=0, base=base, measure_s=took)
    else:
        state = found
        checkpoint.restore(out_dir, state, lesson)
        say(Progress(stage="resume", message=f"going on after step {state.step}"))
    resumed_at = lesson.step
    student.train()
    state = checkpoint.follow(out_dir, state, lesson, job.steps, say)
    student.eval()
    return state, resumed_at


def _job_id(job: DistillJob, rows: Blocks, held: Passages) -> ContentId:
    same = msgspec.structs.replace(job, out_dir="-", threads=1, max_memory_bytes=0)
    text = content_id(rows.rows.numpy().tobytes())
    return content_id(msgspec.json.encode([same, held.text, text]))
