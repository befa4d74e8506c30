"""How sure a mean is: one-sided Student-t bounds on paired differences, each peer's voice bounded.

Differences are of documents, not of rows of tokens: rows of one document move together (correlation
0.35 between neighbours, measured), and counting them apart makes every bound too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean

import msgspec


class Estimate(msgspec.Struct, frozen=True):
    """A mean and how far off it may be."""

    mean: float
    error: float  # standard error of the mean
    count: int  # examples

    def low(self, alpha: float) -> float:
        """The bound that the true mean is under with probability `alpha` at most."""
        return self.mean - quantile(1 - alpha, self.count - 1) * self.error

    def high(self, alpha: float) -> float:
        """The bound that the true mean is over with probability `alpha` at most."""
        return self.mean + quantile(1 - alpha, self.count - 1) * self.error


def estimate(differences: Sequence[float]) -> Estimate:
    """The mean of independent differences; of fewer than two, or of odd ones, nothing is known."""
    count = len(differences)
    if count < 2 or not all(math.isfinite(each) for each in differences):
        return Estimate(0.0, math.inf, 2)
    mean = fmean(differences)
    spread = sum((each - mean) ** 2 for each in differences) / (count - 1)
    return Estimate(mean, math.sqrt(spread / count), count)


def pool(by_peer: Mapping[str, Sequence[float]], least: float) -> Estimate:
    """The mean over peers of what each one's text says, no peer heard beyond twice the middle one.

    least   a peer's mean may lie this far from the middle one in any case, nats per token

    Every peer counts alike, however much text it sent. The middle of an even number is the lower
    one, so of two peers the less pleased decides.
    """
    parts = [estimate(by_peer[peer]) for peer in sorted(by_peer)]
    if not parts:
        return Estimate(0.0, math.inf, 2)
    middle = sorted(part.mean for part in parts)[(len(parts) - 1) // 2]
    reach = max(abs(middle), least)
    kept = [min(max(part.mean, middle - reach), middle + reach) for part in parts]
    error = math.sqrt(sum(part.error**2 for part in parts)) / len(parts)
    return Estimate(fmean(kept), error, sum(part.count for part in parts))


def quantile(p: float, freedom: int) -> float:
    """Student's t quantile to 1 % from 8 degrees of freedom on (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(p)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    n = max(1, freedom)
    return z + g1 / n + g2 / n**2 + g3 / n**3


def needed(found: Estimate, limit: float, alpha: float) -> int:
    """About how many examples would tell this mean from a limit; 0 if it lies on it."""
    gap = abs(found.mean - limit)
    if gap == 0 or not math.isfinite(found.error):
        return 0
    deviation = found.error * math.sqrt(found.count)
    return math.ceil((NormalDist().inv_cdf(1 - alpha) * deviation / gap) ** 2)
