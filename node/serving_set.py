"""From verdicts to what a place serves: probe the candidate, write it down, move the head.

The ledger says what was taken; the head, the offers and the adverts follow from it, so a kill
between two steps is mended by doing the later ones again.
"""

import logging
import time
from collections.abc import Sequence
from statistics import fmean

import msgspec

from node import canary, effects, gains, gating
from node.books import OWN, PlaceBook, Ruling, Taken
from node.round_job import Trial, merge_job, served
from node.services import Services
from p2pllm import codec, heads
from p2pllm.errors import LocalError, P2pllmError, Unavailable
from p2pllm.heads import Head
from p2pllm.ids import ContentId
from p2pllm.jobs_round import MAX_CANDIDATES, MergeReport
from p2pllm.jobs_shadow import own_gains
from p2pllm.names import Place
from p2pllm.summary import MAX_SUMMARY_BYTES, UpdateSummary
from trust.judge import harmless
from trust.ledger import Merged, Unfit

log = logging.getLogger(__name__)
RETRY_S = 60.0  # after a job failed
MOVED = 0.01  # of all weight; a smaller change of shares is not written as a new head


async def settle(services: Services, place: Place) -> None:
    """Take what was judged well and does no harm, drop what may not be served, move the head."""
    drop(services, place)
    try:
        async with services.trust.trial:  # one at a time: two would take an update twice
            await canary.watch(services, place)
            await _take_in(services, place)
    except P2pllmError as fault:
        # What was not probed is not served. It stays open, and is tried again later.
        services.trust.try_at[place] = time.time() + RETRY_S
        log.warning("what %s would serve could not be probed: %s", place, fault)
        services.events.emit("judging", state="failed", place=str(place), code=fault.code)
    await bring_in_line(services, place)


def drop(services: Services, place: Place) -> None:
    """Write down what may not be served any more: of peers that are shut out, or lost here."""
    known = services.trust.books.place(place)
    held = [*known.taken.values(), *map(_as_taken, known.open.values())]
    gone = effects.revoked(held, known.book, parents_of(services, known))
    lost = {update for update in known.taken if services.library.get(update) is None}
    gone = tuple(sorted({*gone, *lost}))
    if gone:
        services.trust.books.record(place, Merged(dropped=gone))
        services.events.emit("revoked", place=str(place), manifests=list(gone))


async def _take_in(services: Services, place: Place) -> None:
    known = services.trust.books.place(place)
    fits: list[Ruling] = []
    bad: list[Unfit] = []
    model = _model(services, known)
    for found in known.open.values():
        why = _unfit(services, place, found, model)
        fits += [found] if why is None else []
        bad += [why] if why is not None else []
    fits = sorted(fits, key=lambda one: one.number)[-MAX_CANDIDATES:]
    admitted = await gating.admit(services, place, fits)
    fits, report = await _tried(services, place, admitted.fits, bad)
    bad += admitted.refused
    if not fits and not bad:
        return
    taken = tuple(sorted(one.verdict.update for one in fits))
    losses = (report.before, report.after) if report and fits else (0.0, 0.0)
    event = Merged(taken=taken, unfit=tuple(bad), before=losses[0], after=losses[1])

    def beside(_verdicts: object) -> None:
        if admitted.fits:
            owners = {one.verdict.update: one.verdict.peer for one in fits}
            left = [one.verdict.update for one in admitted.fits if one not in fits]
            canary.commit(services, place, owners, left)
        if report and fits:
            _remember(services, place, report)
        for update in taken:  # who offers it tells its sketch as well
            known_as = services.trust.db.update(place, update)
            if known_as is not None and known_as.sketch:
                services.trust.db.set_fact(f"sketch/{update}", known_as.sketch)

    services.trust.books.record(place, event, beside)
    services.events.emit("merged", place=str(place), **msgspec.to_builtins(event))


