"""Between the judge's verdict and the head: which accepted updates a place takes, and when.

The rule is `p2pllm.gate`; here it is fed with what this node and other keepers measured, and every
decision is written down with its numbers. What fails here is not served. docs/specs/gate.md
"""

import time
from collections.abc import Mapping, Sequence

import msgspec

from node import effects, gains, gate_facts
from node.books import PlaceBook, Ruling
from node.gate_log import Decided
from node.round_job import Sides, shadow, shadow_texts
from node.services import Services
from p2pllm import arm, gate, rollout
from p2pllm.arm import Arm, ArmRule
from p2pllm.bounds import Estimate, estimate
from p2pllm.gate import Check, Decision, Facts, Rule, Shadow
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId, NodeId
from p2pllm.jobs_shadow import Found, own_gains
from p2pllm.names import Place
from p2pllm.rollout import Pace, State, Waiting
from trust.ledger import Unfit
from trust.trial import NOISE

# A keeper has some hundred documents, not the thousand of the simulated streams: bounds widen by
# themselves, and what stays unclear is measured again on turned text.
RULE = Rule(examples=5, most=100_000)
# A keeper sees an update once, not every window: one clear gain arms its publisher's line, and it
# stays armed until the mean of what the line gave falls under the lower limit.
ARM = ArmRule(windows=1, tokens=0)
PATIENCE_S = 120.0  # for numbers of other keepers, whose rounds may be longer than ours
AGAIN_S = 3.0  # between two questions to them
MAX_LOOKS = 3  # measurements of one update; each must be twice as sure
MAX_LINES = 512  # publishers remembered as armed or not, a place


class Look(msgspec.Struct, frozen=True):
    """An update that is not decided yet."""

    first: float  # Unix seconds: when it came to the gate
    number: int = 1  # of its measurement
    due: float = 0.0  # Unix seconds, of the next measurement; 0: none is wanted
    again: float = 0.0  # Unix seconds: it is looked at again then


