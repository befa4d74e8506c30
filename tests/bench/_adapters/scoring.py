"""How far an update's numbers are from those of honest ones at its place; rates and curves.

The limits come from honest adapters alone, each held against all the others of its place. A feature
is counted in units of what nine honest ones in ten stay under; an update's score is its largest.
The units rest on many honest ones, so that the limit on the score is the only number that rests on
the few at the edge. (With a limit a feature, 28 % of honest ones were over one they had not set.)
"""

import math
from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from p2pllm import summary
from p2pllm.summary import UpdateSummary
from trust.features import agreement

Row = Mapping[str, float]
FALSE_ALARMS = 0.01
USUAL = 0.1  # share of honest ones over the unit of a feature
CLIP = 50.0
HIGH, LOW, BOTH = "high", "low", "both"
SIDES = {
    "norm": BOTH,
    "spread": BOTH,
    "depth": BOTH,
    "top_share": BOTH,
    "descent": LOW,
    "cosine": LOW,
    "left": LOW,
    "right": LOW,
    "harm_alone": HIGH,
    "harm_merged": HIGH,
    "jolt": HIGH,
    "chain_alone": HIGH,
    "chain_merged": HIGH,
    "agreement": LOW,
    "claim": LOW,
    "aim": LOW,
    "twin": HIGH,
}
QUIET = 0.25  # a chain's score under which it is no chain: a fifth of what a node refuses
# Deviations that mean nothing, if smaller.
FLOORS = {"chain_alone": 0.25, "chain_merged": 0.25, "claim": 0.05}


class Case(msgspec.Struct, frozen=True):
    """One update's features."""

    name: str
    place: str
    row: Row


def row(found: UpdateSummary, others: Sequence[UpdateSummary]) -> Row:
    """The features of one update; `others` came to the same place before it.

    `claim` is how far what it gains on the probes points to the place's own domain, as an angle: a
    faint update has the claim of a loud one.
    """
    shape, merged = found.geometry, found.merged
    assert merged is not None
    assert found.relation is not None
    gains = [one.before - one.after for one in found.alone.influences]
    descents = [one.descent or 0.0 for one in merged.influences]
    here = merged.influences[0]
    twin = max((summary.cosine(found.sketch, one.sketch) for one in others), default=0.0)
    return {
        "norm": math.log(shape.norm),
        "spread": math.log(shape.spread / shape.norm + 1e-9),
        "depth": math.log((shape.thirds[2] + 1e-9) / (shape.thirds[0] + 1e-9)),
        "top_share": shape.spectrum.shares[0],
        "descent": descents[0],
        "cosine": found.relation.cosine,
        "left": found.relation.left,
        "right": found.relation.right,
        "harm_alone": -gains[0],
        "harm_merged": here.after - here.before,
        "jolt": math.log(max(found.alone.battery.jolt, 1e-6)),
        "chain_alone": _log_score(found.alone.battery.chain_score),
        "chain_merged": _log_score(merged.battery.chain_score),
        "agreement": agreement(found.shift),
        "claim": math.asin(gains[0] / math.hypot(*gains)) if any(gains) else 0.0,
        "aim": descents[0] - max(descents[1:]),
        "twin": twin,
    }


def _log_score(score: float) -> float:
    return math.log(max(score, QUIET))


def distances(one: Row, honest: Sequence[Row]) -> Row:
    """Robust deviations from the honest rows, on the side that counts against an update."""
    found = {}
    for name, side in SIDES.items():
        column = [other[name] for other in honest]
        middle = median(column)
        spread = 1.4826 * median(abs(value - middle) for value in column)
        deviation = math.sqrt(sum((value - middle) ** 2 for value in column) / len(column))
        z = (one[name] - middle) / (spread + 0.05 * deviation + FLOORS.get(name, 1e-6))
        z = abs(z) if side == BOTH else -z if side == LOW else z
        found[name] = max(0.0, min(CLIP, z))
    return found


def scores(tested: Sequence[Case], honest: Sequence[Case]) -> dict[str, Row]:
    """For each case its features in the units that the honest cases set."""
    far = {case.name: distances(case.row, null(case, honest)) for case in [*tested, *honest]}
    units = {
        feature: max(limit([far[case.name][feature] for case in honest], USUAL), 1.0)
        for feature in SIDES
    }
    return {
        case.name: {feature: far[case.name][feature] / units[feature] for feature in SIDES}
        for case in tested
    }


def null(case: Case, honest: Sequence[Case]) -> list[Row]:
    """What a case is held against: the other honest ones of its place."""
    return [one.row for one in honest if one.place == case.place and one.name != case.name]


def limit(scores: Sequence[float], share: float) -> float:
    """The score that at most this share of honest updates reach or pass."""
    ordered = sorted(scores, reverse=True)
    return ordered[int(share * len(ordered))] + 1e-9


def auroc(bad: Sequence[float], honest: Sequence[float]) -> float:
    """The chance that a bad one scores above an honest one."""
    wins = sum((a > b) + 0.5 * (a == b) for a in bad for b in honest)
    return wins / (len(bad) * len(honest))
