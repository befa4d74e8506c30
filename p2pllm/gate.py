"""Whether a parent takes an update: cheap checks, then what it does to others' text and its own.

Stages two and three of the rule in docs/specs/gate.md. Pure: numbers in, a decision out, with every
number it rests on. What was not measured counts as not passed. A gain on clean text says nothing of
a backdoor: that is the business of `trust`, whose verdict comes in as one of the cheap checks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from p2pllm.bounds import Estimate, estimate, needed, pool
from p2pllm.ids import ContentId, NodeId

Outcome = Literal["accept", "hold", "reject"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of stages two and three; losses in nats per token."""

    gain: float = 0.02  # the lower bound of the gain must be over this,
    gain_armed: float = 0.01  # or this, where the lineage has been taken from before
    damage: float = 0.01  # the upper bound of the damage to own text must be under this,
    descendants: float = 2.0  # and under so many times this for each descendant
    fairness: float = 0.02  # the fairness probe may worsen by so much
    alpha: float = 0.05  # a bound is wrong so often
    peers: int = 2  # others whose text is probed, at least
    alone: float = 1.5  # times the gain, where fewer than these keep the place
    examples: int = 32  # documents of each, at least
    most: int = 4096  # documents; what is unclear after so many is refused
    trust: float = 0.1  # least weight of the proposer
    odd: float = 4.0  # most deviations of norm or spectrum from the usual
    novelty: float = 0.1  # least share of the update outside what was accepted
    surprise: float = 0.0  # least loss of the parent on the proposer's text over its usual loss
    size: int = 256 * 1024**2  # most bytes


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a proposal before it is applied to anything."""

    update: ContentId
    by: NodeId
    lineage: str  # whose line of updates it is: a later one of the same line replaces an earlier
    signed: bool
    base_known: bool  # it stands on our base, and on a head of ours
    seen: bool = False  # this very update was decided before
    refresh: bool = False  # it says that it repeats known directions on newer text
    size: int  # bytes
    trust: float  # weight of the proposer, 0 to 1
    trusted: bool = True  # False: `trust` rejected this update
    norm: float  # deviations from the usual norm
    spectrum: float  # and from the usual spectrum
    novelty: float  # 1 - |P dW|^2 / |dW|^2, P onto what was accepted
    surprise: float | None = None  # nats per token; None: the proposer sent no text to score
    density: float = math.inf  # claimed gain times tokens a byte
    queue: float = 0.0  # the middle density of what waits


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """The update applied in the shadow: loss differences of documents, before less after.

    Positive is better, in all of them.
    """

    probes: Mapping[NodeId, Sequence[float] | Estimate]  # by whose text it is
    weights: Mapping[NodeId, float] = {}  # of each one's word; 1 where nothing is said
    own: NodeId | None = None  # who decides: its text counts, though the update be its own
    anchors: Sequence[float]  # our own old text
    descendants: Mapping[str, Sequence[float]] = {}
    fairness: float | None = None  # worsening of the fairness probe; None: there is none here


class Check(msgspec.Struct, frozen=True):
    """One number that was looked at, and the limit it was held against."""

    code: str
    value: float
    limit: float
    passed: bool


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a proposal, and why."""

    outcome: Outcome
    checks: tuple[Check, ...]
    gain: float = 0.0  # estimated, nats per token
    damage: float = 0.0
    more: int = 0  # documents that would settle it; 0 unless it is held for that

    @property
    def failed(self) -> tuple[str, ...]:
        """The codes of the checks that it did not pass."""
        return tuple(check.code for check in self.checks if not check.passed)


_WAITS = frozenset({"trust", "density", "surprise"})
"""Cheap checks that time may mend; the others refuse for good."""


def cheap(facts: Facts, rule: Rule) -> Decision:
    """Stage two: what costs no forward pass. `accept` means: worth a shadow application."""
    fresh = facts.novelty if not facts.refresh else 1.0
    surprise = rule.surprise if facts.surprise is None else facts.surprise
    checks = (
        _flag("signed", facts.signed),
        _flag("lineage", facts.base_known),
        _flag("unseen", not facts.seen),
        _flag("judged", facts.trusted),
        _at_most("size", facts.size, rule.size),
        _at_most("norm", abs(facts.norm), rule.odd),
        _at_most("spectrum", abs(facts.spectrum), rule.odd),
        _at_least("novelty", fresh, rule.novelty),
        _at_least("trust", facts.trust, rule.trust),
        _at_least("surprise", surprise, rule.surprise),
        _at_least("density", facts.density, facts.queue),
    )
    failed = {check.code for check in checks if not check.passed}
    outcome: Outcome = "accept" if not failed else "hold" if failed <= _WAITS else "reject"
    return Decision(outcome=outcome, checks=checks)


