"""One round at one place: features of the updates in, a verdict on each out.

Pure: the same book and the same round give the same verdicts and the same next book, in whatever
order the updates are listed. A fold of `judge` over the rounds is all the memory there is.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import inf, isfinite
from statistics import median
from typing import Literal

import msgspec

from p2pllm.ids import ContentId, NodeId
from trust import anomaly, direction
from trust.features import Features, Measured, Size, best
from trust.standing import ALLOWED, Allowed, Fault, Standing, move
from trust.votes import FOUNDERS, Vote, shares

ODD = 0.01  # p-value under which an update loses weight for the round
ODD_WEIGHT = 0.25  # factor of an odd update's weight
AGAINST_WEIGHT = 0.25  # factor of the weight of an update below the allowance, in that round
ODD_COST, FAULT_COST = 0.15, 3.0  # bad evidence
KEEP_USEFUL = 0.9  # a round
MOST_FRESH = 2.0  # times the usual: one great round does not pay for many empty ones
MOST_TAKEN = 4.0  # nor do great losses of one round last for many
IDLE, USEFUL = 0.15, 0.3  # of the usual best gain: up to the one no weight, from the other all
SHIFT = 0.6  # of trusted peers' votes flagged at once: the place changed, not the peers
LONG = 2.0  # usual lengths an update may have; a tighter limit shortens honest rounds as a whole
LONG_COST = 2.0  # power of its scale that the weight of a longer one is multiplied with
ROLLBACK_FACTOR, ROLLBACK_MARGIN = 1.5, 0.05


class Book(msgspec.Struct, frozen=True):
    """What a node remembers of one place. Made by folding `judge`; never edited."""

    peers: Mapping[NodeId, Standing] = {}
    oddities: tuple[float, ...] = ()  # of trusted peers, latest last
    agreements: tuple[float, ...] = ()  # means of trusted peers, latest last
    rounds: int = 0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """The updates of one round at one place, as this node measured them."""

    batch: tuple[Measured, ...]
    own: NodeId | None = None  # this node, where it takes part: its update counts as trusted
    reference: float = 0.0  # agreement of this node's own training on its probe
    own_best: Size = 0.0  # best of `fresh` of the same; 0: not known


class Reason(msgspec.Struct, frozen=True):
    """A number that decided, beside the limit it was held against."""

    code: str
    value: float
    limit: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one update, and why."""

    peer: NodeId
    update: ContentId
    decision: Literal["accept", "hold", "reject"]
    weight: float  # share of the merge, 0 to 1; all of a round's sum to 1 or are all 0
    scale: float  # to multiply the update with, so that its norm is at most the usual one
    state: str  # of the peer, after this round
    reasons: tuple[Reason, ...]


class _Seen(msgspec.Struct, frozen=True):
    """One update in the light of its round."""

    measured: Measured
    before: Standing
    fault: Fault
    copies: int  # peers that sent it or a duplicate of it
    sent: int  # updates that its peer sent in this round
    oddity: float
    p: float
    allowed: float
    vague: float  # how little agreement says here
    least: float  # what it adds to the kind that it harms most, in usual best gains
    gains: tuple[float, ...]  # of its peer, this round counted: means of what it adds to each kind

    @property
    def odd(self) -> bool:
        return self.p < ODD

    @property
    def against(self) -> bool:
        return self.knowledge < 0

    @property
    def knowledge(self) -> float:
        """Outcome of the first bet: agreement, and what speaks for the peer where that is vague.

        That is going along with our own training and, for who does not go against it, that no
        kind is harmed, on average or now: a good past buys nothing.
        """
        features = self.measured.features
        helped = direction.HELP * max(0.0, features.alignment)
        with_us = self.alignment / direction.ALIGNMENT_ALLOWANCE
        spared = max(0.0, min(1.0, with_us, self.spare, direction.WORST + self.least))
        beside = self.vague * (helped + spared)
        return direction.AGREEMENT_SCALE * features.agreement + self.allowed + beside

    @property
    def spare(self) -> float:
        """What the peer could still take from the kind that it harms most, in usual best gains."""
        return direction.WORST + min(self.gains)

    @property
    def opposed(self) -> bool:
        return self.alignment < 0

    @property
    def alignment(self) -> float:
        scaled = direction.ALIGNMENT_SCALE * self.measured.features.alignment
        return scaled + direction.ALIGNMENT_ALLOWANCE

    @property
    def flagged(self) -> bool:
        return self.odd or self.against or self.opposed or bool(self.fault)


