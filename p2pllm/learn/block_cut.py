"""The block job: score a base's parts, cut, refit, teach, measure.

Nothing of a block is in `out_dir` until all of it is. A job that was killed while the block learns
goes on where its last checkpoint stands, before that it starts again; the same job, text and
machine end with the same bytes either way.
"""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from p2pllm import blocks, durable, weights
from p2pllm.blocks import Cut, Frame
from p2pllm.errors import LocalError
from p2pllm.ids import content_id
from p2pllm.jobs import Progress, TuneJob
from p2pllm.jobs_blocks import BlockJob, BlockReport
from p2pllm.learn import (
    carve,
    checkpoint,
    importance,
    measure,
    memory,
    model,
    recover,
    refit,
    training,
    tune,
)
from p2pllm.learn.check import hash_base
from p2pllm.learn.checkpoint import State
from p2pllm.learn.distill import Recipe
from p2pllm.learn.importance import Size
from p2pllm.learn.measure import Passages, Score
from p2pllm.learn.memory import Shape, Training

_BEGUN = "begun.json"

Say = Callable[[Progress], None]


class Ground(msgspec.Struct, frozen=True):
    """The parent in memory, the rows to learn from, the passages to measure on."""

    parent: Any
    rows: torch.Tensor
    held: Passages
    dtype: torch.dtype


class Begun(msgspec.Struct, frozen=True):
    """A block that has yet to learn: what it keeps, and how well it and its parent do."""

    job: str
    keeps: bytes  # its `block.cut`
    parent: Score
    cut: Score
    refit: Score