def judge(facts: Facts, shadow: Shadow, rule: Rule, *, armed: bool, look: int = 1) -> Decision:
    """Stage three: accept only what surely helps others' text and surely spares what is known.

    armed   the parent has taken an update of this lineage before
    look    how often this update was measured, with this time; each further look at the same
            update must be twice as sure, so that looking again is no way in
    """
    alpha = rule.alpha / 2 ** (look - 1)
    heard = {
        str(peer): found if isinstance(found, Estimate) else estimate(found)
        for peer, found in shadow.probes.items()
        if (peer != facts.by or peer == shadow.own) and _count(found) >= rule.examples
    }
    gain = pool(heard, rule.gain, {str(peer): word for peer, word in shadow.weights.items()})
    anchor = _worse(shadow.anchors)
    limit = rule.gain_armed if armed else rule.gain
    checks = [
        _at_least("peers", len(heard), rule.peers),
        _at_least("anchors", len(shadow.anchors), rule.examples),
        Check("gain", gain.low(alpha), limit, gain.low(alpha) > limit),
        Check("damage", anchor.high(alpha), rule.damage, anchor.high(alpha) < rule.damage),
        *_below(shadow.descendants, rule, alpha),
    ]
    if shadow.fairness is not None:
        checks.append(_at_most("fairness", shadow.fairness, rule.fairness))
    failed = {check.code for check in checks if not check.passed}
    outcome, more = _settle(failed, (gain, limit), (anchor, rule.damage), rule, alpha)
    if failed and outcome == "hold" and failed & {"fairness", "descendant"}:
        outcome, more = "reject", 0
    return Decision(
        outcome=outcome,
        checks=tuple(checks),
        gain=gain.mean,
        damage=anchor.mean,
        more=more,
    )


def among(rule: Rule, others: int) -> Rule:
    """The rule of a node that decides with own text where so many others keep the place.

    With fewer than `rule.peers` of them it need not wait for what is not there; own text, which
    may be alike in ways of its own, must then show so many times the gain.
    """
    if others >= rule.peers:
        return msgspec.structs.replace(rule, peers=rule.peers + 1)
    return msgspec.structs.replace(
        rule,
        peers=1,
        gain=rule.alone * rule.gain,
        gain_armed=rule.alone * rule.gain_armed,
    )


def _count(found: Sequence[float] | Estimate) -> int:
    return found.count if isinstance(found, Estimate) else len(found)


def _settle(
    failed: set[str],
    gain: tuple[Estimate, float],
    damage: tuple[Estimate, float],
    rule: Rule,
    alpha: float,
) -> tuple[Outcome, int]:
    """Accept, refuse, or wait for how many documents."""
    if not failed:
        return "accept", 0
    if failed & {"peers", "anchors"}:
        return "hold", 0
    (gained, least), (lost, most) = gain, damage
    if not (math.isfinite(gained.error) and math.isfinite(lost.error)):
        return "reject", 0  # losses that are no numbers
    if gained.high(alpha) < least or lost.low(alpha) > most:
        return "reject", 0
    asked = max(needed(gained, least, alpha / 2), needed(lost, most, alpha / 2))
    if gained.mean <= least or lost.mean >= most or asked > rule.most or asked == 0:
        return "reject", 0
    return "hold", max(asked, 2 * min(gained.count, lost.count))


def _below(descendants: Mapping[str, Sequence[float]], rule: Rule, alpha: float) -> list[Check]:
    """The worst-hit descendant; the bound is shared among all of them."""
    if not descendants:
        return []
    limit = rule.descendants * rule.damage
    worst = max(_worse(found).high(alpha / len(descendants)) for found in descendants.values())
    return [Check("descendant", worst, limit, worst < limit)]


def _worse(differences: Sequence[float]) -> Estimate:
    found = estimate(differences)
    return Estimate(-found.mean, found.error, found.count)


def _flag(code: str, passed: bool) -> Check:
    return Check(code, float(passed), 1.0, passed)


def _at_most(code: str, value: float, limit: float) -> Check:
    return Check(code, float(value), float(limit), value <= limit)


def _at_least(code: str, value: float, limit: float) -> Check:
    return Check(code, float(value), float(limit), value >= limit)
