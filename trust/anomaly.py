"""How odd an update is among the others of its round: duplicates, robust distances, p-values.

Odd is not guilty: a low p-value takes weight away for the round and never quarantines. The
p-values are conformal: an honest update's is below p with probability p, whatever the features
are distributed like, as long as trusted peers' updates are exchangeable.
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import fsum, log, sqrt
from operator import mul
from statistics import median

from trust.features import Features

SAME = 0.9  # cosine of two residual sketches that are one update
DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
FLOOR = 0.05  # of the standard deviation, added: a median deviation can be 0
CLIP = 8.0  # deviations; past that, more says nothing
NULL = 400  # scores of trusted peers that are kept for comparison
ENOUGH = 40  # fewer scores give no p-value worth acting on
TINY = 1e-9


def clusters(sketches: Sequence[Sequence[float]]) -> list[int]:
    """For each update the lowest row of its duplicates: itself, if there are none.

    What all sketches have in common is taken off first, so that peers who merely learn the same
    thing stay apart. Single linkage: copies of a copy belong together.
    """
    if len(sketches) < 2:
        return list(range(len(sketches)))
    if len(set(map(len, sketches))) > 1:
        raise ValueError("sketches of different lengths")
    units = [_unit(sketch) for sketch in sketches]
    common = _unit([sum(column) for column in zip(*units, strict=True)])
    rests = [_unit(_without(unit, common)) for unit in units]
    lead = list(range(len(rests)))
    for row, rest in enumerate(rests):
        for other in range(row):
            if lead[other] != lead[row] and _dot(rest, rests[other]) > SAME:
                low, high = sorted((lead[other], lead[row]))
                lead = [low if one == high else one for one in lead]
    return lead


def oddities(batch: Sequence[Features], voters: Sequence[int]) -> list[float]:
    """How far each update is from the voters' middle, in deviations; 0 is the middle.

    voters  rows that define the middle: sound, in good standing, one a cluster of duplicates
    """
    columns = [
        [log(one.norm + TINY) for one in batch],
        [one.echo for one in batch],
        *(list(column) for column in _shares(batch)),
    ]
    distances = [_distances(column, voters) for column in columns]
    # Modules are many and one odd module is enough, so they count by the worst of them.
    grouped = [distances[0], distances[1]]
    if len(distances) > 2:
        grouped.append([max(row) for row in zip(*distances[2:], strict=True)])
    return [sqrt(sum(d * d for d in row) / len(row)) for row in zip(*grouped, strict=True)]


def p_value(score: float, null: Sequence[float]) -> float:
    """The share of null scores at least as large, counting this one; 1 with too few of them.

    null  sorted, rising
    """
    if len(null) < ENOUGH:
        return 1.0
    return (1 + len(null) - bisect_left(null, score)) / (1 + len(null))


def _shares(batch: Sequence[Features]) -> list[tuple[float, ...]]:
    if len({len(one.shares) for one in batch}) != 1:
        return []
    return list(zip(*([log(share + TINY) for share in one.shares] for one in batch), strict=True))


def _distances(column: Sequence[float], voters: Sequence[int]) -> list[float]:
    votes = [column[row] for row in voters]
    middle = median(votes)
    spread = (
        DEVIATION * median(abs(vote - middle) for vote in votes) + FLOOR * _spread(votes) + 1e-6
    )
    return [min(CLIP, abs(value - middle) / spread) for value in column]


def _spread(votes: Sequence[float]) -> float:
    """Standard deviation; that of `statistics` goes by fractions and takes longer than all else."""
    mean = fsum(votes) / len(votes)
    return sqrt(fsum((vote - mean) ** 2 for vote in votes) / len(votes))


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    product: float = sum(map(mul, a, b))
    return product


def _unit(vector: Sequence[float]) -> list[float]:
    length = sqrt(_dot(vector, vector)) + 1e-12
    return [value / length for value in vector]


def _without(vector: Sequence[float], unit: Sequence[float]) -> list[float]:
    along = _dot(vector, unit)
    return [value - along * part for value, part in zip(vector, unit, strict=True)]
