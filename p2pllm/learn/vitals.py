"""Measure an update for the judge: its geometry, its effect alone and merged, its sketch.

The node's probes are read here and leave as numbers only. What any part cannot measure ends the
job with the fault: a judge that is told nothing refuses.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from p2pllm import adapter, base_files, corpus, probes
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import Laid, Progress, SketchJob, SketchReport, VitalsJob, VitalsReport
from p2pllm.learn import delta, measure, memory, model, probing
from p2pllm.learn.battery import Pair, battery
from p2pllm.learn.delta import Delta
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import Passages
from p2pllm.learn.probing import Reading
from p2pllm.learn.sketch import sketch
from p2pllm.summary import Effect, Sketch, UpdateSummary, agrees, open_sketch

MAX_NORM = 1e9  # a change longer than this is no update of any model
Say = Callable[[Progress], None]


class Subject(msgspec.Struct, frozen=True):
    """A base in memory, what is probed with, and what is known of them."""

    network: Any
    tokenizer: Any
    domains: tuple[str, ...]
    texts: tuple[Passages, ...]
    seed: int  # secret, other in each epoch


class Stages(msgspec.Struct, frozen=True):
    """The changes that are compared, and what the base alone says to each text."""

    candidate: Delta
    centre: Delta | None  # the accepted set; None: empty
    merged: Delta | None  # the candidate on top of it
    base: tuple[Reading, ...]


def run(job: VitalsJob | SketchJob, say: Say) -> VitalsReport | SketchReport:
    """Do one measuring job."""
    return vitals(job, say) if isinstance(job, VitalsJob) else sketched(job)


def sketched(job: SketchJob) -> SketchReport:
    """The numbers that go ahead of an adapter."""
    started = time.monotonic()
    change, layers = _change(Path(job.base_dir), Path(job.adapter_dir))
    shape = delta.geometry(change, layers)
    return SketchReport(
        norm=shape.norm,
        thirds=shape.thirds,
        forms=sketch(change, job.model),
        seconds=time.monotonic() - started,
    )


def vitals(job: VitalsJob, say: Say) -> VitalsReport:
    """Measure an update on this node's probes.

    Raises what `adapter.inspect` raises, PeerError E0609 for numbers that are none or absurd,
    E0705 for no change, E0602 and E0603 for a forged sketch; LocalError E0406 for no probe text,
    and the same codes where it is the base or an accepted update that is at fault.
    """
    started = time.monotonic()
    say(Progress(stage="inspect", message="comparing names and shapes"))
    base_dir = Path(job.base_dir)
    with _ours("the base"):
        base_files.inspect(base_dir)
        model.shape_of(base_dir, model.load_config(base_dir))
    claimed = open_sketch(job.claimed) if job.claimed else None
    candidate, layers = _change(base_dir, Path(job.adapter_dir))
    centre = _centre(base_dir, job.accepted)
    estimate = _require_memory(job, candidate)
    with _ours("the base"):
        subject = _subject(job)
    say(Progress(stage="read", message="reading the probes"))
    stages = Stages(
        candidate=candidate,
        centre=centre,
        merged=delta.stack([(centre, 1.0), (candidate, job.weight)]) if centre else None,
        base=_own_readings(subject, None),
    )
    shape = delta.geometry(candidate, layers)
    own = sketch(candidate, job.model)
    alone, merged = _effects(subject, stages, say)
    summary = UpdateSummary(
        model=job.model,
        weights=job.weights,
        place=job.place,
        probe=_commitment(subject.texts),
        geometry=shape,
        relation=delta.relation(candidate, centre) if centre else None,
        alone=alone,
        merged=merged,
        shift=_shift(subject, stages),
        sketch=own,
        sketch_true=_is_true(job, claimed, shape.norm, own) if claimed else None,
    )
    return VitalsReport(
        summary=_bounded(summary),
        seconds=time.monotonic() - started,
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )


def _change(base_dir: Path, adapter_dir: Path) -> tuple[Delta, int]:
    lora = adapter.inspect(adapter_dir, base_dir)
    change = delta.read(adapter_dir, lora)
    length = delta.norm(change)
    if length > MAX_NORM:
        raise PeerError("E0609", f"the change has a norm of {length:.3g}, at most {MAX_NORM:.0g}")
    return change, int(model.load_config(base_dir).num_hidden_layers)


def _centre(base_dir: Path, accepted: Sequence[Laid]) -> Delta | None:
    if not accepted:
        return None
    with _ours("an accepted update"):
        laid = [(_change(base_dir, Path(one.adapter_dir))[0], one.weight) for one in accepted]
    return delta.stack(laid)


def _require_memory(job: VitalsJob, candidate: Delta) -> int:
    base_dir = Path(job.base_dir)
    shape = model.shape_of(base_dir, model.load_config(base_dir))
    touched = sum(len(factors.b) * factors.a.shape[1] for factors in candidate.values())
    estimate = memory.probing_bytes(shape, model.compute_dtype().itemsize, touched)
    memory.require(estimate, job.max_memory_bytes, "measuring an update")
    return estimate


def _subject(job: VitalsJob) -> Subject:
    base_dir = Path(job.base_dir)
    config = model.load_config(base_dir)
    tokenizer = model.load_tokenizer(base_dir)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    texts = []
    for probe in job.probes:
        documents = corpus.read_docs([Path(path) for path in probe.data])
        turned = probes.active(documents, job.secret.value, job.epoch)
        texts.append(measure.passages(tokenizer, turned, job.max_tokens, context))
    network = model.load_base(base_dir, config, model.compute_dtype()).requires_grad_(False)
    return Subject(
        network=network,
        tokenizer=tokenizer,
        domains=tuple(probe.domain for probe in job.probes),
        texts=tuple(texts),
        seed=_seed(job.secret.value, job.epoch),
    )


def _effects(subject: Subject, stages: Stages, say: Say) -> tuple[Effect, Effect | None]:
    say(Progress(stage="direction", message="asking which way the loss falls"))
    downs = probing.descents(subject.network, stages.centre, stages.candidate, subject.texts)
    say(Progress(stage="alone", message="probing the base with the update"))
    after = _readings(subject, stages.candidate)
    alone = _effect(subject, (stages.base, after), Pair(subject.network, None, stages.candidate))
    if stages.merged is None:
        return _directed(alone, downs), None
    say(Progress(stage="merged", message="probing the accepted set with the update"))
    both = (_own_readings(subject, stages.centre), _readings(subject, stages.merged))
    merged = _effect(subject, both, Pair(subject.network, stages.centre, stages.merged))
    return alone, _directed(merged, downs)


def _effect(
    subject: Subject, readings: tuple[Sequence[Reading], Sequence[Reading]], pair: Pair
) -> Effect:
    before, after = (side[0] for side in readings)
    lift = after.usual - before.usual
    return Effect(
        influences=tuple(
            probing.influence(domain, before, after, None)
            for domain, before, after in zip(subject.domains, *readings, strict=True)
        ),
        battery=battery(pair, subject.texts[0], subject.tokenizer, lift, subject.seed),
    )


def _directed(effect: Effect, downs: Sequence[float]) -> Effect:
    """The effect with the cosines to the way down; they are of the model it starts from."""
    told = [
        msgspec.structs.replace(one, descent=down)
        for one, down in zip(effect.influences, downs, strict=True)
    ]
    return msgspec.structs.replace(effect, influences=tuple(told))


def _shift(subject: Subject, stages: Stages) -> probing.Table:
    step = delta.stack([(stages.candidate, probing.STEP)])
    with grafted(subject.network, step) as network:
        stepped = probing.read(network, subject.texts[0])
    return probing.shift(stages.base[0], stepped)


def _readings(subject: Subject, change: Delta | None) -> tuple[Reading, ...]:
    with grafted(subject.network, change) as network:
        return tuple(probing.read(network, text) for text in subject.texts)


def _is_true(job: VitalsJob, claimed: Sketch, norm: float, own: bytes) -> bool:
    about_these = (claimed.model, claimed.weights) == (job.model, job.weights)
    return about_these and agrees(claimed, norm, own)


def _own_readings(subject: Subject, change: Delta | None) -> tuple[Reading, ...]:
    with _ours("the base with what was accepted"):
        return _readings(subject, change)


@contextmanager
def _ours(what: str) -> Iterator[None]:
    """A fault in here is not the update's: whoever made it must not be blamed for it."""
    try:
        yield
    except PeerError as bad:
        raise LocalError(bad.code, f"{what} cannot be used: {bad.message}", why=bad.why) from bad


def _commitment(texts: Sequence[Passages]) -> ContentId:
    return content_id("".join(text.text for text in texts).encode())


def _seed(secret: bytes, epoch: int) -> int:
    key = blake3(secret, derive_key_context="p2pllm 2026 battery seed").digest()
    return int.from_bytes(blake3(epoch.to_bytes(8), key=key).digest(length=6))


def _bounded(summary: UpdateSummary) -> UpdateSummary:
    """The summary, its numbers within their bounds; PeerError E0609 if one is not."""
    try:
        return msgspec.convert(msgspec.to_builtins(summary), UpdateSummary)
    except msgspec.ValidationError as bad:
        raise PeerError("E0609", f"measuring gave what is no number: {bad}") from bad