def judge(book: Book, now: Round) -> tuple[Book, list[Verdict]]:
    """The book after a round, and a verdict on each update of it, in the order of the batch."""
    if not now.batch:
        return book, []
    own = now.own
    seen = _look(book, now)
    shift = _shifted(seen)
    peers = dict(book.peers)
    for one in seen:
        fault: Fault = "" if one.measured.peer == own else one.fault
        after = _after(one, peers.get(one.measured.peer, Standing()), fault, shift)
        if one.measured.peer == own:
            after = msgspec.structs.replace(
                after, state="trusted", stake=0.0, counter=0.0, damage=0.0
            )
        peers[one.measured.peer] = after
    verdicts = _verdicts(seen, peers, own, _norm(seen, own))
    by_update = {(verdict.peer, verdict.update): verdict for verdict in verdicts}
    return _next(book, seen, peers), [by_update[one.peer, one.update] for one in now.batch]


def harmless(before: float, after: float) -> bool:
    """Whether a merged candidate may be kept, by its loss on the probe before and after."""
    return after <= ROLLBACK_FACTOR * before + ROLLBACK_MARGIN


def _shifted(seen: Sequence[_Seen]) -> bool:
    """Whether most votes are flagged: trusted ones, which no number of new keys outweighs.

    One or two peers are no place: where they alone are judged again, each answers for itself.
    """
    trusted = [one for one in seen if one.before.state == "trusted"]
    counted = trusted if len(trusted) >= FOUNDERS else seen
    if len({one.measured.peer for one in counted}) < FOUNDERS:
        return False
    flagged = sum(one.flagged / one.copies for one in counted)
    return flagged > SHIFT * sum(1 / one.copies for one in counted)


def _look(book: Book, now: Round) -> list[_Seen]:
    batch = sorted(now.batch, key=lambda one: (one.peer, one.update))
    features = [one.features for one in batch]
    before = [book.peers.get(one.peer, Standing()) for one in batch]
    lead = anomaly.clusters([one.sketch for one in features])
    voters = _voters(batch, before, lead)
    oddities = anomaly.oddities(features, voters)
    null, allowed = sorted(book.oddities), direction.allowance(book.agreements, now.reference)
    vague = direction.vague(now.reference)
    adds = median(best(features[row].fresh) for row in voters)
    length = median(features[row].norm for row in voters)
    harm = _harm(adds, now.own_best, [before[row].state for row in voters])
    seen, means = [], dict(book.peers)
    for row, one in enumerate(batch):
        gains = _gains(one.features, adds, harm, length)
        counted = _counted(means.get(one.peer, Standing()), gains)
        means[one.peer] = counted  # the next of one who sent several goes on from here
        seen.append(
            _Seen(
                measured=one,
                before=before[row],
                fault="" if one.features.sound else "unsound",
                copies=len({batch[at].peer for at, top in enumerate(lead) if top == lead[row]}),
                sent=sum(other.peer == one.peer for other in batch),
                oddity=oddities[row],
                p=1.0 if one.peer == now.own else anomaly.p_value(oddities[row], null),
                allowed=allowed,
                vague=vague,
                least=min(gains) if isfinite(harm) else -MOST_TAKEN,
                gains=counted.gains,
            )
        )
    return seen


def _harm(adds: float, own_best: float, voters: Sequence[str]) -> float:
    """What losses are measured in: the usual best gain, as far as one may rely on it.

    New keys that add little would make harm of any loss. So until trusted peers say what is usual
    it is at least what this node's own training adds; where that is not known, no loss counts.
    """
    if len(voters) >= FOUNDERS and all(state == "trusted" for state in voters):
        return adds
    return max(adds, own_best) if own_best > 0 else inf


def _gains(features: Features, adds: float, harm: float, length: float) -> tuple[float, ...]:
    """What an update adds to each kind; one shorter than usual adds by as much less."""
    if adds <= 0:
        return (1.0,) * len(features.fresh)
    part = min(1.0, features.norm / length) if length > 0 else 1.0
    return tuple(
        part * max(-MOST_TAKEN, min(MOST_FRESH, one / (adds if one > 0 else harm)))
        for one in features.fresh
    )


def _counted(before: Standing, gains: Sequence[float]) -> Standing:
    """A peer's standing with what one more update adds to each kind."""
    keep = _keep(before)
    pairs = zip_longest(before.gains, gains, fillvalue=0.0)
    mean = tuple(keep * old + (1 - keep) * new for old, new in pairs)
    return msgspec.structs.replace(before, gains=mean, rounds=before.rounds + 1)


def _keep(before: Standing) -> float:
    return min(KEEP_USEFUL, before.rounds / (before.rounds + 1))  # a plain mean at first


def _voters(
    batch: Sequence[Measured], before: Sequence[Standing], lead: Sequence[int]
) -> list[int]:
    """Rows that say what is usual: trusted peers', or those of all in good standing."""
    sound = [
        row
        for row, one in enumerate(batch)
        if lead[row] == row and one.features.sound and not before[row].shut
    ]
    trusted = [row for row in sound if before[row].state == "trusted"]
    return (trusted if len(trusted) >= FOUNDERS else sound) or list(range(len(batch)))


