"""Cuts: what a block keeps, where it came from, and what no cut can be."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import blocks, codec
from p2pllm.blocks import Cut, Frame
from p2pllm.errors import LocalError, PeerError
from p2pllm.weights import Tensor

PARENT = "ab" * 32
FRAME = Frame(layers=4, hidden=32, ffn=20, groups=3, heads=2, head_dim=8)
CUT = blocks.make(PARENT, FRAME, {0: ([1, 5, 19], [0, 2]), 3: ([0, 2, 7], [1, 2])})
CONFIG: dict[str, Any] = {
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "intermediate_size": 20,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
}


def headers(frame: Frame) -> dict[str, Tensor]:
    rests = ("gate_proj", "up_proj", "down_proj")
    names = [f"mlp.{rest}" for rest in rests] + [f"self_attn.{q}_proj" for q in "qkvo"]
    found = {
        f"model.layers.{layer}.{name}.weight": Tensor("BF16", blocks.shape_in(frame, name), (0, 0))
        for layer in range(frame.layers)
        for name in names
    }
    found["model.layers.0.input_layernorm.weight"] = Tensor("BF16", (frame.hidden,), (0, 0))
    found["model.embed_tokens.weight"] = Tensor("BF16", (99, frame.hidden), (0, 0))
    return found


def test_channels_are_rows_of_up_and_columns_of_down() -> None:
    for name in ("gate_proj", "up_proj"):
        assert CUT.index(f"model.layers.3.mlp.{name}") == ((0, 2, 7), None)
    assert CUT.index("model.layers.0.mlp.down_proj") == (None, (1, 5, 19))


def test_a_group_is_its_query_heads_and_its_key_value_head() -> None:
    assert CUT.index("model.layers.0.self_attn.k_proj") == ((*range(8), *range(16, 24)), None)
    queries = (*range(16), *range(32, 48))
    assert CUT.index("model.layers.0.self_attn.q_proj") == (queries, None)
    assert CUT.index("model.layers.0.self_attn.o_proj") == (None, queries)


def test_what_spans_the_residual_stream_is_kept_whole() -> None:
    for name in ("lm_head", "model.embed_tokens", "model.layers.0.input_layernorm"):
        assert CUT.index(name) == (None, None)


def test_layers_are_counted_anew() -> None:
    assert CUT.child_name("model.layers.3.mlp.up_proj") == "model.layers.1.mlp.up_proj"
    assert CUT.child_name("model.layers.1.mlp.up_proj") is None
    assert CUT.child_name("lm_head") == "lm_head"
    with pytest.raises(PeerError, match="E0703"):
        CUT.index("model.layers.1.mlp.up_proj")


def test_the_whole_is_all_of_it() -> None:
    every = blocks.whole(PARENT, FRAME)
    assert every.index("model.layers.2.mlp.up_proj") == (None, None)
    assert every.holds(CUT)
    assert not CUT.holds(every)
    assert blocks.child_frame(every) == FRAME


def test_nested_is_less_of_the_same_parent() -> None:
    smaller = blocks.make(PARENT, FRAME, {3: ([0, 7], [2])})
    other = blocks.make(PARENT, FRAME, {3: ([0, 8], [2])})
    assert CUT.holds(smaller)
    assert CUT.holds(CUT)
    assert not CUT.holds(other)
    stranger = blocks.make("cd" * 32, FRAME, {3: ([0, 7], [2])})
    assert not CUT.holds(stranger)
    assert blocks.union([CUT, other])[3] == ({0, 2, 7, 8}, {1, 2})
    with pytest.raises(LocalError, match="E0204"):
        blocks.union([CUT, stranger])


def test_the_sizes_and_settings_of_a_block_agree() -> None:
    config = blocks.child_config(CUT, CONFIG | {"layer_types": ["a", "b", "c", "d"]})
    assert config["layer_types"] == ["a", "d"]
    assert config["intermediate_size"] == 3
    assert config["num_attention_heads"] == 4
    small = blocks.child_frame(CUT)
    assert blocks.frame_of(config, headers(small)) == small


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {4: ([0], [0])},
        {-1: ([0], [0])},
        {0: ([20], [0])},
        {0: ([], [0])},
        {0: ([0], [])},
        {0: ([0], [0]), 1: ([0, 1], [0])},
        {0: ([0], [0]), 1: ([0], [0, 1])},
    ],
)
def test_what_is_uneven_empty_or_beyond_the_parent_is_no_cut(layers: Any) -> None:
    with pytest.raises(LocalError, match="E0204"):
        blocks.make(PARENT, FRAME, layers)


def test_a_cut_survives_its_bytes_and_equal_cuts_have_equal_bytes() -> None:
    assert blocks.decode(blocks.encode(CUT)) == CUT
    again = blocks.make(PARENT, FRAME, {3: ([7, 0, 2], {1, 2}), 0: ((19, 1, 5), [2, 0])})
    assert blocks.encode(again) == blocks.encode(CUT)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_cut_or_refused(raw: bytes) -> None:
    with suppress(PeerError):
        assert isinstance(blocks.decode(raw), Cut)


@pytest.mark.parametrize("bad", ["ffn", "groups", "layers"])
def test_bytes_that_lie_about_a_parent_are_refused(bad: str) -> None:
    plain: dict[str, Any] = {"type": "cut.1", "parent": PARENT, "layers": [0, 3]}
    plain |= {"ffn": list(CUT.ffn), "groups": list(CUT.groups)}
    plain["frame"] = {"layers": 4, "hidden": 32, "ffn": 20, "groups": 3, "heads": 2, "head_dim": 8}
    assert blocks.decode(codec.encode(plain)) == CUT
    plain[bad] = {"ffn": [b"\xff\xff\xff"] * 2, "groups": [b"\x0f"] * 2, "layers": [3, 0]}[bad]
    with pytest.raises(PeerError, match="E0603"):
        blocks.decode(codec.encode(plain))


def test_a_base_of_other_layers_cannot_be_cut() -> None:
    good = headers(FRAME)
    assert blocks.frame_of(CONFIG, good) == FRAME
    odd = Tensor("BF16", (4, 4), (0, 0))
    for changed in (
        good | {"model.layers.0.mlp.experts.w": odd},
        good | {"model.layers.0.mlp.up_proj.weight": odd},
        {name: one for name, one in good.items() if "layers.2.mlp.up" not in name},
    ):
        with pytest.raises(PeerError, match="E0711"):
            blocks.frame_of(CONFIG, changed)
    for config in (CONFIG | {"num_key_value_heads": 4}, CONFIG | {"hidden_size": None}, {}):
        with pytest.raises(PeerError, match="E0711"):
            blocks.frame_of(config, good)
