"""Features of updates: what they see, and what they are blind to on purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.features import agreement, alignment, best, gains

GOOD = [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
rows = st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=3, max_size=3)


def negative(shift: list[list[float]]) -> list[list[float]]:
    return [[-value for value in row] for row in shift]


def test_learning_every_kind_agrees_fully_and_its_reverse_not_at_all() -> None:
    assert agreement(GOOD) == pytest.approx(1.0)
    assert agreement(negative(GOOD)) == pytest.approx(-1.0)


def test_a_peer_that_knows_one_kind_agrees_and_one_that_mislabels_it_does_not() -> None:
    knows = [[2.0, -1.0, -1.0], [0.5, -0.3, -0.2], [0.4, -0.1, -0.3]]
    mislabels = [[-2.0, -1.0, 3.0], [0.1, 0.0, 0.4], [0.1, 0.1, 0.5]]
    assert agreement(knows) > 0.3
    assert agreement(mislabels) < -0.3


def test_a_shift_of_what_is_common_counts_for_nothing() -> None:
    common = [[5.0, -2.0, -3.0]] * 3
    assert agreement(common) == 0.0
    assert gains(common) == (0.0, 0.0, 0.0)
    assert alignment(common, GOOD) == 0.0


@given(rows, rows)
def test_all_are_in_their_ranges(one: list[list[float]], other: list[list[float]]) -> None:
    assert -1 <= agreement(one) <= 1
    assert -1 <= alignment(one, other) <= 1
    assert best(gains(one)) >= 0
    assert len(gains(one)) == 3


@given(rows)
def test_reversing_an_update_reverses_its_agreement(shift: list[list[float]]) -> None:
    assert agreement(negative(shift)) == pytest.approx(-agreement(shift))


def test_alignment_is_one_with_itself() -> None:
    assert alignment(GOOD, GOOD) == pytest.approx(1.0)
