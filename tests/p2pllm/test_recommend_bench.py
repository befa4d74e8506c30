"""The benches of recommender and assistant in their short form: their keys, and sane figures."""

import json
from pathlib import Path

from tests.bench import assistant, recommend


def test_the_recommenders_short_form_runs_a_model_and_makes_choices() -> None:
    found = recommend.main(["--short"])
    assert found["infeasible"] == 0
    assert found["draws"] == 60
    assert found["monotone"] is True
    assert 0 <= found["regret_mean"] < found["regret_random_feasible"]
    assert found["regret_largest_that_fits"] >= 0
    assert found["memory_error_median"] <= found["memory_error_max"] < 0.15
    assert 0 <= found["speed_error_median"] < 1  # other work may run beside a test


def test_the_assistant_runs_on_phrasings_of_others(tmp_path: Path) -> None:
    lines = [
        {
            "text": "summarise legal letters in French",
            "slots": {"task": "summary", "domain": "legal"},
        },
        {"text": "chat", "slots": {"task": "chat", "language": None}},
    ]
    given = tmp_path / "others.jsonl"
    given.write_text("\n".join(json.dumps(line) for line in lines))
    found = assistant.main(["--phrasings", str(given)])
    assert found["phrasings"] == 2
    assert found["slot_accuracy"] == 1.0
    assert found["asked_when_missing"] == 1.0
    assert found["agreement"] == 1.0
    assert found["spurious"] == {"language": 1}
