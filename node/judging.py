"""Judge the updates of followed places, one step after the other: fetch, measure, judge, serve.

Nothing acts on a verdict before it is on disk; what fails is never a pass: it waits where the
fault is ours, and is refused with its code where it may be the update's. Where a place has no
probes nothing is fetched for it, and its updates wait.
"""

import logging
import time
from collections.abc import Sequence

import msgspec
import trio

from gossip.announce import open_announce
from node import effects, gains, gating, round_plan, serving_set
from node.backoff import pause
from node.books import LAST, OWN
from node.fetch_update import bring
from node.round_job import round_job
from node.round_plan import Fetch, Measure, Wait
from node.services import Services
from node.tidy import look_over
from node.trust_db import Update
from p2pllm.durable import file_faults_told
from p2pllm.errors import P2pllmError
from p2pllm.ids import ContentId
from p2pllm.jobs_round import Finding, RoundReport
from p2pllm.names import Place
from p2pllm.summary import UpdateSummary
from trust.features import LARGEST, SKETCH, Features, Measured, best
from trust.judge import Round, Verdict
from trust.reading import Reference, features_of

log = logging.getLogger(__name__)
LOOK_S = 30.0  # at the latest: our own pushes and changed files are found then
RETRY_S, LONGEST_S = 60.0, 3600.0  # waits after a round that failed
BREATH_S = 1.0  # between two looks at what is not decided


async def run(services: Services) -> None:
    """Judge until cancelled."""
    trust = services.trust
    for place in sorted(trust.followed):
        hear_again(services, place)
        open_again(services, place)
        await serving_set.bring_in_line(services, place)
    while True:
        news = trust.news
        times = [time.time() + LOOK_S]
        for place in sorted(trust.followed):
            until = await _look_at(services, place)
            times += [until] if until is not None else []
        with trio.move_on_after(max(0.0, min(times) - time.time())):
            await news.wait()


async def _look_at(services: Services, place: Place) -> float | None:
    try:
        with file_faults_told():
            return await _advance(services, place)
    except P2pllmError as fault:  # such as a full disk: nothing was judged, so nothing is used
        log.warning("updates of %s are not judged: %s", place, fault)
        services.trust.blocked[place] = (fault.code, fault.message)
        services.events.emit("judging", state="failed", place=str(place), code=fault.code)
        return time.time() + RETRY_S


async def _try_again(services: Services, place: Place) -> None:
    """Go on with what was judged well and is not decided, and with a change that is on trial."""
    due = _again_at(services, place)
    if due is not None and due <= time.time():
        await serving_set.settle(services, place)
        known = services.trust.try_at
        known[place] = max(known.get(place, 0.0), time.time() + BREATH_S)


def _again_at(services: Services, place: Place) -> float | None:
    due = gating.again_at(services, place)
    return None if due is None else max(due, services.trust.try_at.get(place, 0.0))


async def _advance(services: Services, place: Place) -> float | None:
    """Everything that is due at a place; when to look again."""
    trust = services.trust
    _note_our_own(services, place)
    await _try_again(services, place)
    updates = trust.db.pending(place)
    if not _has_probes(services, place, updates):
        return None

    def rank(update: Update) -> int:
        return trust.opinions.order(update.peer, place)[0]

    while True:
        step = round_plan.next_step(trust.db.pending(place), time.time(), rank)
        if isinstance(step, Wait):
            times = [at for at in (step.until, _again_at(services, place)) if at is not None]
            return min(times, default=None)
        if isinstance(step, Fetch):
            await bring(services, step.update)
        else:
            await _round(services, place, step)


def hear_again(services: Services, place: Place) -> None:
    """Take note of what was announced before the place was followed."""
    for raw in services.network.heard.since(place, 0.0):
        services.trust.hear(open_announce(raw))


def open_again(services: Services, place: Place) -> None:
    """What was refused for a fault of this machine is judged again: it may be mended by now."""
    for update in services.trust.db.updates(place):
        again = round_plan.open_again(update)
        if again is not None:
            services.trust.db.put(again)


def _note_our_own(services: Services, place: Place) -> None:
    """Our own published adapters take part: they say what is usual, and are served too."""
    for held in services.library.models():
        mine = held.origin == "local" and held.offered and held.kind == "adapter"
        if mine and held.place == place and not services.trust.db.update(place, held.manifest):
            said = services.models.described(held)
            if said is None:
                continue
            now = time.time()
            update = Update(
                place=place,
                manifest=held.manifest,
                peer=services.identity.node,
                model=held.model,
                size=said.size,
                state="fetched",
                due_at=now + services.config.trust.settle_s,
                heard_at=now,
            )
            services.trust.db.put(update)


def _has_probes(services: Services, place: Place, updates: Sequence[Update]) -> bool:
    trust = services.trust
    trust.blocked.pop(place, None)
    if trust.probes.files(place):
        return True
    if updates:
        reason = f"no text to judge updates of {place} with"
        fix = f"p2pllm trust probes add {place} FILE"
        services.events.emit("judging", state="blocked", place=str(place), code="E0407", fix=fix)
        trust.blocked[place] = ("E0407", f"{reason}; {fix}")
    return False


