"""The bets: they cannot be bought off, and they seldom blame the innocent."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.direction import (
    AGREEMENT_SCALE,
    ENOUGH,
    GUILTY,
    LEAST,
    MOST,
    UNKNOWN,
    allowance,
    bet,
    vague,
)

outcomes = st.lists(st.floats(-2, 2), max_size=60)


def stake_after(rounds: list[float]) -> float:
    stake = 0.0
    for outcome in rounds:
        stake = bet(stake, outcome)
    return stake


def rounds_until_guilty(rounds: list[float]) -> int:
    stake = 0.0
    for number, outcome in enumerate(rounds, 1):
        stake = bet(stake, outcome)
        if stake >= GUILTY:
            return number
    return 0


def test_a_peer_fully_against_is_guilty_after_five_rounds() -> None:
    assert rounds_until_guilty([-1.0] * 20) == 5


def test_a_good_past_buys_nothing() -> None:
    assert rounds_until_guilty([1.0] * 1000 + [-1.0] * 20) == 1005


def test_every_other_round_good_does_not_pay() -> None:
    assert 0 < rounds_until_guilty([-1.0, 1.0] * 50) <= 40


def test_a_peer_at_the_limit_is_blamed_seldom_and_one_with_a_margin_never() -> None:
    rng = random.Random(5)
    at_limit = sum(
        rounds_until_guilty([rng.uniform(-0.5, 0.5) for _ in range(40)]) > 0 for _ in range(2000)
    )
    margin = sum(
        rounds_until_guilty([rng.uniform(-0.3, 0.7) for _ in range(40)]) > 0 for _ in range(2000)
    )
    assert at_limit / 2000 < 0.2
    assert margin / 2000 < 0.001


@given(outcomes, st.floats(-2, 2), st.floats(-2, 2))
def test_a_stake_falls_as_the_evidence_gets_better(past: list[float], a: float, b: float) -> None:
    stake = stake_after(past)
    assert stake >= 0
    assert bet(stake, max(a, b)) <= bet(stake, min(a, b))


@given(st.lists(st.floats(-1, 1), max_size=60), st.floats(-1, 1))
def test_the_allowance_is_bounded_and_knows_no_order(pool: list[float], own: float) -> None:
    assert LEAST <= allowance(pool, own) <= MOST
    assert allowance(pool, own) == allowance(pool[::-1], own)


def test_a_place_with_no_known_peers_has_the_default_allowance() -> None:
    assert allowance([0.9] * (ENOUGH - 1), 0.0) == UNKNOWN
    assert allowance([0.9] * ENOUGH, 0.0) == UNKNOWN
    assert allowance([0.9] * ENOUGH, -0.05) == pytest.approx(0.05 * AGREEMENT_SCALE)


def test_less_is_allowed_where_own_training_speaks_plainly_and_known_peers_do_well() -> None:
    assert allowance([], 0.8) == LEAST
    assert allowance([0.9] * ENOUGH, 0.8) == LEAST
    assert allowance([0.0] * ENOUGH, 0.8) == UNKNOWN
    assert (vague(0.0), vague(0.8)) == (1.0, 0.0)


@given(st.lists(st.floats(-1, 1), max_size=60), st.floats(-1, 1), st.floats(-1, 1))
def test_the_plainer_own_training_the_less_is_allowed(
    pool: list[float], a: float, b: float
) -> None:
    assert allowance(pool, max(a, b)) <= allowance(pool, min(a, b))


def test_a_few_liars_among_the_trusted_hardly_move_the_allowance() -> None:
    honest = [0.3 + 0.002 * n for n in range(50)]
    assert allowance([*honest, *[-0.9] * 5], 0.3) == allowance(honest, 0.3) == UNKNOWN
