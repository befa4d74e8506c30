"""From what a measuring job found to the features that the judge decides on."""

from collections.abc import Sequence
from math import sqrt

import msgspec

from p2pllm.summary import BUCKETS, STEPS, UpdateSummary
from trust.features import SKETCH, Features, agreement, alignment, gains

Shift = Sequence[Sequence[float]]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What this node compares updates of one round with."""

    own: UpdateSummary  # its own training on its probe
    last: UpdateSummary | None  # what the place accepted last; None: nothing yet


def features_of(summary: UpdateSummary, reference: Reference) -> Features:
    """The features of one update, measured on the same probe as the reference."""
    norm = summary.geometry.norm
    echo = summary.relation.cosine if summary.relation else 0.0
    forms = [byte - 256 if byte > STEPS else byte for byte in summary.sketch[:SKETCH]]
    length = sqrt(sum(form * form for form in forms)) or 1.0
    # A row without examples is all 0: that kind does not occur in the probe, and says nothing.
    kinds = [kind for kind, row in enumerate(reference.own.shift) if any(row)]
    shift, own = _of(summary.shift, kinds), _of(reference.own.shift, kinds)
    added = dict(zip(kinds, gains(_of(_fresh(summary, echo, reference.last), kinds)), strict=True))
    return Features(
        sound=summary.sketch_true is not False,
        norm=norm,
        shares=tuple(module / norm for module in summary.geometry.modules) if norm else (),
        echo=echo,
        agreement=agreement(shift),
        alignment=alignment(shift, own),
        fresh=tuple(added.get(kind, 0.0) for kind in range(BUCKETS)),
        sketch=tuple(form / length for form in forms),
    )


def _of(shift: Shift, kinds: Sequence[int]) -> Shift:
    return [[shift[row][column] for column in kinds] for row in kinds]


def _fresh(summary: UpdateSummary, echo: float, last: UpdateSummary | None) -> Shift:
    """The shift an update of norm 1 makes without its part along the last accepted one."""
    rows = _scaled(summary)
    if last is None:
        return rows
    return [
        [new - echo * old for new, old in zip(*pair, strict=True)]
        for pair in zip(rows, _scaled(last), strict=True)
    ]


def _scaled(summary: UpdateSummary) -> Shift:
    norm = summary.geometry.norm or 1.0
    return [[value / norm for value in row] for row in summary.shift]
