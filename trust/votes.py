"""Weights of a merge: newcomers together stay small, however many they are."""

from collections.abc import Sequence
from math import fsum

import msgspec

FOUNDERS = 3  # trusted peers from which on newcomers are held small
NEWCOMERS = 0.1  # of the weight, for all that are not trusted together
ONE_NEWCOMER = 0.3  # of a trusted vote at most; all together weigh at most twice that


class Vote(msgspec.Struct, frozen=True):
    """How much one update would count, before shares are made of it."""

    weight: float  # 0 to 1
    settled: bool  # of a trusted peer


def shares(votes: Sequence[Vote]) -> list[float]:
    """Each vote's part of the merge; they sum to 1, or are all 0 if no vote has weight.

    With FOUNDERS trusted votes or more, all other votes together get at most NEWCOMERS of the
    weight and at most twice what a newcomer alone would have: a thousand new keys are worth two.
    """
    settled = fsum(vote.weight for vote in votes if vote.settled)
    others = fsum(vote.weight for vote in votes if not vote.settled)
    founded = sum(vote.settled and vote.weight > 0 for vote in votes) >= FOUNDERS
    factor = 1.0
    if founded and others > 0:
        most = min(NEWCOMERS * settled / (1 - NEWCOMERS), 2 * ONE_NEWCOMER)
        factor = min(1.0, most / others)
    total = settled + factor * others
    if total <= 0:
        return [0.0] * len(votes)
    return [vote.weight * (1.0 if vote.settled else factor) / total for vote in votes]
