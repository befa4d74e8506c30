"""How good a peer's word is at one place: counts of good and bad, forgotten at different speeds.

Beta reputation (Josang and Ismail 2002) with asymmetric forgetting: bad is remembered about five
times as long as good, so that being good half of the time does not pay.
"""

from math import sqrt

import msgspec

KEEP_GOOD = 0.9  # a round
KEEP_BAD = 0.98
LOW = 1.645  # deviations: the 5 % quantile of a normal distribution


class Reputation(msgspec.Struct, frozen=True):
    """Evidence about one peer at one place; both counts are 0 or more."""

    good: float = 0.0
    bad: float = 0.0

    @property
    def mean(self) -> float:
        """Expected share of good, 0 to 1; 0.5 with no evidence."""
        return (self.good + 1) / (self.good + self.bad + 2)

    @property
    def lower(self) -> float:
        """What the share of good is above in 19 of 20 cases, 0 to 1 (normal approximation)."""
        total = self.good + self.bad + 2
        deviation = sqrt(self.mean * (1 - self.mean) / (total + 1))
        return max(0.0, self.mean - LOW * deviation)

    def after(self, good: float, bad: float) -> "Reputation":
        """With one more round's evidence, each part 0 or more."""
        return Reputation(KEEP_GOOD * self.good + good, KEEP_BAD * self.bad + bad)
