"""The layer in the comparison harness: short runs of what the bench measures at length."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bench import trust
from tests.bench.trust_harness import benign, white_box
from tests.bench.trust_harness.attacks import ATTACKS, Scene
from tests.bench.trust_harness.foreign import BYZFL, FLWR
from tests.bench.trust_harness.layer import make
from tests.bench.trust_harness.rules import Foreign
from tests.bench.trust_harness.simulate import Setting, simulate
from tests.bench.trust_harness.task import Floats


@pytest.mark.parametrize(("attack", "most"), [("signflip", 6), ("labelflip", 16), ("nan", 0)])
def test_harm_by_forty_percent_is_caught_and_no_honest_peer_is(attack: str, most: int) -> None:
    found = simulate(make, ATTACKS[attack], Setting(attackers=8, rounds=20, seed=11))
    assert found["caught"] == 1.0
    assert found["rounds_to_quarantine"] <= most
    assert found["false_quarantine"] == 0.0
    assert found["failures"] == 0


@pytest.mark.parametrize("attack", ["blind_spot", "common_bias", "overflow", "raise_the_bar"])
def test_harm_that_no_number_of_an_update_shows_is_held_back_by_the_trial(attack: str) -> None:
    found = simulate(make, white_box.ATTACKS[attack], Setting(attackers=8, seed=15))
    assert found["acc"] > 0.85  # by the judge alone 0.1 to 0.6
    assert found["failures"] == 0


def test_who_is_copied_by_turns_is_still_trusted() -> None:
    found = simulate(make, white_box.ATTACKS["crowd_out"](), Setting(attackers=8, seed=15))
    assert found["attacker_share"] < 0.5  # over 0.9 when a copy cost the original its trust


def test_an_attack_cannot_write_into_the_run_and_must_give_numbers_of_its_shape() -> None:
    def writes(scene: Scene) -> Floats:
        scene.base[:] = scene.prev_agg[:] = 1e3
        return scene.own

    found = simulate(make, writes, Setting(attackers=6, rounds=12, seed=12))
    assert found["acc"] > 0.7
    for odd in (np.ones(3), "nothing"):
        with pytest.raises(SystemExit, match="no numbers of shape"):
            simulate(make, lambda scene, odd=odd: odd, Setting(attackers=6, rounds=1))


@pytest.mark.parametrize("text", [None, "", "ATTACKS ="])
def test_a_module_without_attacks_is_refused_by_its_name(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "none.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit, match="no module that defines ATTACKS"):
        trust.main(["--attack-module", str(path)])


def test_without_attack_uneven_peers_all_stay_in() -> None:
    found = simulate(make, ATTACKS["none"], Setting(rounds=20, seed=12))
    assert found["false_quarantine"] == 0.0
    assert found["acc"] > 0.85


def test_free_riders_weigh_less_than_half_of_what_they_would() -> None:
    found = simulate(make, ATTACKS["freerider"], Setting(attackers=8, rounds=20, seed=13))
    assert found["attacker_share"] < 0.2


def test_a_third_of_the_honest_peers_changing_their_data_are_not_caught() -> None:
    found = simulate(make, benign.shift, Setting(attackers=6, rounds=24, seed=14))
    assert found["caught"] == found["false_quarantine"] == 0.0


def test_the_bench_reports_its_keys_names_missing_rivals_and_takes_more_attacks(
    tmp_path: Path,
) -> None:
    given = "--seeds 1 --rounds 10 --shares 0 0.3 --rivals fltrust nosuch --attacks signflip slow"
    argv = [*given.split(), "--attack-module", benign.__file__, "--work", str(tmp_path)]
    found = trust.main(argv)
    assert found["rivals_missing"]["nosuch"]
    assert set(found["detection"]) == {"signflip", "slow"}
    assert found["detection"]["signflip"][0.3] == 1.0
    assert found["rivals"]["fltrust"]["worst_retained"][0.3]["mean"] > 0
    assert set(found["worst_retained"]) == set(found["ceiling"]) | {0.0} == {0.0, 0.3}
    assert {"clean_cost_points", "false_quarantine_clean", "attacker_weight_share"} <= set(found)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert trust.main(argv) == found | {"ms_per_round": found["ms_per_round"]}
    more = trust.main([*argv, "--attacks", "signflip", "slow", "boost", "--kept"])
    assert (more["cells_missing"], more["detection"]) == (2, found["detection"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == made


def test_the_short_bench_catches_sign_flips_and_keeps_the_accuracy() -> None:
    found = trust.main(["--short"])
    assert found["detection"]["signflip"][0.4] == 1.0
    assert found["false_quarantine_clean"] == 0.0
    assert found["worst_retained"][0.4]["mean"] > 0.8


def test_rules_of_another_python_are_asked_over_a_pipe() -> None:
    foreign = Foreign(sys.executable)
    try:
        assert {*foreign.found, *foreign.missing} == {*BYZFL, *FLWR}
        with pytest.raises(RuntimeError, match="ended"):
            foreign.ask("nosuch", np.zeros((3, 2)), np.ones(3), 1, 0)
    finally:
        foreign.close()
