"""The bench's pure parts, on made-up features: bounds that must hold, and that it can fail."""

import pytest

from tests.bench import trust_swarm
from tests.bench._swarm import pool, pure


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    return trust_swarm.main(["--short"])


def test_the_short_form_says_what_it_stands_on_and_keeps_the_bounds(found: dict) -> None:
    assert found["values"] == "made up"
    assert found["slander_drop"] <= 0.05 + 1e-9
    assert found["slander_drop_strangers"] == 0
    assert found["slander_quarantined"] is False
    assert found["whitewash_cost"] >= 10
    assert found["benign_shift_quarantined"] == 0
    assert all(n <= 10 for row in found["rounds_to_quarantine"].values() for n in row)


def test_an_attack_that_is_none_costs_an_attacker_nothing() -> None:
    values = {**pool.made_up_pool(1), "flipped": pool.made_up_pool(2)["honest"]}
    assert max(pure.whitewash(values, "flipped", 1, rounds=60)) < 10
    assert pure.rounds_to_quarantine(values, "flipped", 1) is None


def test_peers_that_turn_to_harm_are_no_benign_shift() -> None:
    values = {**pool.made_up_pool(1), "moved": pool.made_up_pool(1)["garbled"]}
    assert pure.benign_shift(values, 1) == pure.HONEST // 3
