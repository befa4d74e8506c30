"""A block that fits its budget: never larger, never far smaller, and only one level down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.blocks import Frame
from p2pllm.derive import layer_params, plan, require_below
from p2pllm.errors import LocalError
from p2pllm.names import Place

# SmolLM2-135M: 134,515,008 parameters in bfloat16.
FRAME = Frame(layers=30, hidden=576, ffn=1536, groups=3, heads=3, head_dim=64)
PARAMS, SIZE = 134_515_008, 269_060_552


@given(st.integers(110_000_000, 400_000_000))
def test_the_block_fits_its_budget_and_uses_it(budget: int) -> None:
    made = plan(FRAME, PARAMS, SIZE, budget)
    assert made.size <= budget
    assert made.params <= PARAMS
    assert 0.25 <= made.ffn <= 1
    assert 0.25 <= made.depth <= 1
    if budget < SIZE:
        assert made.size > 0.97 * budget
    else:
        assert (made.ffn, made.depth) == (1, 1)


@given(st.integers(110_000_000, 300_000_000), st.integers(0, 50_000_000))
def test_a_larger_budget_gives_no_smaller_block(budget: int, more: int) -> None:
    assert (
        plan(FRAME, PARAMS, SIZE, budget + more).params >= plan(FRAME, PARAMS, SIZE, budget).params
    )


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(LocalError) as refused:
        plan(FRAME, PARAMS, SIZE, 30_000_000)
    assert refused.value.code == "E0708"


def test_the_layers_account_for_all_but_embeddings_and_norms() -> None:
    outside = PARAMS - 30 * layer_params(FRAME, 1536)
    assert outside - 49_152 * 576 == 61 * 576, "61 norms"


def test_a_model_is_derived_from_the_place_one_level_up() -> None:
    require_below(Place("en", "medical"), Place("en"))
    require_below(Place("en", "medical", "heart"), Place("en", "medical"))
    require_below(Place("en"), Place("mul"))
    for place, parent in (
        (Place("en", "medical", "heart"), Place("en")),
        (Place("en", "medical"), Place("es")),
        (Place("en", "medical"), Place("en", "law")),
        (Place("mul"), Place("en")),
    ):
        with pytest.raises(LocalError) as refused:
            require_below(place, parent)
        assert refused.value.code == "E0204"