def _after(one: _Seen, before: Standing, fault: Fault, shift: bool) -> Standing:
    """A peer's standing with this update counted; in a shift of the place nobody is moved down."""
    keep = _keep(before)
    good = 0.0 if fault or one.odd or one.against else _worth(best(one.gains)) / one.copies
    lost = max(0.0, -one.knowledge)
    bad = FAULT_COST if fault else lost + (ODD_COST if one.odd else 0.0)
    clean = not (one.flagged or fault or one.spare < 0)
    stake, counter, damage = before.stake, before.counter, before.damage
    if not fault and not shift:
        stake = direction.bet(stake, one.knowledge)
        counter = direction.bet(counter, one.alignment)
        damage = direction.bet(damage, direction.DAMAGE_SCALE * one.spare)
    bad = 0.0 if shift and not fault else bad
    after = msgspec.structs.replace(
        before,
        reputation=before.reputation.after(good, bad),
        stake=stake,
        counter=counter,
        damage=damage,
        gains=one.gains,
        agreement=keep * before.agreement + (1 - keep) * one.measured.features.agreement,
        rounds=before.rounds + 1,
        clean=before.clean + 1 / one.copies if clean else 0.0,
    )
    return move(after, fault)


def _worth(useful: float) -> float:
    return max(0.0, min(1.0, (useful - IDLE) / (USEFUL - IDLE)))


def _norm(seen: Sequence[_Seen], own: NodeId | None) -> float:
    """The usual norm: the median over trusted peers, or over all in good standing."""
    sound = [one for one in seen if not one.fault and not one.before.shut]
    trusted = [one for one in sound if one.before.state == "trusted" or one.measured.peer == own]
    counted = trusted if len(trusted) >= FOUNDERS else sound
    return LONG * median(one.measured.features.norm for one in counted) if counted else 0.0


def _scale(length: float, most: float) -> float:
    return min(1.0, most / length) if length > 0 else 1.0


def _verdicts(
    seen: Sequence[_Seen], peers: Mapping[NodeId, Standing], own: NodeId | None, norm: float
) -> list[Verdict]:
    scales = [_scale(one.measured.features.norm, norm) for one in seen]
    votes = [
        _vote(one, peers[one.measured.peer], own, scale)
        for one, scale in zip(seen, scales, strict=True)
    ]
    verdicts = []
    for one, weight, scale in zip(seen, shares(votes), scales, strict=True):
        standing = peers[one.measured.peer]
        dropped = bool(one.fault) or standing.shut
        verdicts.append(
            Verdict(
                peer=one.measured.peer,
                update=one.measured.update,
                decision="reject" if dropped else "accept" if weight > 0 else "hold",
                weight=weight,
                scale=scale,
                state=standing.state,
                reasons=_reasons(one, standing),
            )
        )
    return verdicts


def _vote(one: _Seen, standing: Standing, own: NodeId | None, scale: float) -> Vote:
    if one.measured.peer == own:
        return Vote(1.0 / one.sent, settled=True)
    may: Allowed = ALLOWED[standing.state]
    if one.fault or standing.worst >= direction.WATCHED:
        return Vote(0.0, settled=False)
    weight = may.weight * standing.reputation.mean / (one.copies * one.sent)
    weight *= _worth(standing.useful) * scale**LONG_COST
    weight *= ODD_WEIGHT if one.odd else 1.0
    weight *= AGAINST_WEIGHT if one.against else 1.0
    return Vote(weight, settled=standing.state == "trusted")


def _reasons(one: _Seen, standing: Standing) -> tuple[Reason, ...]:
    features = one.measured.features
    return (
        Reason("sound", float(features.sound and not one.fault), 1.0),
        Reason("stake", standing.stake, direction.GUILTY),
        Reason("counter", standing.counter, direction.GUILTY),
        Reason("damage", standing.damage, direction.GUILTY),
        Reason("knowledge", one.knowledge, 0.0),
        Reason("alignment", one.alignment, 0.0),
        Reason("spare", one.spare, 0.0),
        Reason("p", one.p, ODD),
        Reason("oddity", one.oddity, anomaly.CLIP),
        Reason("copies", float(one.copies), 1.0),
        Reason("useful", standing.useful, USEFUL),
        Reason("reputation", standing.reputation.mean, 0.4),
    )


def _next(book: Book, seen: Sequence[_Seen], peers: Mapping[NodeId, Standing]) -> Book:
    oddities = [one.oddity for one in seen if one.before.state == "trusted" and not one.fault]
    agreements = [
        peers[one.measured.peer].agreement
        for one in seen
        if one.before.state == "trusted" and not one.fault and one.copies == 1
    ]
    return Book(
        peers=peers,
        oddities=(book.oddities + tuple(oddities))[-anomaly.NULL :],
        agreements=(book.agreements + tuple(agreements))[-direction.POOL :],
        rounds=book.rounds + 1,
    )
