"""The transfer job: generator and learner going up, restriction and learner going down.

Both models stand on this machine, so nothing of any text leaves it: what leaves, if its owner says
so, is the adapter. The two are never in memory together but for their answers. What is learnt here
is a proposal; whoever asked holds it against the gate.
"""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import msgspec
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from p2pllm import adapter, blocks, corpus, weights
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.jobs_transfer import MAX_SCORED, Side, TransferJob, TransferReport
from p2pllm.learn import adapter_io, carve, delta, distill, memory, model, transfer
from p2pllm.learn.algebra import Parts
from p2pllm.learn.delta import Delta
from p2pllm.learn.distill import Asked, Recipe
from p2pllm.learn.generator import Drawing, Drawn, Maker, make_up
from p2pllm.learn.graft import grafted
from p2pllm.learn.logits import LogitCache, cache_logits
from p2pllm.learn.memory import Training
from p2pllm.learn.transfer import Fresh, Sieve, Source
from p2pllm.logit_cache import Caching
from p2pllm.privacy import Gate, Remembered

OPENING = 8  # tokens of own text that a made-up row begins after; they are left out
MORE = 1.5  # times the rows that are wanted are made up: the gate refuses some
REPLAY = 0.5  # share of the batch that is the target's own
NUCLEUS = 0.98
LEAST = 4  # tokens; a shorter document is not scored
Say = Callable[[Progress], None]


class Ground(msgspec.Struct, frozen=True):
    """Text as tokens: rows to learn from, documents to measure on."""

    tokenizer: Tokenizer
    rows: torch.Tensor  # (count, seq)
    documents: tuple[torch.Tensor, ...]
    texts: tuple[str, ...]  # that the rows are of


class Known(msgspec.Struct, frozen=True):
    """What the source answered, and how well it does itself."""

    answers: LogitCache
    losses: tuple[float, ...]  # of the documents of the new text
    made_up: int
    refused: dict[str, int]


def run(job: TransferJob, say: Say) -> TransferReport:
    """Run the job; the adapter stands in `out_dir` when this returns, if anything was learnt.

    Raises LocalError E0406 for too little text, E0708 for lack of memory, E0713 where the two cut
    text into different tokens.
    """
    started = time.monotonic()
    target_dir = Path(job.target.base_dir)
    distill.require_same_tokenizer(Path(job.source.base_dir), target_dir)
    estimate = _require_memory(job)
    say(Progress(stage="read", message="reading the text"))
    tokenizer = model.load_tokenizer(target_dir)
    new, kept = _ground(job, tokenizer, job.new, "new"), _ground(job, tokenizer, job.kept, "kept")
    network, own = _load(job.target)
    before = transfer.losses(network, own, new.documents)
    del network
    known = _ask(job, new, say)
    lacks = fmean(transfer.gains(before, known.losses))
    report = TransferReport(
        learnt=False,
        source_loss=fmean(known.losses),
        base_loss=fmean(before),
        loss=fmean(before),
        gains=(),
        spared=(),
        made_up=known.made_up,
        refused=known.refused,
        scale=0.0,
        steps=0,
        seconds=0.0,
        memory_estimate=estimate,
        peak_rss=0,
    )
    if lacks > job.least:
        report = _learn(job, known, (new, kept), report, say)
    return msgspec.structs.replace(
        report, seconds=time.monotonic() - started, peak_rss=memory.peak_bytes()
    )


def _learn(
    job: TransferJob,
    known: Known,
    grounds: tuple[Ground, Ground],
    report: TransferReport,
    say: Say,
) -> TransferReport:
    kept = grounds[1]
    network, own = _load(job.target)
    work = Path(job.out_dir).with_name("answers")
    with grafted(network, own):
        replay = cache_logits(network, kept.rows, work / "own.logits", _asked(job.target, job), say)
    answers = Source(known.answers, None, 1 - REPLAY)
    best: Delta = {}
    scale, refused = 0.0, known.refused
    if job.direction == "up":
        sifted = transfer.sift(network, known.answers.rows, replay.rows[:32], Sieve())
        refused = {**refused, **sifted.refused}
        _require_rows(len(sifted.kept), refused)
        answers = Source(known.answers, sifted.kept, 1 - REPLAY)
    else:
        parts = _parts(job)
        if parts is not None:
            change = delta.laid(job.source.laid, Path(job.source.base_dir))
            probe = list(known.answers.rows[:24])
            best, scale = transfer.restricted(change or {}, parts, network, own, probe)
    recipe = Recipe(steps=job.steps, batch=job.batch, lr=job.lr, skew=0.0, seed=job.seed)
    sources = [answers, Source(replay, None, REPLAY)]
    under = transfer.joined(own, best)
    made = transfer.learnt(network, under, sources, recipe, Fresh(rank=job.rank), say)
    change = transfer.joined(best, made)
    say(Progress(stage="measure", message="measuring what it does"))
    after = transfer.joined(own, change)
    had = [transfer.losses(network, own, one.documents) for one in grounds]
    has = [transfer.losses(network, after, one.documents) for one in grounds]
    adapter_io.write(change, Path(job.target.base_dir), Path(job.out_dir))
    shutil.rmtree(work)
    return msgspec.structs.replace(
        report,
        learnt=True,
        loss=fmean(has[0]),
        gains=tuple(transfer.gains(had[0], has[0])),
        spared=tuple(transfer.gains(had[1], has[1])),
        refused=refused,
        scale=scale,
        steps=job.steps,
    )


