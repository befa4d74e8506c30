"""A merge is tried on this node's own text before it is applied: is it worse than what there was?

What peers send can look honest by every number of its own and still do harm together. So a merge is
held against the best that the place has had, on the same examples. Where it is worse, those without
whom it would be better lose weight, by half and half again. Nobody is blamed for it: honest peers
with unusual data pull uphill as well.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import fmean, stdev

from trust.judge import harmless

NOISE = 1.0  # standard errors that a merge may lie above the best; 0.5 costs LoRA a point
FACTORS = (0.5, 0.25, 0.125, 0.0)  # of the weight of those who pull uphill
PASSES = 3  # others may pull uphill once the first have less weight

Weights = Sequence[float]
Losses = Sequence[float]  # of each example of the probe, nats


def tried(
    weights: Weights,
    best: Losses,
    now: Losses,
    losses: Callable[[Sequence[Weights]], Sequence[Losses]],
) -> list[float]:
    """The weights to merge by: those given, less for who makes the merge worse, or none.

    weights  of the updates, 0 to 1; what is returned sums to as much, or is all 0
    best     of the best model that the place has had
    now      of the model before this merge
    losses   of the models after merges by these weights
    """
    found = list(weights)
    after = losses([found])[0]
    for _ in range(PASSES):
        if not worse(best, after):
            return found
        without = losses([_less(found, {row}, 0.0) for row in range(len(found))])
        uphill = {row for row, one in enumerate(without) if fmean(one) < fmean(after)}
        options = [_whole(_less(found, uphill, factor), sum(weights)) for factor in FACTORS]
        results = losses(options)
        least = min(range(len(options)), key=lambda row: fmean(results[row]))
        if fmean(results[least]) >= fmean(after):
            break
        found, after = options[least], results[least]
    fine = not worse(best, after) or fmean(after) < fmean(now)
    return found if fine else [0.0] * len(found)


def worse(best: Losses, after: Losses) -> bool:
    """Whether a model is worse than the best, beyond noise or by more than is ever kept."""
    if not harmless(fmean(best), fmean(after)):
        return True
    gaps = [one - other for one, other in zip(after, best, strict=True)]
    return fmean(gaps) > (NOISE * stdev(gaps) / sqrt(len(gaps)) if len(gaps) > 1 else 0.0)


def _less(weights: Weights, rows: set[int], factor: float) -> list[float]:
    return [one * (factor if row in rows else 1.0) for row, one in enumerate(weights)]


def _whole(weights: Weights, total: float) -> list[float]:
    """The same parts of as much weight as there was; all 0 where none is left."""
    left = sum(weights)
    return [one * total / left for one in weights] if left > 0 else list(weights)
