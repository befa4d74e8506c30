"""Reputation: between 0 and 1, monotone, slow to forget harm."""

from hypothesis import given
from hypothesis import strategies as st

from trust.reputation import Reputation

counts = st.floats(0, 1e6)
reputations = st.builds(Reputation, counts, counts)


@given(reputations)
def test_scores_are_between_0_and_1_and_the_lower_one_is_lower(one: Reputation) -> None:
    assert 0 <= one.lower <= one.mean <= 1


@given(reputations, counts, counts, counts)
def test_more_good_never_lowers_it_and_more_bad_never_raises_it(
    one: Reputation, good: float, bad: float, more: float
) -> None:
    after = one.after(good, bad)
    assert one.after(good + more, bad).mean >= after.mean
    assert one.after(good, bad + more).mean <= after.mean


def test_harm_is_remembered_longer_than_good() -> None:
    one = Reputation(10.0, 10.0)
    for _ in range(20):
        one = one.after(0, 0)
    assert one.bad > 5 * one.good


def test_being_good_half_of_the_time_does_not_pay() -> None:
    one = Reputation()
    for number in range(200):
        one = one.after(*((1.0, 0.0) if number % 2 else (0.0, 1.0)))
    assert one.mean < 0.25
