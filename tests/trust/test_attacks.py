"""The layer in the comparison harness: short runs of what the bench measures at length."""

import pytest

from tests.bench.trust_harness.attacks import ATTACKS
from tests.bench.trust_harness.layer import make
from tests.bench.trust_harness.simulate import Setting, simulate


@pytest.mark.parametrize(("attack", "most"), [("signflip", 6), ("labelflip", 16), ("nan", 0)])
def test_harm_by_forty_percent_is_caught_and_no_honest_peer_is(attack: str, most: int) -> None:
    found = simulate(make, ATTACKS[attack], Setting(attackers=8, rounds=25, seed=11))
    assert found["caught"] == 1.0
    assert found["rounds_to_quarantine"] <= most
    assert found["false_quarantine"] == 0.0
    assert found["failures"] == 0


def test_without_attack_uneven_peers_all_stay_in() -> None:
    found = simulate(make, ATTACKS["none"], Setting(rounds=25, seed=12))
    assert found["false_quarantine"] == 0.0
    assert found["acc"] > 0.85


def test_free_riders_weigh_less_than_half_of_what_they_would() -> None:
    found = simulate(make, ATTACKS["freerider"], Setting(attackers=8, rounds=25, seed=13))
    assert found["attacker_share"] < 0.2
