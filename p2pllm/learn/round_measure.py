"""Measure a round of updates in one process, and try the set that would be served after it.

A fault in one update is told beside the numbers of the others; a fault in what is ours (the base,
the probes, the accepted set) ends the job, since nothing could then be judged.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import msgspec

from p2pllm import adapter, corpus, probes
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from p2pllm.job_fields import Laid
from p2pllm.jobs import Progress, TuneJob, VitalsJob
from p2pllm.jobs_round import (
    Candidate,
    Finding,
    MergeJob,
    MergeReport,
    RoundJob,
    RoundReport,
    Unmeasured,
)
from p2pllm.jobs_shadow import Found, own_gains
from p2pllm.learn import delta, measure, memory, model, probing, vitals
from p2pllm.learn.delta import Delta
from p2pllm.learn.graft import grafted
from p2pllm.learn.shadow import Reader
from p2pllm.learn.tune import tune
from p2pllm.summary import UpdateSummary

OWN_HELD_OUT = 0.5  # a small probe must give text to both sides
Say = Callable[[Progress], None]


def run(job: RoundJob | MergeJob, say: Say) -> RoundReport | MergeReport:
    """Do one job of a round."""
    return measured(job, say) if isinstance(job, RoundJob) else tried(job, say)


def measured(job: RoundJob, say: Say) -> RoundReport:
    """Every candidate's numbers, beside those of this node's own training on the same probe.

    Raises what `vitals` raises where the fault is ours.
    """
    started = time.monotonic()
    ours = [_own(job, say), *([job.last] if job.last else [])]
    asked = [_asked(job, one) for one in (*ours, *job.candidates)]
    summaries = list(vitals.together(asked, say))
    own, *last = (_sound(one) for one in summaries[: len(ours)])
    found = [_finding(one) for one in summaries[len(ours) :]]
    return RoundReport(
        own=own,
        last=last[0] if last else None,
        found=tuple(_shadowed(job, found, say) if job.texts else found),
        seconds=time.monotonic() - started,
        peak_rss=memory.peak_bytes(),
    )


def _sound(found: UpdateSummary | PeerError) -> UpdateSummary:
    if isinstance(found, PeerError):
        raise found
    return found


def _own(job: RoundJob, say: Say) -> Candidate:
    folder = Path(job.own_dir)
    weights = folder / adapter.WEIGHTS_FILE
    if not weights.is_file():
        say(Progress(stage="own", message="training on this node's own text, once"))
        tune(
            TuneJob(
                base_dir=job.base_dir,
                data=job.probes[0].data,
                out_dir=job.own_dir,
                steps=job.own_steps,
                held_out=OWN_HELD_OUT,
                threads=job.threads,
                max_memory_bytes=job.max_memory_bytes,
            ),
            say,
        )
    found = content_id(weights.read_bytes())
    return Candidate(adapter_dir=job.own_dir, weights=found)


def _finding(found: UpdateSummary | PeerError) -> Finding:
    if isinstance(found, UpdateSummary):
        return Finding(summary=found)
    told = Unmeasured(kind="peer", code=found.code, message=found.message[:500])
    return Finding(unmeasured=told)


def _shadowed(job: RoundJob, found: Sequence[Finding], say: Say) -> list[Finding]:
    """The findings, each with what the update alone gives every document; one base in memory."""
    say(Progress(stage="shadow", message="scoring documents with each update"))
    base_dir = Path(job.base_dir)
    network = model.load_base(base_dir, model.load_config(base_dir), model.compute_dtype())
    tokenizer = model.load_tokenizer(base_dir)
    reader = Reader(network.requires_grad_(False), tokenizer, job.texts, job.secret, job.epoch)
    made = []
    for one, finding in zip(job.candidates, found, strict=True):
        made.append(finding if finding.summary is None else _gained(one, finding, base_dir, reader))
    return made


def _gained(one: Candidate, finding: Finding, base_dir: Path, reader: Reader) -> Finding:
    folder = Path(one.adapter_dir)
    try:
        change = delta.read(folder, adapter.inspect(folder, base_dir))
        return msgspec.structs.replace(finding, shadow=reader.gains(change))
    except PeerError as bad:
        return _finding(bad)


def _asked(job: RoundJob, one: Candidate) -> VitalsJob:
    return VitalsJob(
        base_dir=job.base_dir,
        adapter_dir=one.adapter_dir,
        model=job.model,
        weights=one.weights,
        place=job.place,
        probes=job.probes,
        accepted=job.accepted,
        claimed=one.claimed,
        secret=job.secret,
        epoch=job.epoch,
        max_tokens=job.max_tokens,
        threads=job.threads,
        max_memory_bytes=job.max_memory_bytes,
    )


def tried(job: MergeJob, say: Say) -> MergeReport:
    """Which updates may be laid on what is served; those that harm together are tried one by one.

    Raises PeerError where an update cannot be read, LocalError E0406 without probe text.
    """
    started = time.monotonic()
    say(Progress(stage="merge", message="probing what would be served"))
    base_dir = Path(job.base_dir)
    config = model.load_config(base_dir)
    dtype = model.compute_dtype()
    needed = memory.reading_bytes(model.shape_of(base_dir, config), dtype.itemsize)
    memory.require(needed, job.max_memory_bytes, "probing what would be served")
    tokenizer = model.load_tokenizer(base_dir)
    documents = corpus.read_docs([Path(path) for path in job.probes[0].data])
    turned = probes.active(documents, job.secret.value, job.epoch)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    text = measure.passages(tokenizer, turned, job.max_tokens, context)
    network = model.load_base(base_dir, config, dtype).requires_grad_(False)
    changes = {
        one.adapter_dir: delta.read(
            Path(one.adapter_dir), adapter.inspect(Path(one.adapter_dir), base_dir)
        )
        for one in (*job.before, *job.best, *job.kept, *job.added)
    }

    def stacked(laid: Sequence[Laid]) -> Delta | None:
        parts = [(changes[one.adapter_dir], one.weight) for one in laid]
        return delta.stack(parts) if parts else None

    def loss(laid: Sequence[Laid]) -> float:
        with grafted(network, stacked(laid)):
            return probing.read(network, text).loss

    before = loss(job.before)
    limit = min(job.factor * before + job.margin, job.ceiling)
    whole = loss((*job.kept, *job.added))
    stays, after = tuple(range(len(job.added))), whole
    if whole > limit:
        stays, after = _one_by_one(job, limit, loss, before)
    reader = Reader(network, tokenizer, job.texts, job.secret, job.epoch, stacked(job.before))

    def gained(laid: Sequence[Laid]) -> Found:
        return reader.gains(stacked(laid))

    shadow = gained([*job.kept, *(job.added[row] for row in stays)])
    best = gained(job.best) if job.best else ()
    fallen = _mean(shadow) < max(0.0, _mean(best))
    return MergeReport(
        shadow=shadow,
        best=best,
        without=_without(job, gained) if fallen and len(stays) == len(job.added) > 1 else (),
        before=before,
        whole=whole,
        after=after,
        stays=stays,
        seconds=time.monotonic() - started,
        peak_rss=memory.peak_bytes(),
    )


def _one_by_one(
    job: MergeJob, limit: float, loss: Callable[[Sequence[Laid]], float], before: float
) -> tuple[tuple[int, ...], float]:
    """The rows of `added` that stay within the limit together, and the loss with them."""
    stays: tuple[int, ...] = ()
    after = before
    for row in range(len(job.added)):
        more = (*stays, row)
        found = loss((*job.kept, *(job.added[at] for at in more)))
        if found <= limit:
            stays, after = more, found
    return stays, after


def _without(job: MergeJob, gained: Callable[[Sequence[Laid]], Found]) -> tuple[float, ...]:
    """What own documents gain without each of the new ones in turn."""
    rest = ([one for one in job.added if one is not out] for out in job.added)
    return tuple(_mean(gained([*job.kept, *laid])) for laid in rest)


def _mean(found: Found) -> float:
    """What documents of the place's own text gain; 0 without any."""
    return fmean(own_gains(found) or [0.0])