def cut_block(job: BlockJob, say: Say) -> BlockReport:
    """Run a block job; the block stands in `out_dir` when this returns.

    Raises LocalError E0204 for a share that is none or an `out_dir` that is taken, E0406 for no
    text, E0708 for too little memory; PeerError E0711 for a base that cannot be cut.
    """
    started = time.monotonic()
    base_dir, out_dir = Path(job.base_dir), Path(job.out_dir)
    if out_dir.exists() and any(out_dir.iterdir()):
        raise LocalError("E0204", f"{out_dir} is not empty", fix=["name a directory to be made"])
    frame = blocks.frame_in(base_dir)
    estimate = _require_memory(job, frame)
    ground = _ground(job, say)
    job_id = _job_id(job, ground)
    begun = _resumed(job, job_id)
    if begun is None:
        begun, block = _begin(job, job_id, frame, ground, say)
    else:
        block = _load_cut(job, blocks.decode(begun.keeps), ground.dtype)
    cut = blocks.decode(begun.keeps)
    after, resumed_at = begun.refit, 0
    if job.steps:
        resumed_at = _teach(job, begun, ground, block, say)
        after = measure.score(block.to(ground.dtype), ground.held, "measure", say)
    carve.write(out_dir, base_dir, cut, block.state_dict())
    shutil.rmtree(_rest(job), ignore_errors=True)
    return BlockReport(
        layers=len(cut.layers),
        channels=cut.channels,
        groups=cut.group_count,
        params=weights.parameters(weights.read_directory(out_dir).values()),
        parent_params=weights.parameters(weights.read_directory(base_dir).values()),
        size_bytes=sum(path.stat().st_size for path in out_dir.iterdir()),
        parent_loss=begun.parent.nats_per_token,
        cut_loss=begun.cut.nats_per_token,
        refit_loss=begun.refit.nats_per_token,
        loss=after.nats_per_token,
        bits_per_byte=after.bits_per_byte,
        tokens=ground.held.tokens,
        documents=ground.held.documents,
        text=ground.held.text,
        steps=job.steps,
        train_tokens=job.steps * job.batch * job.seq,
        seconds=time.monotonic() - started,
        resumed_at=resumed_at,
        dtype=model.dtype_name(ground.dtype),
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _ground(job: BlockJob, say: Say) -> Ground:
    say(Progress(stage="read", message="reading the text"))
    base_dir = Path(job.base_dir)
    rows = max(job.steps * job.batch, math.ceil(max(job.refit_tokens, job.score_tokens) / job.seq))
    plain = TuneJob(
        base_dir=job.base_dir,
        data=job.data,
        out_dir=job.out_dir,
        eval_data=job.eval_data,
        steps=math.ceil(rows / job.batch),
        batch=job.batch,
        seq=job.seq,
        seed=job.seed,
        held_out=job.held_out,
    )
    texts = tune.read_texts(plain)
    config, tokenizer = model.load_config(base_dir), model.load_tokenizer(base_dir)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    dtype = model.compute_dtype()
    return Ground(
        parent=model.load_base(base_dir, config, dtype).requires_grad_(False),
        rows=training.blocks(tokenizer, texts.train, tune.end_token(config), plain).rows,
        held=measure.passages(tokenizer, texts.held, job.eval_tokens, context),
        dtype=dtype,
    )


def _begin(job: BlockJob, job_id: str, frame: Frame, ground: Ground, say: Say) -> tuple[Begun, Any]:
    """The block cut and refitted, before it learns."""
    rows = ground.rows[: max(1, job.score_tokens // job.seq)]
    scores = importance.score(ground.parent, frame, rows, say)
    parent = job.parent or hash_base(Path(job.base_dir))
    size = Size(ffn=job.ffn, heads=job.heads, depth=job.depth)
    cut = importance.choose(scores, parent, frame, size)
    parent_score = measure.score(ground.parent, ground.held, "measure-parent", say)
    block = _load_cut(job, cut, ground.dtype)
    cut_score = refit_score = measure.score(block, ground.held, "measure-cut", say)
    if job.refit_tokens:
        rows = ground.rows[: max(1, job.refit_tokens // job.seq)]
        refit.refit(ground.parent, block, cut, rows, say)
        refit_score = measure.score(block, ground.held, "measure-refit", say)
    return Begun(job_id, blocks.encode(cut), parent_score, cut_score, refit_score), block


def _teach(job: BlockJob, begun: Begun, ground: Ground, block: Any, say: Say) -> int:
    """Let the block learn, from where it got to last time; that step is answered."""
    rest = _rest(job)
    recipe = Recipe(steps=job.steps, batch=job.batch, lr=job.lr, final=0.0, warm=5, seed=job.seed)
    cut = blocks.decode(begun.keeps)
    lesson = recover.Recovery(ground.parent, block, cut, ground.rows, recipe)
    state = checkpoint.read(rest, begun.job)
    if state is None:
        durable.replace_file(rest / _BEGUN, msgspec.json.encode(begun))
        state = State(job=begun.job, step=0, base=begun.refit, measure_s=0.0)
    else:
        checkpoint.restore(rest, state, lesson)
        say(Progress(stage="resume", message=f"going on after step {state.step}"))
    checkpoint.follow(rest, state, lesson, job.steps, say)
    block.requires_grad_(False)
    return state.step


def _resumed(job: BlockJob, job_id: str) -> Begun | None:
    """What a job that was killed had begun, if it left a checkpoint."""
    _rest(job).mkdir(parents=True, exist_ok=True)
    if checkpoint.read(_rest(job), job_id) is None:
        return None
    try:
        begun = msgspec.json.decode((_rest(job) / _BEGUN).read_bytes(), type=Begun)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return begun if begun.job == job_id else None


def _rest(job: BlockJob) -> Path:
    """Where a job that is killed leaves what it needs; beside `out_dir`, gone when it is done."""
    return Path(f"{job.out_dir}.rest{durable.TEMPORARY}")


def _job_id(job: BlockJob, ground: Ground) -> str:
    # Where the result goes and how fast it is made do not change what is made.
    same = msgspec.structs.replace(job, out_dir="-", threads=1, max_memory_bytes=0)
    files = [(p.name, p.stat().st_size) for p in weights.weight_files(Path(job.base_dir))]
    text = content_id(ground.rows.numpy().tobytes())
    return content_id(msgspec.json.encode([same, files, ground.held.text, text]))


def _load_cut(job: BlockJob, cut: Cut, dtype: torch.dtype) -> Any:
    """The block as it is cut, in memory, by way of files that go at once."""
    making = Path(f"{job.out_dir}.raw{durable.TEMPORARY}")
    shutil.rmtree(making, ignore_errors=True)  # what a killed job left
    try:
        carve.cut_block(Path(job.base_dir), cut, making)
        loaded = model.load_base(making, model.load_config(making), dtype)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return loaded.requires_grad_(False)


def _require_memory(job: BlockJob, frame: Frame) -> int:
    base_dir = Path(job.base_dir)
    shape = model.shape_of(base_dir, model.load_config(base_dir))
    item = model.compute_dtype().itemsize
    small = _small(job, shape, frame)
    rows = min(job.batch, max(1, memory.MICRO_TOKENS // job.seq))
    # Both streams, where they should be, the block's between its halves and after them; what its
    # heads say and what its channels do.
    said = frame.groups * frame.heads * frame.head_dim
    streams = job.refit_tokens * (6 * frame.hidden + said + small.intermediate) * item
    # A least squares system and its answer, in float64; the widest is down_proj's.
    solving = streams + 4 * 8 * max(small.intermediate, frame.hidden) ** 2
    teaching = memory.training_bytes(small, 4, Training(small.params, rows * job.seq))
    needed = shape.params * item + max(
        memory.evaluation_bytes(small, item) + solving, teaching if job.steps else 0
    )
    memory.require(needed, job.max_memory_bytes, "cutting a block")
    return needed


def _small(job: BlockJob, shape: Shape, frame: Frame) -> Shape:
    """The sizes of the block before it is known what it keeps."""

    def matrices(layers: int, ffn: int, groups: int) -> int:
        heads = frame.head_dim * groups * (2 * frame.heads + 2)
        return layers * frame.hidden * (3 * ffn + heads)

    layers = max(1, round(job.depth * frame.layers))
    ffn = max(1, round(job.ffn * frame.ffn))
    groups = max(1, round(job.heads * frame.groups))
    gone = matrices(frame.layers, frame.ffn, frame.groups) - matrices(layers, ffn, groups)
    return msgspec.structs.replace(
        shape, params=shape.params - gone, layers=layers, intermediate=ffn
    )