async def _round(services: Services, place: Place, step: Measure) -> None:
    trust, again_at = services.trust, time.time() + services.config.trust.review_s
    batch = step.batch
    try:
        batch = await _still_here(services, batch)
        if not batch:
            return
        serving_set.drop(services, place)  # what somebody removed would fail every round
        await serving_set.bring_in_line(services, place)
        job = await round_job(services, place, batch)
        services.events.emit("judging", state="measuring", place=str(place), count=len(batch))
        report = await services.learner.run(job, lambda _stage, **_fields: None)
        assert isinstance(report, RoundReport)
    except P2pllmError as fault:
        log.warning("a round of %s failed: %s", place, fault)
        _failed(services, _as_known(services, batch), fault)
        return
    batch = _as_known(services, batch)
    now = _round_of(services, batch, report)
    if not now.batch:
        return
    shadows = {
        update.manifest: found.shadow
        for update, found in zip(batch, report.found, strict=True)
        if found.shadow
    }
    summaries: dict[str, UpdateSummary] = {
        update.manifest: found.summary
        for update, found in zip(batch, report.found, strict=True)
        if found.summary is not None
    }
    judged = {one.update: one for one in now.batch}
    summaries[OWN] = report.own
    if report.last is not None:
        summaries[LAST] = report.last

    def beside(verdicts: Sequence[Verdict]) -> None:
        decided = {verdict.update: verdict for verdict in verdicts}
        for update in batch:
            if update.manifest in judged:
                decision = _decision(
                    decided[update.manifest], summaries.get(update.manifest), report.own
                )
                trust.db.put(round_plan.after_round(update, decision, again_at))
        for name, shadow in shadows.items():
            gains.keep_own(services, place, name, shadow)

    before = {one.peer: trust.opinions.state(one.peer, place) for one in batch}
    verdicts = trust.books.judge(place, now, summaries, beside)
    for verdict in verdicts:
        _tell(services, place, verdict, before[verdict.peer])
    await serving_set.settle(services, place)
    await serving_set.clear_away(services, place)


def _as_known(services: Services, batch: Sequence[Update]) -> tuple[Update, ...]:
    """The updates as they are written down by now: one may have been pulled meanwhile, to stay."""
    return tuple(services.trust.db.update(one.place, one.manifest) or one for one in batch)


async def _still_here(services: Services, batch: Sequence[Update]) -> tuple[Update, ...]:
    """The updates whose bytes are here and as they were sent; any other is fetched again."""
    here = []
    for one in batch:
        if await trio.to_thread.run_sync(_intact, services, one.manifest):
            here.append(one)
        else:
            services.trust.db.put(msgspec.structs.replace(one, state="waiting", due_at=0.0))
    return tuple(here)


def _intact(services: Services, manifest: ContentId) -> bool:
    """Whether an update is here; what our disk spoilt is laid out anew, or forgotten."""
    models, held = services.models, services.library.get(manifest)
    if held is None or models.is_intact(held):
        return held is not None
    services.store.verify()
    lacking = held.ref in look_over(models)
    if lacking:
        services.library.remove(manifest)
    return not lacking


def _decision(verdict: Verdict, summary: UpdateSummary | None, own: UpdateSummary) -> str:
    """What becomes of an update: one that is judged well and would do harm is looked at again."""
    if verdict.decision != "accept":
        return verdict.decision
    return "hold" if summary is None or effects.unfit(verdict, summary, own) else "accept"


def _failed(services: Services, batch: Sequence[Update], fault: P2pllmError) -> None:
    failed = max((one.tries for one in batch), default=0) + 1
    again_at = time.time() + pause(failed, RETRY_S, LONGEST_S)  # one time: they stay together
    for update in batch:
        after = round_plan.after_failure(update, fault.code, fault.message, again_at)
        services.trust.db.put(after)
        fields = {"place": str(update.place), "manifest": update.manifest, "by": update.peer}
        services.events.emit("judging", state="failed", code=fault.code, **fields)


def _round_of(services: Services, batch: Sequence[Update], report: RoundReport) -> Round:
    me = services.identity.node
    reference = Reference(own=report.own, last=report.last)
    own = features_of(report.own, reference)
    measured: list[Measured] = []
    for update, found in zip(batch, report.found, strict=True):
        try:
            features = _bounded(_features(found, reference, own))
        except (ArithmeticError, msgspec.ValidationError) as bad:
            # Numbers within their bounds whose product is not: no features, so no verdict.
            services.trust.db.put(round_plan.refused(update, "E0609", f"no number: {bad}"))
            continue
        measured.append(Measured(peer=update.peer, update=update.manifest, features=features))
    takes_part = any(one.peer == me for one in measured)
    return Round(
        batch=tuple(measured),
        own=me if takes_part else None,
        reference=own.agreement,
        own_best=min(best(own.fresh), LARGEST),
    )


def _bounded(features: Features) -> Features:
    """The features, within the bounds that the ledger reads them with."""
    return msgspec.convert(msgspec.to_builtins(features), Features)


def _features(found: Finding, reference: Reference, own: Features) -> Features:
    if found.summary is not None:
        return features_of(found.summary, reference)
    # Its signed files cannot be measured: that is the fault, and no number stands for it.
    return Features(
        sound=False,
        norm=0.0,
        shares=(0.0,) * len(own.shares),
        echo=0.0,
        agreement=0.0,
        alignment=0.0,
        fresh=(0.0,),
        sketch=(0.0,) * SKETCH,
    )


def _tell(services: Services, place: Place, verdict: Verdict, before: str) -> None:
    card = {"place": str(place), "manifest": verdict.update, "by": verdict.peer}
    fields = {"decision": verdict.decision, "weight": verdict.weight, "state": verdict.state}
    services.events.emit("verdict", **card, **fields)
    if verdict.state != before:
        services.events.emit(
            "standing", place=str(place), peer=verdict.peer, state=verdict.state, before=before
        )
