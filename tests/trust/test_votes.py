"""Shares of a merge: newcomers stay small together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.votes import NEWCOMERS, Vote, shares

TRUSTED = [Vote(0.9, settled=True)] * 5
votes = st.lists(st.builds(Vote, st.floats(0, 1), st.booleans()), max_size=30)


def newcomers(count: int) -> float:
    return sum(shares([*TRUSTED, *[Vote(0.3, settled=False)] * count])[5:])


@given(votes)
def test_shares_sum_to_one_or_are_all_zero(given_votes: list[Vote]) -> None:
    found = shares(given_votes)
    assert all(share >= 0 for share in found)
    assert sum(found) == pytest.approx(1.0) or not any(found)


@given(st.integers(1, 2000))
def test_any_number_of_new_keys_weighs_at_most_two_newcomers(count: int) -> None:
    assert newcomers(count) <= 2 * newcomers(1) + 1e-9
    assert newcomers(count) <= NEWCOMERS + 1e-9


def test_with_nobody_trusted_newcomers_share_all() -> None:
    assert shares([Vote(0.3, settled=False)] * 4) == [0.25] * 4
