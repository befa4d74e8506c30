"""What others say about a peer: heard, weighed by my own trust, and bounded.

Witnesses move a score by at most a cap, whatever their number, and never a state: slander cannot
quarantine. A witness counts by a walk over trust that starts from me (EigenTrust, personalised:
Kamvar et al. 2003), so keys that no one I trust trusts count nothing. The opinions are joined in
their weighted median with my own, so nobody pushes a score beyond the middle of those I trust.
"""

from collections.abc import Mapping, Sequence
from math import fsum

import msgspec

from p2pllm.ids import NodeId

START = 0.2  # of the walk's weight returns to me at each step
HOPS = 3
KNOWN = 5  # own observations from which on I know a peer
CAP_KNOWN = 0.05  # how far witnesses move the score of a peer I know
CAP_UNKNOWN = 0.25  # … and of one I never saw
MY_WEIGHT = 0.5  # of all voices, mine, once I know the peer; it grows up to that


class Report(msgspec.Struct, frozen=True):
    """One witness's opinion of one peer at one place, from a record whose signature held."""

    witness: NodeId
    subject: NodeId
    score: float  # 0 to 1


def witness_weights(
    direct: Mapping[NodeId, float], reports: Sequence[Report]
) -> dict[NodeId, float]:
    """How much each node's word counts with me, 0 to 1; together at most 1.

    direct   my own score times testimony factor of each peer, 0 where it may not testify
    reports  opinions of peers about each other as witnesses
    """
    mine = _normal({node: score for node, score in direct.items() if score > 0})
    rows: dict[NodeId, dict[NodeId, float]] = {}
    for report in sorted(reports, key=lambda one: (one.witness, one.subject, one.score)):
        if report.witness != report.subject and report.score > 0.5:
            rows.setdefault(report.witness, {})[report.subject] = report.score - 0.5
    rows = {witness: _normal(row) for witness, row in rows.items()}
    weights = dict(mine)
    for _ in range(HOPS):
        step: dict[NodeId, float] = {node: START * weight for node, weight in mine.items()}
        for witness, weight in sorted(weights.items()):
            for subject, share in rows.get(witness, mine).items():
                # Whom I judged myself, I do not judge through others.
                known = subject in direct and direct[subject] <= 0
                step[subject] = step.get(subject, 0.0) + (1 - START) * weight * share * (not known)
        weights = step
    return weights


def witnessed(
    own: float, observed: int, reports: Sequence[Report], weights: Mapping[NodeId, float]
) -> float:
    """My score of a peer after hearing witnesses: within the cap of my own, 0 to 1.

    own       my own score, from my own evidence alone
    observed  on how many observations of mine it stands
    """
    voices = {
        one.witness: (min(1.0, max(0.0, one.score)), weights.get(one.witness, 0.0))
        for one in sorted(reports, key=lambda one: (one.witness, one.score))
        if one.witness != one.subject and weights.get(one.witness, 0.0) > 0
    }
    total = fsum(weight for _, weight in voices.values())
    if total <= 0:
        return own
    known = min(1.0, observed / KNOWN)
    share = MY_WEIGHT * known
    mine = total * share / (1 - share)
    middle = _weighted_median([*voices.values(), (own, mine)])
    limit = cap(observed)
    return own + max(-limit, min(limit, middle - own))


def cap(observed: int) -> float:
    """How far witnesses together may move a score that stands on so many own observations."""
    known = min(1.0, observed / KNOWN)
    return CAP_UNKNOWN + (CAP_KNOWN - CAP_UNKNOWN) * known


def _normal(row: Mapping[NodeId, float]) -> dict[NodeId, float]:
    total = fsum(row.values())
    return {node: value / total for node, value in sorted(row.items())} if total > 0 else {}


def _weighted_median(voices: Sequence[tuple[float, float]]) -> float:
    half, below = fsum(weight for _, weight in voices) / 2, 0.0
    for score, weight in sorted(voices):
        below += weight
        if below >= half:
            return score
    return max(score for score, _ in voices)
