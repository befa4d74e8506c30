"""The block job: score a base's parts, cut, refit, teach, measure.

Nothing of a block is in `out_dir` until all of it is, so a job that was killed starts again, and
with the same job, text and machine ends with the same bytes.
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
from p2pllm.jobs import Progress, TuneJob
from p2pllm.jobs_blocks import BlockJob, BlockReport
from p2pllm.learn import (
    carve,
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
from p2pllm.learn.distill import Recipe
from p2pllm.learn.importance import Size
from p2pllm.learn.measure import Passages, Score
from p2pllm.learn.memory import Shape, Training

Say = Callable[[Progress], None]


class Ground(msgspec.Struct, frozen=True):
    """The parent in memory, the rows to learn from, the passages to measure on."""

    parent: Any
    rows: torch.Tensor
    held: Passages
    dtype: torch.dtype


class Losses(msgspec.Struct, frozen=True):
    """How well parent and block say the held-out text, stage by stage."""

    parent: Score
    cut: Score
    refit: Score
    after: Score


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
    cut = _choose(job, frame, ground, say)
    making = out_dir.with_name(f"{out_dir.name}.raw{durable.TEMPORARY}")
    tensors, losses = _mended(job, cut, ground, making, say)
    carve.write(out_dir, base_dir, cut, tensors)
    return BlockReport(
        layers=len(cut.layers),
        channels=cut.channels,
        groups=cut.group_count,
        params=weights.parameters(weights.read_directory(out_dir).values()),
        parent_params=weights.parameters(weights.read_directory(base_dir).values()),
        size_bytes=sum(path.stat().st_size for path in out_dir.iterdir()),
        parent_loss=losses.parent.nats_per_token,
        cut_loss=losses.cut.nats_per_token,
        refit_loss=losses.refit.nats_per_token,
        loss=losses.after.nats_per_token,
        bits_per_byte=losses.after.bits_per_byte,
        tokens=ground.held.tokens,
        documents=ground.held.documents,
        text=ground.held.text,
        steps=job.steps,
        train_tokens=job.steps * job.batch * job.seq,
        seconds=time.monotonic() - started,
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


def _choose(job: BlockJob, frame: Frame, ground: Ground, say: Say) -> Cut:
    rows = ground.rows[: max(1, job.score_tokens // job.seq)]
    scores = importance.score(ground.parent, frame, rows, say)
    parent = job.parent or hash_base(Path(job.base_dir))
    size = Size(ffn=job.ffn, heads=job.heads, depth=job.depth)
    return importance.choose(scores, parent, frame, size)


def _mended(
    job: BlockJob, cut: Cut, ground: Ground, making: Path, say: Say
) -> tuple[dict[str, torch.Tensor], Losses]:
    """The block's tensors after refitting and recovery, and what it scored on the way."""
    parent_score = measure.score(ground.parent, ground.held, "measure-parent", say)
    block = _load_cut(Path(job.base_dir), cut, making, ground.dtype)
    cut_score = refit_score = measure.score(block, ground.held, "measure-cut", say)
    if job.refit_tokens:
        rows = ground.rows[: max(1, job.refit_tokens // job.seq)]
        refit.refit(ground.parent, block, cut, rows, say)
        refit_score = measure.score(block, ground.held, "measure-refit", say)
    after = refit_score
    if job.steps:
        recipe = Recipe(
            steps=job.steps, batch=job.batch, lr=job.lr, skew=0.0, warm=5, seed=job.seed
        )
        recover.recover(ground.parent, block, ground.rows, recipe, say)
        after = measure.score(block.to(ground.dtype), ground.held, "measure", say)
    return block.state_dict(), Losses(parent_score, cut_score, refit_score, after)


def _load_cut(base_dir: Path, cut: Cut, making: Path, dtype: torch.dtype) -> Any:
    """The block as it is cut, in memory, by way of files that go at once."""
    shutil.rmtree(making, ignore_errors=True)  # what a killed job left
    try:
        carve.cut_block(base_dir, cut, making)
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
    streams = job.refit_tokens * frame.hidden * 4 * item
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