async def _tried(
    services: Services, place: Place, admitted: Sequence[Ruling], bad: list[Unfit]
) -> tuple[list[Ruling], MergeReport | None]:
    """Which of these do no harm together, and what their trial found; the others go to `bad`."""
    fits, report = list(admitted), None
    while fits:
        known = services.trust.books.place(place)
        names = _by_weight(known, fits)
        if not names:  # of no weight at all, as beside 256 newer ones
            bad += [Unfit(one.verdict.update, "weightless", 0.0, 0.0) for one in fits]
            return [], report
        report = await _try(services, place, known, fits)
        known = services.trust.books.place(place)
        still = [one for one in fits if one.verdict.update in known.open]
        if len(still) < len(fits):  # the operator shut somebody out meanwhile
            fits = still
            continue
        stays = {names[row] for row in report.stays}
        left = [one.verdict.update for one in fits if one.verdict.update not in stays]
        bad += [Unfit(update, "merged", report.whole, report.before) for update in left]
        if not left:
            if not harmless(report.before, report.whole):
                raise LocalError("E1002", "the trial of a set contradicts itself")
            wrong = gating.together(services, place, fits, report.shadow, report.best)
            if wrong is None:
                return fits, report
            left = [_worst(services, place, fits, names, report)]
            bad.append(Unfit(left[0], f"gate_{wrong.code}", wrong.value, wrong.limit))
        fits = [one for one in fits if one.verdict.update not in left]
    return [], report


def _worst(
    services: Services,
    place: Place,
    fits: Sequence[Ruling],
    names: Sequence[ContentId],
    report: MergeReport,
) -> ContentId:
    """Without whom the set is best; where that was not measured, who gives least by itself."""
    if not report.without:
        return gating.least(services, place, fits)
    return max(zip(report.without, names, strict=True))[1]


def best_of(services: Services, known: PlaceBook) -> tuple[heads.Accepted, ...]:
    """What is left of the best set that own text has had: nothing that was taken back since."""
    found = gating.state(services, known.place).best
    return tuple(one for one in found if one.manifest in known.taken)


def _remember(services: Services, place: Place, report: MergeReport) -> None:
    """Remember the best of what will be served, what is served, and what was best before them."""
    known = services.trust.books.place(place)
    after, past = (fmean(own_gains(found) or [0.0]) for found in (report.shadow, report.best))
    best = best_of(services, known) if past >= 0 else ()
    if after >= max(0.0, past):
        best = effects.weighed(list(known.taken.values()), known.book)
    now = gating.state(services, place)
    best = best or served(services, place)
    gating.keep(services, place, msgspec.structs.replace(now, best=best))


def _model(services: Services, known: PlaceBook) -> ContentId | None:
    """The base that the place serves here: that of what it took first, as a head is of one base."""
    for update in (*known.taken, *known.open):
        held = services.library.get(update)
        if held is not None:
            return held.model
    return None


def _unfit(
    services: Services, place: Place, found: Ruling, model: ContentId | None
) -> Unfit | None:
    held = services.library.get(found.verdict.update)
    if held is None or held.model != model:
        return Unfit(found.verdict.update, "other_base", 1.0, 0.0)
    summary = _summary(services, place, found)
    if summary is None:
        return Unfit(found.verdict.update, "unmeasured", 0.0, 0.0)
    return effects.unfit(found.verdict, summary, _summary(services, place, found, OWN))


def _summary(
    services: Services, place: Place, found: Ruling, name: str = ""
) -> UpdateSummary | None:
    """The summary of an update, or of what it was compared with, in the round that judged it."""
    raw = services.trust.db.summaries(place, name or found.verdict.update).get(found.number)
    return codec.decode(raw, UpdateSummary, MAX_SUMMARY_BYTES) if raw is not None else None


async def _try(
    services: Services, place: Place, known: PlaceBook, fits: Sequence[Ruling]
) -> MergeReport:
    wanted = effects.weighed([*known.taken.values(), *map(_as_taken, fits)], known.book)
    alone = _probed_already(services, known, fits, wanted)
    if alone is not None:
        return alone
    best = best_of(services, known)
    trial = Trial(
        wanted=wanted,
        new=frozenset(one.verdict.update for one in fits),
        base_loss=_base_loss(services, place, fits),
        best=best if _moved(served(services, place), best) else (),
    )
    job = await merge_job(services, place, trial)
    report = await services.learner.run(job, lambda _stage, **_fields: None)
    assert isinstance(report, MergeReport)
    return report


