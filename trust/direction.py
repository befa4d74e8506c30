"""Is a peer working against the place? Three bets against it, round by round.

One stake is on "its agreement is below what honest peers have", one on "it goes against what this
node's own training does", one on "it does harm to one kind, round after round". A stake grows by
bets won, shrinks by bets lost, and never falls below 1, so that a good past buys nothing. If a peer
is on average where an honest one may be at worst, the expected time until a stake reaches X is at
least X rounds, however the rounds depend on each other (an e-detector of the CUSUM kind: Shin,
Ramdas and Rinaldo 2023); with any margin that time grows exponentially.
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
UNKNOWN = 0.2  # allowance, after scaling, where neither honest peers nor own training say more
MOST, LEAST = 1.0, -0.4  # allowance, after scaling
SHARE = 0.25  # of what trusted peers have at worst, if above 0, is asked of everybody
FAINT, PLAIN = 2.0, 3.2  # agreement of own training, after scaling: says little; says enough
DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
HELP = 2.0  # of a positive alignment, counted towards agreement where that is vague
ALIGNMENT_SCALE = 4.0  # a cosine of shifts is small: noise of the probe is in both
ALIGNMENT_ALLOWANCE = 1.8  # after scaling; a probe is small, and a peer may know what it lacks
DAMAGE_SCALE = 2.0
WORST = 2.0  # usual best gains: no honest peer takes as much from one kind on average
POOL = 400  # mean agreements that are kept
ENOUGH = 20


def allowance(pool: Sequence[float], reference: float) -> float:
    """How far below 0 an agreement may lie at this place before it counts against a peer.

    Less than 0 where honest peers are well above it: then too little counts against one as well.

    pool       running mean agreements of trusted peers, in any order: a bet is about a peer's mean,
               and single rounds are several times as noisy
    reference  agreement of this node's own training in this round: where true labels lower it,
               as while a base learns what it never saw, nobody is blamed for as much; where
               they plainly raise it, less is allowed
    """
    plain = UNKNOWN - (UNKNOWN - LEAST) * (1 - vague(reference))
    own = max(plain, -AGREEMENT_SCALE * reference)
    if len(pool) < ENOUGH:
        return max(LEAST, min(MOST, own))
    # By median deviations, not by a quantile: a few liars that got in must not move it.
    middle = median(pool)
    spread = DEVIATION * median(abs(one - middle) for one in pool)
    low = AGREEMENT_SCALE * (middle - DEVIATIONS * spread)
    usual = UNKNOWN - SHARE * low if low > 0 else max(UNKNOWN, -low)
    return max(LEAST, min(MOST, max(usual, own)))


def vague(reference: float) -> float:
    """How much has to be said beside agreement: 1 where true labels hardly raise it, 0 where much.

    reference  agreement of this node's own training in this round
    """
    return max(0.0, min(1.0, (PLAIN - AGREEMENT_SCALE * reference) / (PLAIN - FAINT)))


def bet(stake: float, outcome: float) -> float:
    """The logarithm of a stake after one round; 0 or more.

    outcome  0 where an honest peer may be at worst; above it the bet is lost, below it won
    """
    return max(0.0, stake + log(1 - max(-BET, min(RELIEF, outcome))))
