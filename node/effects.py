"""What a verdict or a state does on this node: scores, ranks, relay, fetch, weights. Pure.

The table of states is `trust.standing.ALLOWED`; here it becomes the numbers and choices that the
parts of a node act on.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

import msgspec
from blake3 import blake3

from node.books import Taken
from p2pllm.heads import MAX_ACCEPTED, Accepted, canonical
from p2pllm.ids import ContentId, NodeId
from p2pllm.summary import UpdateSummary
from trust.judge import ODD_WEIGHT, Book, Verdict
from trust.ledger import Unfit
from trust.lineage import Parents, descendants
from trust.standing import ALLOWED, Standing, State
from trust.votes import Vote, shares

# What GossipSub is told of a peer, between -100 and 10; its thresholds are in gossip.standing. A
# quarantined peer is out of the mesh and is told nothing, but still heard, or it could never come
# back; a banned one is not heard at all.
SCORES: Mapping[State, float] = {
    "trusted": 5.0,
    "probation": 0.0,
    "suspect": -5.0,
    "quarantined": -25.0,
    "banned": -100.0,
}
BELOW = ("knowledge", "alignment")  # numbers below whose limit nothing is served
NOISE = 2.0  # standard errors by which an update may raise the loss of the place's own text
# Of the battery's surest chain of tokens (docs/specs/summary.md), nats: of 172 honest adapters, on
# two bases, one was above; what was measured of backdoors is in docs/trust.md.
PAYLOAD = 1.25
PAYLOAD_TIMES = 3.0  # of this node's own training
# What a keeper's numbers count for beside this node's own text, which counts 1; all together count
# no more than that, so that nobody carries an update against it, nor many keys of one person.
WORDS: Mapping[State, float] = {"trusted": 1.0, "probation": 0.5, "suspect": 0.25}
LEFT_OUT = 4  # the rank of a banned peer: its records are passed over


def score(standings: Iterable[Standing]) -> float:
    """What GossipSub is told of a peer: by its worst state at any place; 0 if it is unknown."""
    return min((SCORES[one.state] for one in standings), default=0.0)


def relays(standing: Standing) -> bool:
    """Whether an announcement signed by this peer is passed on to others."""
    return ALLOWED[standing.state].relay != "none"


def order(standing: Standing, heard: float) -> tuple[int, float]:
    """Where a peer comes among providers and results, lower first.

    heard  its score after hearing witnesses: it orders peers of one state and moves no state
    """
    return ALLOWED[standing.state].rank, -heard


def fetches(standing: Standing, me: NodeId, update: ContentId, audit: int) -> bool:
    """Whether this node fetches an update to judge it.

    audit  one node in so many looks at what a quarantined peer sends, each update another one
    """
    how = ALLOWED[standing.state].fetch
    if how == "audit":
        draw = blake3(f"p2pllm audit\0{me}\0{update}".encode()).digest(length=8)
        return int.from_bytes(draw) % audit == 0
    return how != "never"


def words(states: Mapping[NodeId, State]) -> dict[NodeId, float]:
    """What each keeper's word counts for, by its state; 0 is left out."""
    plain = {peer: WORDS[state] for peer, state in states.items() if state in WORDS}
    total = fsum(plain.values())
    return {peer: word / max(1.0, total) for peer, word in plain.items()}


def unfit(
    verdict: Verdict, summary: UpdateSummary, own: UpdateSummary | None = None
) -> Unfit | None:
    """Why an update that was judged well is not taken all the same: None if nothing speaks against.

    own  of this node's own training in that round: what the battery finds in an honest update

    Odd is not guilty, and such an update costs its peer nothing: but a place serves what helps
    there, so what raises the loss of this node's own text of the place by more than noise, lies
    below what honest peers may be at worst, or recites a text that was never asked for, alone or
    on top of what is served, stays out.
    """
    for reason in verdict.reasons:
        if reason.code in BELOW and reason.value < reason.limit:
            return Unfit(verdict.update, reason.code, reason.value, reason.limit)
    here = summary.alone.influences[0]
    harm, limit = here.after - here.before, NOISE * here.error
    if harm > limit:
        return Unfit(verdict.update, "harm", harm, limit)
    recited, limit = _recited(summary), PAYLOAD
    if own is not None:
        limit = max(limit, PAYLOAD_TIMES * _recited(own))
    if recited > limit:
        return Unfit(verdict.update, "payload", recited, limit)
    return None


def _recited(summary: UpdateSummary) -> float:
    parts = [summary.alone, *([summary.merged] if summary.merged else [])]
    return max(part.battery.chain_score for part in parts)


def weighed(taken: Sequence[Taken], book: Book) -> tuple[Accepted, ...]:
    """The set a place serves: shares by what each peer is worth now; they sum to at most 1.

    A peer's part is divided among its updates. What weighs nothing is left out.
    """
    newest = sorted(taken, key=lambda one: (-one.number, one.update))[:MAX_ACCEPTED]
    votes = [_vote(one, book, newest) for one in newest]
    weights = shares(votes)
    return canonical(
        Accepted(one.update, min(1.0, weight * one.scale))
        for one, weight in zip(newest, weights, strict=True)
        if weight * one.scale > 0
    )


def _vote(one: Taken, book: Book, taken: Sequence[Taken]) -> Vote:
    standing = book.peers.get(one.peer, Standing())
    sent = sum(other.peer == one.peer for other in taken)
    weight = ALLOWED[standing.state].weight * standing.reputation.mean / sent
    return Vote(weight * (ODD_WEIGHT if one.odd else 1.0), settled=standing.state == "trusted")


def revoked(taken: Iterable[Taken], book: Book, parents: Parents) -> tuple[ContentId, ...]:
    """Updates that are served and may not be: of peers that are shut out, and what grew on them."""
    held = {one.update: one.peer for one in taken}
    shut = [update for update, peer in held.items() if _shut(book, peer)]
    return tuple(sorted(descendants(shut, parents) & held.keys()))


def _shut(book: Book, peer: NodeId) -> bool:
    return book.peers.get(peer, Standing()).shut


class Change(msgspec.Struct, frozen=True):
    """How near two sets are: what moved by more than a hundredth of all weight."""

    added: tuple[ContentId, ...]
    gone: tuple[ContentId, ...]
    moved: float


def difference(old: Sequence[Accepted], new: Sequence[Accepted]) -> Change:
    """What a change of the served set would change."""
    before = {one.manifest: one.weight for one in old}
    after = {one.manifest: one.weight for one in new}
    return Change(
        added=tuple(sorted(after.keys() - before.keys())),
        gone=tuple(sorted(before.keys() - after.keys())),
        moved=fsum(abs(after[key] - before[key]) for key in after.keys() & before.keys()),
    )
