"""A merge is tried before it is applied."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.trial import tried, worse

EXAMPLES = 12
BEST = [1.0 + 0.1 * (at % 3) for at in range(EXAMPLES)]
HELPS, HARMS = -0.4, 0.9


def pulling(
    *pulls: float, now: Sequence[float] = BEST
) -> Callable[[Sequence[Sequence[float]]], list[list[float]]]:
    """Losses that each update moves evenly, by its weight times its pull."""

    def losses(merges: Sequence[Sequence[float]]) -> list[list[float]]:
        moved = [math.fsum(w * p for w, p in zip(one, pulls, strict=True)) for one in merges]
        return [[loss + shift for loss in now] for shift in moved]

    return losses


def test_a_merge_that_is_no_worse_keeps_its_weights() -> None:
    weights = [0.5, 0.3, 0.2]
    assert tried(weights, BEST, BEST, pulling(HELPS, HELPS, 0.1)) == weights


def test_who_makes_a_merge_worse_loses_weight_and_the_others_get_it() -> None:
    found = tried([0.3, 0.3, 0.4], BEST, BEST, pulling(HELPS, HELPS, HARMS))
    assert found[2] == 0.0
    assert found[:2] == pytest.approx([0.5, 0.5])


def test_where_all_do_harm_nothing_is_merged() -> None:
    assert tried([0.5, 0.5], BEST, BEST, pulling(HARMS, HARMS)) == [0.0, 0.0]
    broken = pulling(math.nan, math.nan)
    assert tried([0.5, 0.5], BEST, BEST, broken) == [0.0, 0.0]


def test_a_way_back_from_a_bad_place_is_taken_though_the_best_is_not_reached() -> None:
    now = [loss + 3.0 for loss in BEST]
    assert tried([1.0], BEST, now, pulling(HELPS, now=now)) == [1.0]


def test_harm_in_small_steps_is_held_against_the_best_and_not_the_last() -> None:
    step = 0.4  # each is kept beside the one before
    one, two = ([loss + n * step for loss in BEST] for n in (1, 2))
    assert tried([1.0], BEST, one, lambda merges: [two for _ in merges]) == [0.0]


def test_what_differs_by_noise_alone_is_not_worse() -> None:
    noisy = [loss + (0.3 if at % 2 else -0.29) for at, loss in enumerate(BEST)]
    assert not worse(BEST, noisy)
    assert worse(BEST, [loss + 0.02 for loss in BEST])
    assert worse([1.0], [1.1])


pulls = st.lists(st.floats(-2, 2), min_size=1, max_size=6)


@given(pulls)
def test_weight_is_kept_or_all_gone_and_no_merge_ends_worse_than_it_began(
    given_pulls: list[float],
) -> None:
    weights = [1 / len(given_pulls)] * len(given_pulls)
    losses = pulling(*given_pulls)
    found = tried(weights, BEST, BEST, losses)
    assert sum(found) == pytest.approx(1.0) or not any(found)
    assert all(weight >= 0 for weight in found)
    assert not worse(BEST, losses([found])[0])
    assert fmean(losses([found])[0]) <= max(fmean(losses([weights])[0]), fmean(BEST)) + 1e-9