def _base_loss(services: Services, place: Place, fits: Sequence[Ruling]) -> float:
    """What the base alone needs for the probe; the largest said, as epochs may differ."""
    found = (_summary(services, place, one) for one in fits)
    return max(one.alone.influences[0].before for one in found if one is not None)


def _probed_already(
    services: Services,
    known: PlaceBook,
    fits: Sequence[Ruling],
    wanted: Sequence[heads.Accepted],
) -> MergeReport | None:
    """A place's first update, at its full weight, is what its round has measured."""
    if known.taken or [one.weight for one in wanted] != [1.0]:
        return None
    summary = _summary(services, known.place, fits[0])
    if summary is None:
        return None
    here = summary.alone.influences[0]
    return MergeReport(
        before=here.before,
        whole=here.after,
        after=here.after,
        stays=(0,) if harmless(here.before, here.after) else (),
        shadow=gains.own(services, known.place, fits[0].verdict.update) or (),
        seconds=0.0,
        peak_rss=0,
    )


def _by_weight(known: PlaceBook, fits: Sequence[Ruling]) -> list[ContentId]:
    """The updates of a trial in the order the job had them."""
    new = {one.verdict.update for one in fits}
    wanted = effects.weighed([*known.taken.values(), *map(_as_taken, fits)], known.book)
    added = sorted((one for one in wanted if one.manifest in new), key=lambda one: -one.weight)
    return [one.manifest for one in added]


def _as_taken(found: Ruling) -> Taken:
    return Taken(
        update=found.verdict.update,
        peer=found.verdict.peer,
        number=found.number,
        scale=found.verdict.scale,
        odd=found.odd,
    )


async def bring_in_line(services: Services, place: Place) -> None:
    """Head, offers and adverts as the ledger says."""
    known = services.trust.books.place(place)
    wanted = effects.weighed(list(known.taken.values()), known.book)
    if _moved(served(services, place), wanted):
        _move(services, place, wanted)
    names = {one.manifest for one in wanted}
    for held in services.library.models():
        judged = held.place == place and held.kind == "adapter" and held.origin == "pulled"
        if judged and services.trust.judges(place) and held.offered != (held.manifest in names):
            await _offer(services, held.manifest, offered=held.manifest in names)


def _moved(old: Sequence[heads.Accepted], new: Sequence[heads.Accepted]) -> bool:
    """Whether two sets differ by more than is worth a new head."""
    change = effects.difference(old, new)
    return bool(change.added or change.gone or change.moved > MOVED)


def _move(services: Services, place: Place, wanted: tuple[heads.Accepted, ...]) -> None:
    trust = services.trust
    old = trust.heads.read(place)
    head = Head(
        by=services.identity.node,
        place=place,
        seq=old.seq + 1 if old else 1,
        accepted=wanted,
    )
    trust.heads.write(heads.seal(services.identity, head))
    services.events.emit("head", place=str(place), seq=head.seq, accepted=len(wanted))


async def _offer(services: Services, manifest: ContentId, *, offered: bool) -> None:
    held = services.models.offer(manifest, offered=offered)
    try:
        dht = services.network.dht()
        if offered:
            await services.network.offers.advertise(dht, held)
        else:
            await services.network.offers.withdraw(dht, held)
    except Unavailable:
        services.network.offers.refresh_now()


async def clear_away(services: Services, place: Place) -> None:
    """Forget the bytes of updates that were fetched for judging alone and are not served."""
    trust = services.trust
    known = trust.books.place(place)
    for update in trust.db.for_judging():
        done = update.state in ("judged", "refused") and update.place == place
        if not done or update.manifest in known.taken or update.manifest in known.open:
            continue
        held = services.library.get(update.manifest)
        if held is not None and not held.offered and held.manifest not in services.store.pinned():
            await services.models.drop(held)
        trust.db.put(msgspec.structs.replace(update, ours=False))


def parents_of(services: Services, known: PlaceBook) -> dict[ContentId, tuple[ContentId, ...]]:
    """The parents of what a place serves or may serve, as far as they are here."""
    found = {}
    for update in (*known.taken, *known.open):
        try:
            found[update] = services.models.manifest(update).parents
        except (P2pllmError, FileNotFoundError):
            found[update] = ()
    return found
