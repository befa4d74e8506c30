"""What is known about one update as plain numbers: what a measuring job hands to the judge.

All are functions of the change of the weights alone, never of its factors, so that rewriting
B A as (B G)(G^-1 A) changes nothing. How each is measured: docs/specs/evidence.md, section 2.
"""

from collections.abc import Sequence
from math import sqrt
from operator import mul, sub
from typing import Annotated

import msgspec

from p2pllm.ids import ContentIdField, NodeIdField

SKETCH = 64  # numbers; independent updates then differ by 0.9 in cosine but for one pair in 10^12
MAX_MODULES = 1024
MAX_KINDS = 64
LARGEST = 1e12  # length or gain that features can tell

Signed = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Size = Annotated[float, msgspec.Meta(ge=0, le=LARGEST)]
Gain = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """One update, measured by this node on its own probe of the update's place."""

    sound: bool  # finite numbers, promised shapes, the right base, its sketch true
    norm: Size  # Frobenius, of the whole change
    shares: Annotated[tuple[Size, ...], msgspec.Meta(max_length=MAX_MODULES)]  # of norm, a module
    echo: Signed  # cosine to what the place accepted last
    agreement: Signed  # `agreement` of the whole update
    alignment: Signed  # `alignment` with this node's own training
    # `gains` of what is left of it without its part along the last accepted, per unit of its norm
    fresh: Annotated[tuple[Gain, ...], msgspec.Meta(min_length=1, max_length=MAX_KINDS)]
    sketch: Annotated[tuple[Signed, ...], msgspec.Meta(min_length=1, max_length=SKETCH)]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """An update, who signed it, and its features."""

    peer: NodeIdField
    update: ContentIdField
    features: Features


def agreement(shift: Sequence[Sequence[float]]) -> float:
    """How far an update helps to tell the probe's kinds apart, -1 (undoes it) to 1.

    shift[c][k]  change of the centred score of outcome k on probe examples of kind c, for a
                 small step along the update; outcome c is right for kind c

    The change that all kinds share is taken off first: it is a shift of what is common, which
    every honest peer with uneven data causes and which cancels between peers. What is left on the
    diagonal is knowledge. Training on true labels raises it whatever the peer's data; wrong
    labels, reversed and scaled updates lower it. It is the cosine of that and of all kinds told
    apart equally well.
    """
    parts, kinds = _own_parts(shift), len(shift)
    square = _inner(parts, parts)
    trace = sum(parts[:: kinds + 1])
    return max(-1.0, min(1.0, trace / sqrt(square * (kinds - 1)))) if square > 0 else 0.0


def alignment(shift: Sequence[Sequence[float]], own: Sequence[Sequence[float]]) -> float:
    """Cosine of an update's shift and that of this node's own training on its probe, -1 to 1.

    As in `agreement`, what all kinds share is taken off both.
    """
    one, other = _own_parts(shift), _own_parts(own)
    both = _inner(one, one) * _inner(other, other)
    return max(-1.0, min(1.0, _inner(one, other) / sqrt(both))) if both > 0 else 0.0


def gains(shift: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """What an update adds to each kind, in the unit of the shift; less than 0 where it takes away.

    Peers know different things, so each is judged by the kind that it helps most, on average over
    its rounds: what noise helps is another kind each time.
    """
    return tuple(_own_parts(shift)[:: len(shift) + 1])


def best(gains: Sequence[float]) -> float:
    """What is added to the kind that is helped most, 0 or more."""
    return max([0.0, *gains])


def _own_parts(shift: Sequence[Sequence[float]]) -> list[float]:
    """The shift without what all kinds share, row after row."""
    means = [sum(column) / len(shift) for column in zip(*shift, strict=True)]
    return [value for row in shift for value in map(sub, row, means)]


def _inner(one: Sequence[float], other: Sequence[float]) -> float:
    product: float = sum(map(mul, one, other))
    return product
