"""What is said of memory and speed before a model runs."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import fit
from p2pllm.errors import PeerError
from p2pllm.fit import CAUTIOUS, Dimensions, Use

SMOLLM2 = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
SIZES = fit.dimensions_of(SMOLLM2, 134_515_008)


def test_dimensions_are_read_from_a_config_and_the_head_size_follows() -> None:
    assert SIZES.head_dim == 64
    assert (SIZES.heads, SIZES.kv_heads, SIZES.tied) == (9, 3, True)


@pytest.mark.parametrize("change", [{"hidden_size": None}, {"num_attention_heads": 0}, {"x": 1}])
def test_a_config_without_usable_dimensions_is_refused(change: dict[str, object]) -> None:
    config = change if "x" in change else SMOLLM2 | change
    with pytest.raises(PeerError) as refused:
        fit.dimensions_of(config, 1000)
    assert refused.value.code == "E0711"


def test_the_cache_is_what_the_tensors_of_keys_and_values_take() -> None:
    use = Use(context=1000, item=2)
    assert fit.memory(SIZES, use, CAUTIOUS).cache == 2 * 30 * 3 * 64 * 1000 * 2


def test_a_real_peak_that_was_measured_is_met_within_three_percent() -> None:
    """134.5 M parameters in bfloat16 at 512 tokens peaked at 698 MiB, libraries 385."""
    device = msgspec.structs.replace(CAUTIOUS, runtime_bytes=385 << 20)
    said = fit.memory(SIZES, Use(context=512), device)
    assert said.total / (698 << 20) == pytest.approx(1, abs=0.03)
    assert said.high > 698 << 20


sizes = st.builds(fit.guess, st.integers(1_000, 10**11))
uses = st.builds(
    Use, context=st.integers(1, 2**17), item=st.sampled_from([2, 4]), adapter=st.integers(0, 10**9)
)


@given(sizes, uses)
def test_more_context_more_adapter_and_wider_weights_never_take_less(
    model: Dimensions, use: Use
) -> None:
    at = fit.memory(model, use, CAUTIOUS)
    for name in ("context", "adapter", "item"):
        more = msgspec.structs.replace(use, **{name: 2 * getattr(use, name)})
        assert fit.memory(model, more, CAUTIOUS).high >= at.high
        assert fit.speed(model, more, CAUTIOUS).low <= fit.speed(model, use, CAUTIOUS).low
    assert at.total <= at.high


@given(st.integers(1_000, 10**11))
def test_a_guess_takes_at_least_what_a_model_read_from_its_files_takes(params: int) -> None:
    """SmolLM2 is one; the guess must not promise that it needs less."""
    model = fit.guess(params)
    assert model.guessed
    assert model.params == params
    assert msgspec.convert(msgspec.to_builtins(model), Dimensions) == model


def test_guessed_dimensions_promise_less_than_real_ones() -> None:
    guessed, use = fit.guess(SIZES.params), Use(context=512)
    assert fit.memory(guessed, use, CAUTIOUS).high >= fit.memory(SIZES, use, CAUTIOUS).high
    assert fit.speed(guessed, use, CAUTIOUS).low <= fit.speed(SIZES, use, CAUTIOUS).low


def test_costs_that_made_the_seconds_are_found_again() -> None:
    costs = (7e-11, 5e-10, 1e-4, 9e-7, 2e-3)
    models = [fit.guess(10**power * k) for power in (6, 7, 8) for k in (1, 4)]
    rows = [fit.features(model, Use(context=c)) for model in models for c in (16, 256, 4096)]
    took = [sum(a * b for a, b in zip(costs, row, strict=True)) for row in rows]
    found = fit.fit_costs(rows, took)
    said = [sum(a * b for a, b in zip(found, row, strict=True)) for row in rows]
    assert said == pytest.approx(took, rel=0.02)
    assert min(found) >= 0


def test_no_cost_is_negative_where_noise_would_make_it_so() -> None:
    assert min(fit.fit_costs([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], [3.0, 2.0, 1.0])) == 0
