"""The comparison of adapters runs through, and its report says what it should."""

from pathlib import Path

from tests.bench import trust_adapters


def test_a_short_run_tells_all_and_its_limits_can_be_used_again(tmp_path: Path) -> None:
    first = trust_adapters.main(["--short", "--work", str(tmp_path)])
    assert (first["honest"], first["bad"], first["limits_by"]) == (8, 4, "this run")
    assert sum(first["counted"].values()) == 4
    assert (
        first["detection_at_1pct"].keys() == first["auroc"].keys() == {"shuffled", "wrong-domain"}
    )
    assert all(0 <= area <= 1 for area in first["auroc"].values())
    assert first["working_backdoors"] == 0  # ten steps teach none
    assert first["backdoor_success_merged"] == 0
    assert 0 < first["seconds_per_adapter"] < 60
    again = trust_adapters.main(["--short", "--work", str(tmp_path), "--limits", str(tmp_path)])
    assert again["limits_by"] == "another run"
    assert again["limit"] == first["limit"]
    assert again["detection_at_1pct"] == first["detection_at_1pct"]
