"""Waits: soon at first, longer each time, never alike for all, and over at once on good news."""

import math

from node.backoff import LONGEST_S, SPREAD, Backoff, Retries, pause


def test_waits_double_up_to_a_limit_and_are_spread_by_chance() -> None:
    for failed in range(1, 200):
        wanted = min(30.0, 2.0 ** (failed - 1))
        waits = {pause(failed, 1.0, 30.0) for _ in range(20)}
        assert len(waits) > 1
        assert all(wanted * (1 - SPREAD) <= wait <= wanted * (1 + SPREAD) for wait in waits)


def test_a_child_that_lived_long_starts_again_soon() -> None:
    backoff = Backoff()
    waits = [backoff.after(1.0) for _ in range(12)]
    assert waits[0] < 1.0 < waits[4]
    assert max(waits) <= LONGEST_S * (1 + SPREAD)
    assert backoff.after(3600.0) < 1.0
    assert backoff.restarts == 13


def test_what_failed_is_due_again_and_at_once_when_it_is_forgotten() -> None:
    retries = Retries[str](1.0, 60.0)
    assert retries.due("a", 0.0)
    assert retries.next_at() == math.inf
    retries.failed("a", 0.0)
    retries.failed("b", 10.0)
    assert not retries.due("a", 0.5)
    assert 0.75 <= retries.next_at() <= 1.25
    assert retries.due("a", 1.3)
    for _ in range(9):
        retries.failed("a", 0.0)
    assert not retries.due("a", 40.0)
    retries.forget("a")
    assert retries.due("a", 0.0)
    retries.keep(set())
    assert retries.due("b", 10.0)
