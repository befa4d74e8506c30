"""Measure an update for the judge: its geometry, its effect alone and merged, its sketch.

The node's probes are read here and leave as numbers only. What any part cannot measure ends the
job with the fault: a judge that is told nothing refuses.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from p2pllm.summary import Effect, UpdateSummary, agrees, open_sketch

MAX_NORM = 1e9  # a change longer than this is no update of any model
Say = Callable[[Progress], None]


class Subject(msgspec.Struct, frozen=True):
    """What the updates of a round are held against: all that does not depend on any of them."""

    network: Any
    tokenizer: Any
    domains: tuple[str, ...]
    texts: tuple[Passages, ...]
    seed: int  # secret, other in each epoch
    centre: Delta | None  # the accepted set; None: empty
    base: tuple[Reading, ...]  # what the base alone says to each text
    taken: tuple[Reading, ...]  # what it says with the accepted set


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
    """Measure one update on this node's probes.

    Raises what `adapter.inspect` raises, PeerError E0609 for numbers that are none or absurd,
    E0705 for no change, E0602 and E0603 for a forged sketch; LocalError E0406 for no probe text,
    and the same codes where it is the base or an accepted update that is at fault.
    """
    started = time.monotonic()
    [found] = together([job], say)
    if isinstance(found, PeerError):
        raise found
    return VitalsReport(
        summary=found,
        seconds=time.monotonic() - started,
        memory_estimate=_memory(job, _size(_touched(job))),
        peak_rss=memory.peak_bytes(),
    )


def together(jobs: Sequence[VitalsJob], say: Say) -> Iterator[UpdateSummary | PeerError]:
    """Measure updates of one round, each as if it were the only one, in their order.

    jobs   differ in the update alone: what depends on nothing else is measured once, for all
    A fault that is an update's own is told in its place; raises LocalError as `vitals` does.
    """
    say(Progress(stage="inspect", message="comparing names and shapes"))
    base_dir = Path(jobs[0].base_dir)
    with _ours("the base"):
        base_files.inspect(base_dir)
        model.shape_of(base_dir, model.load_config(base_dir))
    opened = [_opened(job) for job in jobs]
    sound = [job for job, one in zip(jobs, opened, strict=True) if not isinstance(one, PeerError)]
    if not sound:
        yield from (one for one in opened if isinstance(one, PeerError))
        return
    touched = {
        module: size
        for one in opened
        if not isinstance(one, PeerError)
        for module, size in one.items()
    }
    memory.require(
        _memory(jobs[0], _size(touched)), jobs[0].max_memory_bytes, "measuring an update"
    )
    subject = _subject(jobs[0], say)
    downs = iter(_downs(subject, sorted(touched), sound, say))
    for job, one in zip(jobs, opened, strict=True):
        yield one if isinstance(one, PeerError) else _summary(subject, job, next(downs), say)


def _opened(job: VitalsJob) -> Mapping[str, int] | PeerError:
    """The sizes of the modules that an update touches, or what is wrong with it."""
    try:
        if job.claimed:
            open_sketch(job.claimed)
        return _touched(job)
    except PeerError as bad:
        return bad


def _touched(job: VitalsJob) -> dict[str, int]:
    change, _layers = _change(Path(job.base_dir), Path(job.adapter_dir))
    return {module: len(one.b) * one.a.shape[1] for module, one in change.items()}


def _size(touched: Mapping[str, int]) -> int:
    return sum(touched.values())


def _memory(job: VitalsJob, touched: int) -> int:
    base_dir = Path(job.base_dir)
    shape = model.shape_of(base_dir, model.load_config(base_dir))
    return memory.probing_bytes(shape, model.compute_dtype().itemsize, touched)


def _downs(
    subject: Subject, modules: Sequence[str], jobs: Sequence[VitalsJob], say: Say
) -> list[tuple[float, ...]]:
    """For each update its cosine to the way down of each text."""
    say(Progress(stage="direction", message="asking which way the loss falls"))
    folders = [(Path(job.base_dir), Path(job.adapter_dir)) for job in jobs]
    found = [
        # Read again for each text: a gradient and all updates are too much to hold.
        [probing.descent(way, _change(*folder)[0]) for folder in folders]
        for way in probing.gradients(subject.network, subject.centre, modules, subject.texts)
    ]
    return list(zip(*found, strict=True))


def _summary(
    subject: Subject, job: VitalsJob, downs: Sequence[float], say: Say
) -> UpdateSummary | PeerError:
    try:
        return _measured(subject, job, downs, say)
    except PeerError as bad:
        return bad


def _measured(subject: Subject, job: VitalsJob, downs: Sequence[float], say: Say) -> UpdateSummary:
    candidate, layers = _change(Path(job.base_dir), Path(job.adapter_dir))
    centre = subject.centre
    shape = delta.geometry(candidate, layers)
    own = sketch(candidate, job.model)
    say(Progress(stage="alone", message="probing the base with the update"))
    alone, merged = _effect(subject, None, candidate), None
    if centre is None:
        alone = _directed(alone, downs)
    else:
        say(Progress(stage="merged", message="probing the accepted set with the update"))
        both = delta.stack([(centre, 1.0), (candidate, job.weight)])
        merged = _directed(_effect(subject, centre, both), downs)
    summary = UpdateSummary(
        model=job.model,
        weights=job.weights,
        place=job.place,
        probe=_commitment(subject.texts),
        geometry=shape,
        relation=delta.relation(candidate, centre) if centre else None,
        alone=alone,
        merged=merged,
        shift=_shift(subject, candidate),
        sketch=own,
        sketch_true=_is_true(job, shape.norm, own) if job.claimed else None,
    )
    return _bounded(summary)


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


def _subject(job: VitalsJob, say: Say) -> Subject:
    centre = _centre(Path(job.base_dir), job.accepted)
    with _ours("the base"):
        made = _probed(job, centre)
    say(Progress(stage="read", message="reading the probes"))
    with _ours("the base with what was accepted"):
        base = _readings(made, None)
        taken = _readings(made, centre) if centre else base
    return msgspec.structs.replace(made, base=base, taken=taken)


def _probed(job: VitalsJob, centre: Delta | None) -> Subject:
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
        centre=centre,
        base=(),
        taken=(),
    )


def _effect(subject: Subject, before: Delta | None, after: Delta) -> Effect:
    """What turning one change into the other does; `before` is None or the accepted set."""
    old = subject.taken if before else subject.base
    new = _readings(subject, after)
    lift = new[0].usual - old[0].usual
    pair = Pair(subject.network, before, after)
    return Effect(
        influences=tuple(
            probing.influence(domain, was, now, None)
            for domain, was, now in zip(subject.domains, old, new, strict=True)
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


def _shift(subject: Subject, candidate: Delta) -> probing.Table:
    step = delta.stack([(candidate, probing.STEP)])
    with grafted(subject.network, step) as network:
        return probing.shift(subject.base[0], probing.read(network, subject.texts[0]))


def _readings(subject: Subject, change: Delta | None) -> tuple[Reading, ...]:
    with grafted(subject.network, change) as network:
        return tuple(probing.read(network, text) for text in subject.texts)


def _is_true(job: VitalsJob, norm: float, own: bytes) -> bool:
    claimed = open_sketch(job.claimed)
    about_these = (claimed.model, claimed.weights) == (job.model, job.weights)
    return about_these and agrees(claimed, norm, own)


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