def _ask(job: TransferJob, new: Ground, say: Say) -> Known:
    """Let the source make rows up after the text, or read it; keep what it answers."""
    network, change = _load(job.source)
    rows, made, refused = new.rows, 0, dict[str, int]()
    losses = transfer.losses(network, change, new.documents)
    work = Path(job.out_dir).with_name("answers")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with grafted(network, change):
        if job.direction == "up":
            seen = Remembered()
            for text in new.texts:
                seen.add(text)
            made = math.ceil(MORE * job.rows)
            openings = new.rows[torch.arange(made) % len(new.rows), :OPENING]
            drawing = Drawing(length=job.seq, nucleus=NUCLEUS, seed=job.seed)
            maker, step = Maker(network, new.tokenizer, Gate(seen)), _counting(made * job.seq, say)
            found = make_up(maker, list(openings), drawing, step)
            rows, refused = found.rows[: job.rows], found.refused
            _require_rows(len(rows), refused)
        asked = _asked(job.source, job)
        answers = cache_logits(network, rows, work / "source.logits", asked, say)
    return Known(answers, tuple(losses), made, refused)


def _require_rows(count: int, refused: dict[str, int]) -> None:
    if not count:
        raise LocalError(
            "E0406",
            "none of the made-up rows may be learnt from",
            why=[f"{count} {why}" for why, count in refused.items() if count],
            fix=["give more text, or train the model that knows for longer first"],
        )


def _counting(total: int, say: Say) -> Drawn:
    done, began = 0, time.monotonic()

    def drawn(count: int) -> None:
        nonlocal done
        done += count
        left = (time.monotonic() - began) / done * (total - done)
        say(Progress(stage="make-up", done=done, total=total, unit="tokens", eta_s=left))

    return drawn


def _asked(side: Side, job: TransferJob) -> Asked:
    return Asked(side.model, distill.tokenizer_id(Path(side.base_dir)), Caching(seed=job.seed))


def _load(side: Side) -> tuple[PreTrainedModel, Delta | None]:
    base_dir = Path(side.base_dir)
    network = model.load_base(base_dir, model.load_config(base_dir), model.compute_dtype())
    return network.requires_grad_(False), delta.laid(side.laid, base_dir)


def _parts(job: TransferJob) -> Parts | None:
    """What of the source the target's base keeps; None where it is of another shape."""
    if job.source.model == job.target.model:
        frame = blocks.frame_in(Path(job.source.base_dir))
        return carve.parts(blocks.whole(job.source.model, frame))
    cut = blocks.read(Path(job.target.base_dir))
    return carve.parts(cut) if cut is not None and cut.parent == job.source.model else None


def _ground(job: TransferJob, tokenizer: Tokenizer, paths: Sequence[str], what: str) -> Ground:
    learnt, held = corpus.split(corpus.read_docs([Path(path) for path in paths]), job.held_out)
    stream: list[int] = []
    for text in learnt:
        stream += tokenizer.encode(text).ids
    have = min(job.rows, len(stream) // job.seq)
    ids = (tokenizer.encode(text).ids[: job.seq] for text in held)
    documents = [torch.tensor(one) for one in ids if len(one) > LEAST][:MAX_SCORED]
    if have < 2 or len(documents) < 2:
        raise LocalError(
            "E0406",
            f"too little {what} text: {have} rows of {job.seq} tokens to learn from, "
            f"{len(documents)} documents to measure on",
            fix=["give more text"],
        )
    rows = torch.tensor(stream[: have * job.seq]).view(have, job.seq)
    return Ground(tokenizer, rows, tuple(documents), tuple(learnt))


def _require_memory(job: TransferJob) -> int:
    dtype = model.compute_dtype()
    target_dir, source_dir = Path(job.target.base_dir), Path(job.source.base_dir)
    shape = model.shape_of(target_dir, model.load_config(target_dir))
    other = model.shape_of(source_dir, model.load_config(source_dir))
    answers = 2 * job.rows * job.seq * (Caching().keep * 12 + 8)
    modules = adapter.targeted(weights.read_directory(target_dir), Fresh().targets)
    rows = min(job.batch, max(1, memory.MICRO_TOKENS // job.seq))
    training = Training(sum(job.rank * sum(size) for size in modules.values()), rows * job.seq)
    needed = max(
        memory.training_bytes(shape, dtype.itemsize, training),
        memory.evaluation_bytes(other, dtype.itemsize),
    )
    memory.require(needed + answers, job.max_memory_bytes, "carrying knowledge")
    return needed + answers
