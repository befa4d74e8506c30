"""Is a peer working against the place? Two bets against it, round by round.

One stake is on "its agreement is below what honest peers have", the other on "it goes against
what this node's own training does". A stake grows by bets won, shrinks by bets lost, and never
falls below 1, so that a good past buys nothing. If a peer is on average where an honest one may
be at worst, the expected time until a stake reaches X is at least X rounds, however the rounds
depend on each other (an e-detector of the CUSUM kind: Shin, Ramdas and Rinaldo 2023); with any
margin that time grows exponentially.
"""

from collections.abc import Sequence
from math import log
from statistics import median

GUILTY = log(20)  # the stake at which a peer counts as harmful
WATCHED = log(3)  # the stake at which its updates lose their weight
BET = 0.95  # of the stake at full disagreement; 1 would lose all on one round
RELIEF = 0.4  # of a stake, lost by one good round: every other round good must not pay
DEVIATIONS = 2.5  # below the middle of trusted peers: 1 in 160 of a normal distribution
AGREEMENT_SCALE = 6.0  # a cosine of shifts is small: noise of the probe is in it
UNKNOWN = 0.2  # allowance, after scaling, where honest peers are not known yet; never less
MOST = 1.0  # allowance, after scaling; the least is UNKNOWN
DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
HELP = 2.0  # of a positive alignment, counted towards agreement
ALIGNMENT_SCALE = 4.0  # a cosine of shifts is small: noise of the probe is in both
ALIGNMENT_ALLOWANCE = 1.8  # after scaling; a probe is small, and a peer may know what it lacks
POOL = 400  # mean agreements that are kept
ENOUGH = 20


def allowance(pool: Sequence[float], reference: float) -> float:
    """How far below 0 an agreement may lie at this place before it counts against a peer.

    pool       running mean agreements of trusted peers, in any order: a bet is about a peer's mean,
               and single rounds are several times as noisy
    reference  agreement of this node's own training in this round: where true labels lower it,
               as while a base learns what it never saw, nobody is blamed for as much
    """
    low = 0.0
    if len(pool) >= ENOUGH:
        # By median deviations, not by a quantile: a few liars that got in must not move it.
        middle = median(pool)
        spread = DEVIATION * median(abs(one - middle) for one in pool)
        low = AGREEMENT_SCALE * (middle - DEVIATIONS * spread)
    return max(UNKNOWN, min(MOST, max(-low, -AGREEMENT_SCALE * reference)))


def bet(stake: float, outcome: float) -> float:
    """The logarithm of a stake after one round; 0 or more.

    outcome  0 where an honest peer may be at worst; above it the bet is lost, below it won
    """
    return max(0.0, stake + log(1 - max(-BET, min(RELIEF, outcome))))