class GateState(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate of one place remembers."""

    rollout: State = State()
    arms: dict[NodeId, Arm] = {}
    looks: dict[ContentId, Look] = {}
    before: tuple[Accepted, ...] = ()  # what was served before the change on trial
    best: tuple[Accepted, ...] = ()  # what own text had of least loss so far


def state(services: Services, place: Place) -> GateState:
    """What the gate of a place remembers."""
    raw = services.trust.db.fact(f"gate/{place}")
    return msgspec.json.decode(raw, type=GateState) if raw else GateState()


def keep(services: Services, place: Place, now: GateState) -> None:
    """Remember it."""
    services.trust.db.set_fact(f"gate/{place}", msgspec.json.encode(now))


def pace(services: Services) -> Pace:
    """How fast a head moves, in seconds: what comes within one window goes in together.

    Updates of a window were judged together already, so none waits for company.
    """
    window = int(services.config.trust.settle_s)
    return Pace(batch=1, deadline=0, cooldown=window, canary=window, examples=RULE.examples)


class Admitted(msgspec.Struct, frozen=True):
    """What of the judged updates may be tried now, and what never; the others wait."""

    fits: tuple[Ruling, ...] = ()
    refused: tuple[Unfit, ...] = ()
    again_at: float | None = None  # Unix seconds


async def admit(services: Services, place: Place, open_: Sequence[Ruling]) -> Admitted:
    """Decide about updates that `trust` accepted."""
    now, known = state(services, place), services.trust.books.place(place)
    names = {one.verdict.update for one in open_}
    kept = {name: look for name, look in now.looks.items() if name in names}
    waiting = tuple(one for one in now.rollout.waiting if one.update in names)
    now = msgspec.structs.replace(
        now, looks=kept, rollout=msgspec.structs.replace(now.rollout, waiting=waiting)
    )
    fresh = [one for one in open_ if one.verdict.update not in {each.update for each in waiting}]
    keepers = await gains.ask(services, place, [one.verdict.update for one in fresh])
    refused: list[Unfit] = []
    for one in sorted(fresh, key=lambda one: (one.number, one.verdict.update)):
        now, decision = await _decide(services, known, one, now, keepers)
        if decision.outcome == "reject":
            failed = next(check for check in decision.checks if not check.passed)
            code = f"gate_{failed.code}"
            refused.append(Unfit(one.verdict.update, code, _finite(failed.value), failed.limit))
    keep(services, place, now)
    due = rollout.is_due(now.rollout, int(time.time()), pace(services))
    in_turn = {one.update for one in now.rollout.waiting} if due else set()
    return Admitted(
        fits=tuple(one for one in open_ if one.verdict.update in in_turn), refused=tuple(refused)
    )


def again_at(services: Services, place: Place) -> float | None:
    """When there is something to decide again at a place (Unix seconds); None: nothing waits."""
    now, open_ = state(services, place), services.trust.books.place(place).open
    speed, trial = pace(services), now.rollout.canary
    times = [trial.since + float(speed.canary)] if trial else []
    rested = float(now.rollout.last or 0) + speed.cooldown
    turns = {one.update for one in now.rollout.waiting}
    for name in open_:
        if name in turns:
            times.append(max([rested, *times[:1]]) if trial else rested)
        else:
            times.append(now.looks[name].again if name in now.looks else 0.0)
    return min(times, default=None)


async def _decide(
    services: Services, known: PlaceBook, one: Ruling, now: GateState, keepers: set[NodeId]
) -> tuple[GateState, Decision]:
    update, by = one.verdict.update, one.verdict.peer
    look = now.looks.get(update, Look(time.time()))
    first = update not in now.looks
    if look.due and look.due <= time.time():
        look = Look(look.first, look.number + 1)
        await _measure(services, known.place, update, look.number)
    elif gains.own(services, known.place, update) is None:
        await _measure(services, known.place, update, look.number)
    out = now.rollout
    seen = update in out.rolled_back or update in out.decided
    facts = gate_facts.facts_of(services, known, one, seen=seen)
    decision = gate.cheap(facts, RULE)
    panel = _panel(services, known.place, facts, look, keepers)
    if decision.outcome == "accept":
        armed = str(by) in out.lineages
        decision = gate.judge(facts, panel.shadow, panel.rule, armed=armed, look=look.number)
        now, decision = _armed(now, facts, decision, first=first)
    look, decision = _next_look(services, look, panel, decision)
    note(services, known.place, facts, "shadow", decision, panel)
    looks = {name: kept for name, kept in now.looks.items() if name != update}
    if decision.outcome == "hold":
        looks[update] = look
    # A publisher's updates stand beside each other here: a later one does not hold the earlier.
    waits = Waiting(update, str(update), decision.gain, int(time.time()))
    out = rollout.decided(now.rollout, waits, decision)
    return msgspec.structs.replace(now, looks=looks, rollout=out), decision


def _armed(
    now: GateState, facts: Facts, decision: Decision, *, first: bool
) -> tuple[GateState, Decision]:
    """Stage one, where the update came here for the first time: does its line gain for long?"""
    line = now.arms.get(facts.by, Arm())
    if decision.outcome == "hold" and not first:
        return now, decision
    if first or line.level is None:
        line = arm.observe(line, decision.gain, 0, ARM)
        arms = {**now.arms, facts.by: line}
        now = msgspec.structs.replace(now, arms=dict(list(arms.items())[-MAX_LINES:]))
    limit = ARM.off if line.armed else ARM.on
    check = Check("arm", line.level or 0.0, limit, line.armed)
    outcome = decision.outcome if line.armed or decision.outcome == "hold" else "reject"
    return now, msgspec.structs.replace(decision, outcome=outcome, checks=(*decision.checks, check))


def _next_look(
    services: Services, look: Look, panel: "Panel", decision: Decision
) -> tuple[Look, Decision]:
    """When an update that is held is looked at again; what is unclear is measured anew then."""
    if decision.outcome != "hold":
        return look, decision
    late, now = services.config.trust.review_s, time.time()
    if decision.more and look.number >= MAX_LOOKS:
        return look, msgspec.structs.replace(decision, outcome="reject")
    if decision.more:
        due = look.due if look.due > now else now + late
        return msgspec.structs.replace(look, due=due, again=due), decision
    waits = panel.others >= RULE.peers and now - look.first <= PATIENCE_S
    again = now + (AGAIN_S if waits else late)
    return msgspec.structs.replace(look, again=again), decision


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """Who measured an update, and what the rule asks of so many."""

    shadow: Shadow
    rule: Rule
    others: int  # keepers of the place beside this node and the publisher
    found: Mapping[NodeId, Estimate]
    words: Mapping[NodeId, float]


def _panel(
    services: Services, place: Place, facts: Facts, look: Look, keepers: set[NodeId]
) -> Panel:
    me = services.identity.node
    mine = gains.own(services, place, facts.update) or ()
    found = {
        by: one for by, one in gains.told(services, place, facts.update).items() if by != facts.by
    }
    others = len((keepers | found.keys()) - {me, facts.by})
    if len(found) < RULE.peers and time.time() - look.first > PATIENCE_S:
        others = len(found)  # the rest keeps the place and does not say
    words = effects.words({by: services.trust.opinions.state(by, place) for by in found})
    probes: dict[NodeId, Estimate] = {me: estimate(gains.of_part(mine, "probes")), **found}
    return Panel(
        shadow=Shadow(
            probes=probes,
            weights=words,
            own=me,
            anchors=gains.of_part(mine, "anchors"),
            descendants={one.name: one.gains for one in mine[2:]},
        ),
        rule=gate.among(RULE, others),
        others=others,
        found=probes,
        words=words,
    )


async def _measure(services: Services, place: Place, update: ContentId, look: int) -> None:
    """What an update alone gives our documents, on those of another epoch at each look."""
    sides = Sides((), (Accepted(update, 1.0),), shadow_texts(services, place))
    gains.keep_own(services, place, update, await shadow(services, place, sides, look))


def together(
    services: Services, place: Place, updates: Sequence[Ruling], found: Found, best: Found = ()
) -> Check | None:
    """Whether what would be served now harms our own text, document by document; None: it may be.

    found   what documents gain by it over what is served
    best    what they gain by the best set there was; none if that is what is served

    Each update was measured alone; this is what they do to the set together. Held against the best
    as well as the last, since harm in steps that are each too small to refuse adds up.
    """
    own = own_gains(found)
    lost = estimate([-gain for gain in own])
    checks = [Check("together", lost.high(RULE.alpha), RULE.damage, False)]
    if best and lost.mean > -NOISE * lost.error:  # what surely mends may come in all the same
        fallen = estimate([one - gain for one, gain in zip(own_gains(best), own, strict=True)])
        checks.append(Check("best", fallen.mean, max(RULE.damage, NOISE * fallen.error), False))
    below = [estimate([-gain for gain in one.gains]) for one in found[2:] if one.gains]
    if below:
        worst = max(one.high(RULE.alpha / len(below)) for one in below)
        checks.append(Check("descendant", worst, RULE.descendants * RULE.damage, False))
    checks = [Check(c.code, c.value, c.limit, c.value < c.limit) for c in checks]
    wrong = next((check for check in checks if not check.passed), None)
    decision = Decision(
        outcome="reject" if wrong else "accept",
        checks=tuple(checks),
        gain=-lost.mean,
        damage=lost.mean,
    )
    for one in updates:
        write(services, place, (one.verdict.update, one.verdict.peer), "together", decision)
    return wrong


def least(services: Services, place: Place, updates: Sequence[Ruling]) -> ContentId:
    """The update that gives our own documents least by itself."""
    found = {}
    for one in updates:
        mine = gains.own(services, place, one.verdict.update) or ()
        found[one.verdict.update] = estimate(gains.of_part(mine, "probes")).mean
    return min(sorted(found), key=found.__getitem__)


def note(
    services: Services, place: Place, facts: Facts, stage: str, decision: Decision, panel: Panel
) -> None:
    """Write a decision down, with what each keeper told."""
    told = [
        {
            "by": by,
            "word": panel.words.get(by, 1.0),
            "mean": _finite(one.mean),
            "error": _finite(one.error),
            "documents": one.count,
        }
        for by, one in panel.found.items()
    ]
    more = {"others": panel.others, "alone": panel.others < RULE.peers, "told": told}
    write(services, place, (facts.update, facts.by), stage, decision, **more)


def write(
    services: Services,
    place: Place,
    about: tuple[ContentId, NodeId],
    stage: str,
    decision: Decision,
    **more: object,
) -> None:
    """Write a decision down, and tell it to whoever follows events."""
    update, peer = about
    checks = [
        {"code": c.code, "value": _finite(c.value), "limit": _finite(c.limit), "passed": c.passed}
        for c in decision.checks
    ]
    numbers = {
        "gain": _finite(decision.gain),
        "damage": _finite(decision.damage),
        "more_documents": decision.more,
        "checks": checks,
        **more,
    }
    services.trust.gate.decide(
        Decided(
            at=time.time(),
            place=place,
            manifest=update,
            peer=peer,
            stage=stage,
            outcome=decision.outcome,
            raw=msgspec.json.encode(numbers),
        )
    )
    card = {"place": str(place), "manifest": update, "by": peer, "stage": stage}
    services.events.emit("gate", outcome=decision.outcome, failed=list(decision.failed), **card)


def _finite(value: float) -> float:
    """A number as JSON and the ledger hold it."""
    return value if abs(value) < 1e12 else 1e12 if value > 0 else -1e12
