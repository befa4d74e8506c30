"""What candidates are worth at a task: advertised scores, weighed by how far signers are trusted.

A claim counts by the square of its signer's trust and by how near it was measured to what is
wanted. Where claims are few, a candidate is taken for what its size gives. docs/specs/recommend.md.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from p2pllm.names import Place

EXPECTED = (0.0, 1.0, 0.05, 0.03)  # of a constant, size, domain and sub-domain, untaught
HOLD = 6.0  # how many full scores EXPECTED counts for
PRIOR = 0.06  # how many fully trusted, exactly fitting scores the size of a model counts for
FLOOR = 0.2  # a signer trusted no further has no say
OTHER_LANG, OTHER_DOMAIN, NO_DOMAIN, OTHER_SUB = 0.3, 0.2, 0.5, 0.7
OTHER_TASK, NO_TASK = 0.5, 0.7
CAUTION = 0.02  # taken off for a candidate of which nothing is known but its size
GAIN_BOUND = 2.0  # nats a token; no adapter is believed to give more

Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody measured a model to be worth, 0 to 1, at a task in a place: a claim."""

    value: Unit
    by: str  # who signed it
    place: Place
    task: str = ""


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """The value to choose by, and what it rests on."""

    value: float
    expected: float  # what its size and its place alone would give
    weight: float  # of trusted scores; 1 is one exact score of a signer trusted without doubt
    signers: int  # who had a say
    ignored: int  # scores of signers who had none

    @property
    def reason(self) -> str:
        """In words."""
        size = f"its size and place alone would give {self.expected:.2f}"
        if self.signers:
            people = "1 trusted signer" if self.signers == 1 else f"{self.signers} trusted signers"
            return f"worth {self.value:.2f} by {people}; {size}"
        left = f" ({self.ignored} signers are not trusted)" if self.ignored else ""
        return f"no trusted scores{left}; {size}"


def size_worth(params: int) -> float:
    """What a model of so many parameters is worth where nothing else is known: 0 to 1."""
    return max(0.0, 1.0 - 0.9 * math.pow(max(params, 1) / 1e6, -0.15))


def gain_worth(params: int, gain: float) -> float:
    """A claimed gain (nats a token over the base) as a worth: it takes away its share of error."""
    bounded = max(-GAIN_BOUND, min(GAIN_BOUND, gain))
    return max(0.0, min(1.0, 1.0 - (1.0 - size_worth(params)) * math.exp(-bounded)))


def worth(
    candidates: Sequence[tuple[int, Place, Sequence[Score]]],
    place: Place,
    task: str,
    trust: Callable[[str], float],
) -> list[Worth]:
    """The worth of each (parameters, place, scores), in order.

    What all trusted scores say of size and of being made for a place sets what is expected of a
    model; its own scores then move it from there.
    """
    heard = [_said(scores, place, task, trust) for _, _, scores in candidates]
    law = _law(candidates, heard)
    found = []
    for (params, home, scores), said in zip(candidates, heard, strict=True):
        expected = _dot(law, _traits(params, home, place))
        total = math.fsum(weight for weight, _ in said)
        moved = math.fsum(
            weight * (score.value - _dot(law, _traits(params, home, score.place)))
            for weight, score in said
        )
        value = expected + moved / (PRIOR + total)
        found.append(
            Worth(
                value=value - CAUTION * PRIOR / (PRIOR + total),
                expected=expected,
                weight=total,
                signers=len(said),
                ignored=len({score.by for score in scores}) - len(said),
            )
        )
    return found


def nearness(score: Score, place: Place, task: str) -> float:
    """How much a score taken there says of what is wanted here, 0 to 1."""
    near = 1.0 if score.place.lang == place.lang else OTHER_LANG
    if score.place.domain != place.domain:
        near *= OTHER_DOMAIN if score.place.domain and place.domain else NO_DOMAIN
    elif score.place.sub != place.sub:
        near *= OTHER_SUB
    if score.task != task:
        near *= OTHER_TASK if score.task and task else NO_TASK
    return near**2


def _said(
    scores: Sequence[Score], place: Place, task: str, trust: Callable[[str], float]
) -> list[tuple[float, Score]]:
    """Each signer's score that is most to the point, with its weight; none that has no say."""
    said: dict[str, tuple[float, Score]] = {}
    for score in scores:
        believed = max(0.0, (trust(score.by) - FLOOR) / (1 - FLOOR)) ** 2
        weight = believed * nearness(score, place, task)
        if weight > (said[score.by][0] if score.by in said else 0.0):
            said[score.by] = (weight, score)
    return list(said.values())


def _traits(params: int, home: Place, place: Place) -> tuple[float, ...]:
    """What of a model is looked at: a constant, its size, whether it was made for the place."""
    domain = bool(home.domain) and home.domain == place.domain
    return (
        1.0,
        size_worth(params),
        float(domain),
        float(domain and bool(home.sub) and home.sub == place.sub),
    )


def _law(
    candidates: Sequence[tuple[int, Place, Sequence[Score]]],
    heard: Sequence[Sequence[tuple[float, Score]]],
) -> tuple[float, ...]:
    """How traits and scores hang together: weighted least squares, held near EXPECTED."""
    square = [[HOLD * (row == column) for column in range(4)] for row in range(4)]
    along = [HOLD * value for value in EXPECTED]
    for (params, home, _), said in zip(candidates, heard, strict=True):
        for weight, score in said:
            traits = _traits(params, home, score.place)
            for row in range(4):
                along[row] += weight * traits[row] * score.value
                for column in range(4):
                    square[row][column] += weight * traits[row] * traits[column]
    return _solve(square, along)


def _solve(square: list[list[float]], along: list[float]) -> tuple[float, ...]:
    """x of A x = b for a positive definite A, by elimination."""
    size = len(along)
    rows = [[*square[at], along[at]] for at in range(size)]
    for at in range(size):
        for below in range(at + 1, size):
            share = rows[below][at] / rows[at][at]
            rows[below] = [b - share * a for a, b in zip(rows[at], rows[below], strict=True)]
    found = [0.0] * size
    for at in reversed(range(size)):
        known = math.fsum(rows[at][k] * found[k] for k in range(at + 1, size))
        found[at] = (rows[at][size] - known) / rows[at][at]
    return tuple(found)


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))
