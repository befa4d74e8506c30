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


def pool(
    parts: Mapping[str, Estimate], least: float, weights: Mapping[str, float] | None = None
) -> Estimate:
    """The mean over peers of what each one's text says, no peer heard beyond twice the middle one.

    least     a peer's mean may lie this far from the middle one in any case, nats per token
    weights   of each peer's word, over 0; all count alike if there are none

    However much text a peer sent, its word is one. The middle of an even number is the lower one,
    so of two peers the less pleased decides.
    """
    if not parts:
        return Estimate(0.0, math.inf, 2)
    word = {name: (weights or {}).get(name, 1.0) for name in sorted(parts)}
    total = math.fsum(word.values())
    middle, below = 0.0, 0.0
    for name in sorted(parts, key=lambda name: (parts[name].mean, name)):
        middle, below = parts[name].mean, below + word[name]
        if 2 * below >= total:
            break
    reach = max(abs(middle), least)
    kept = {name: min(max(parts[name].mean, middle - reach), middle + reach) for name in word}
    mean = math.fsum(word[name] * kept[name] for name in word) / total
    error = math.sqrt(math.fsum((word[name] * parts[name].error) ** 2 for name in word)) / total
    return Estimate(mean, error, sum(part.count for part in parts.values()))


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
