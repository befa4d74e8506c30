"""What the jobs of a round are asked, out of what this node holds."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

from node.services import Services
from node.trust_db import Update
from p2pllm import adapter
from p2pllm.errors import LocalError
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId, content_id
from p2pllm.job_fields import Laid, Probe, Secret
from p2pllm.jobs_round import Candidate, MergeJob, RoundJob
from p2pllm.jobs_shadow import Found, ShadowJob, ShadowReport, Text
from p2pllm.names import Place
from p2pllm.tree import within
from trust.judge import ROLLBACK_FACTOR, ROLLBACK_MARGIN

OTHERS = 3  # domains beside the place's own, and places below it, whose text shows damage


async def round_job(services: Services, place: Place, batch: Sequence[Update]) -> RoundJob:
    """The measuring job of a round; LocalError E0402 without the base, E0407 without probes."""
    trust = services.trust
    base = services.library.base_of(batch[0].model)
    if base is None:
        raise LocalError("E0402", f"the base of {batch[0].manifest} is not on this node")
    epoch = trust.books.place(place).book.rounds
    await _require_probes(services, place, epoch)
    taken = trust.books.place(place).taken.values()
    last = max(taken, key=lambda one: (one.number, one.update), default=None)
    return RoundJob(
        base_dir=base.folder,
        model=base.model,
        place=place,
        probes=probes_of(services, place),
        candidates=tuple(candidate(services, one.manifest, one.sketch) for one in batch),
        texts=shadow_texts(services, place),
        own_dir=str(own_folder(services, place, base.model)),
        own_steps=services.config.trust.own_steps,
        last=candidate(services, last.update) if last else None,
        accepted=laid(services, served(services, place)),
        secret=Secret(trust.secret),
        epoch=epoch,
        max_tokens=services.config.trust.probe_tokens,
        threads=services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )


class Trial(msgspec.Struct, frozen=True):
    """A set that a place might serve."""

    wanted: tuple[Accepted, ...]
    new: frozenset[ContentId]  # of these, what it does not serve yet
    base_loss: float  # of the base alone on the probe; what is served must not be worse
    best: tuple[Accepted, ...] = ()  # what was best so far, where that is not what is served


async def merge_job(services: Services, place: Place, trial: Trial) -> MergeJob:
    """The job that tries a set before it is served; raises as `round_job` does."""
    wanted, new = trial.wanted, trial.new
    trust = services.trust
    base = services.library.base_of(services.models.manifest(wanted[0].manifest).model)
    if base is None:
        raise LocalError("E0402", f"the base of {wanted[0].manifest} is not on this node")
    # The probes of the round that judged them: the last one.
    epoch = max(0, trust.books.place(place).book.rounds - 1)
    await _require_probes(services, place, epoch)
    added = sorted((one for one in wanted if one.manifest in new), key=lambda one: -one.weight)
    return MergeJob(
        base_dir=base.folder,
        probes=probes_of(services, place)[:1],
        before=laid(services, served(services, place)),
        best=laid(services, trial.best),
        kept=laid(services, [one for one in wanted if one.manifest not in new]),
        added=laid(services, added),
        factor=ROLLBACK_FACTOR,
        margin=ROLLBACK_MARGIN,
        ceiling=trial.base_loss + ROLLBACK_MARGIN,
        texts=shadow_texts(services, place),
        secret=Secret(trust.secret),
        epoch=epoch,
        max_tokens=services.config.trust.probe_tokens,
        threads=services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )


class Sides(msgspec.Struct, frozen=True):
    """Two sets to lay on a base, and the text to score under both."""

    before: tuple[Accepted, ...]
    after: tuple[Accepted, ...]
    texts: tuple[Text, ...]


async def shadow(services: Services, place: Place, sides: Sides, turn: int = 0) -> Found:
    """What documents gain by one set over another; LocalError E0402 if a part of them is gone.

    turn   epochs to go on from that of the last round

    Raises what the job raises.
    """
    named = (*sides.after, *sides.before)[0].manifest
    base = services.library.base_of(services.models.manifest(named).model)
    if base is None:
        raise LocalError("E0402", f"the base of {named} is not on this node")
    job = ShadowJob(
        base_dir=base.folder,
        texts=sides.texts,
        before=laid(services, sides.before),
        after=laid(services, sides.after),
        secret=Secret(services.trust.secret),
        epoch=services.trust.books.place(place).book.rounds + turn,
        threads=services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )
    report = await services.learner.run(job, lambda _stage, **_fields: None)
    assert isinstance(report, ShadowReport)
    return report.found


def shadow_texts(services: Services, place: Place) -> tuple[Text, ...]:
    """What decides at a place: its own text, in two parts, and that of the places below it."""
    texts = services.trust.probes
    own = tuple(map(str, texts.files(place)))
    below = [one for one in texts.places() if within(one, place) and one != place]
    return (
        Text(str(place), own, "probes"),
        Text(str(place), own, "anchors"),
        *(Text(str(one), tuple(map(str, texts.files(one)))) for one in below[:OTHERS]),
    )


async def _require_probes(services: Services, place: Place, epoch: int) -> None:
    trust = services.trust
    if not await trio.to_thread.run_sync(trust.probes.active, place, trust.secret, epoch):
        raise LocalError("E0407", f"too little text to judge updates of {place} with")


def probes_of(services: Services, place: Place) -> tuple[Probe, ...]:
    """The place's own probes, and those of some other places, where damage shows."""
    texts = services.trust.probes
    others = [one for one in texts.places() if one != place and texts.files(one)][:OTHERS]
    return tuple(
        Probe(str(one), tuple(str(path) for path in texts.files(one))) for one in (place, *others)
    )


def served(services: Services, place: Place) -> tuple[Accepted, ...]:
    """What the place serves now."""
    head = services.trust.heads.read(place)
    return head.accepted if head else ()


def laid(services: Services, accepted: Sequence[Accepted]) -> tuple[Laid, ...]:
    """An accepted set as folders and weights; LocalError E0402 if one of them is gone."""
    return tuple(Laid(_folder(services, one.manifest), one.weight) for one in accepted)


def candidate(services: Services, manifest: ContentId, sketch: bytes = b"") -> Candidate:
    """One update as a job measures it."""
    weights = services.models.manifest(manifest).file(adapter.WEIGHTS_FILE)
    return Candidate(
        adapter_dir=_folder(services, manifest), weights=weights.blake3, claimed=sketch
    )


def _folder(services: Services, manifest: ContentId) -> str:
    held = services.library.get(manifest)
    if held is None:
        raise LocalError("E0402", f"the update {manifest} is not on this node any more")
    return held.folder


def own_folder(services: Services, place: Place, model: ContentId) -> Path:
    """Where this node's own training on its probes lies; another one for other probes."""
    files = services.trust.probes.files(place)
    text = content_id("".join(f"{path.name}{path.stat().st_mtime_ns}" for path in files).encode())
    return services.config.home / "own" / f"{model[:16]}-{text[:16]}"
