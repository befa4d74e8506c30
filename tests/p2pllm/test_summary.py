"""Sketches as numbers: what they tell of two changes, and when a claimed one is true."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import codec, summary
from p2pllm.errors import PeerError
from p2pllm.summary import FORMS, MAX_SKETCH_BYTES, Sketch
from tests.vectors.values import IDENTITY, SKETCH, SUMMARY

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(numbers)
def test_forms_are_the_values_in_steps_of_the_largest(values: list[float]) -> None:
    largest = max(abs(value) for value in values)
    found = summary.forms(summary.quantise(values))
    if largest == 0:
        assert set(found) == {0}
        return
    assert max(abs(form) for form in found) == summary.STEPS
    for value, form in zip(values, found, strict=True):
        assert abs(value / largest * summary.STEPS - form) <= 0.5 + 1e-6


def test_a_copy_has_cosine_one_and_its_opposite_minus_one() -> None:
    values = [math.sin(number) for number in range(FORMS)]
    one = summary.quantise(values)
    louder = summary.quantise([30 * value for value in values])
    opposite = summary.quantise([-value for value in values])
    assert summary.cosine(one, louder) == pytest.approx(1)
    assert summary.cosine(one, opposite) == pytest.approx(-1, abs=1e-3)
    assert summary.cosine(one, bytes(FORMS)) == 0


def test_a_sketch_agrees_within_rounding_only() -> None:
    own = SKETCH.forms
    assert summary.agrees(SKETCH, SKETCH.norm * 1.005, own)
    assert not summary.agrees(SKETCH, SKETCH.norm * 1.05, own)
    near = bytes([(own[0] + 2) & 0xFF, *own[1:]])
    far = bytes([(own[0] + 3) & 0xFF, *own[1:]])
    assert summary.agrees(SKETCH, SKETCH.norm, near)
    assert not summary.agrees(SKETCH, SKETCH.norm, far)


def test_a_signed_sketch_fits_in_a_kilobyte() -> None:
    longest = msgspec.structs.replace(SKETCH, norm=1e12, thirds=(1e12, 1e12, 1e12))
    assert len(summary.seal(IDENTITY, longest)) <= MAX_SKETCH_BYTES


def test_a_sketch_of_another_signer_is_refused() -> None:
    record = bytearray(summary.seal(IDENTITY, SKETCH))
    assert summary.open_sketch(bytes(record)) == SKETCH
    record[-1] ^= 1
    with pytest.raises(PeerError) as caught:
        summary.open_sketch(bytes(record))
    assert caught.value.code == "E0602"


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e13])
def test_a_norm_that_is_none_is_refused(value: float) -> None:
    record = codec.sign(IDENTITY, "sketch.1", msgspec.structs.replace(SKETCH, norm=value))
    with pytest.raises(PeerError) as caught:
        summary.open_sketch(record)
    assert caught.value.code == "E0603"


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e7])
def test_a_summary_holds_bounded_numbers_only(value: float) -> None:
    [first, *_rest] = SUMMARY.alone.influences
    influences = (msgspec.structs.replace(first, after=value),)
    alone = msgspec.structs.replace(SUMMARY.alone, influences=influences)
    with pytest.raises(PeerError):
        codec.decode(
            codec.encode(msgspec.structs.replace(SUMMARY, alone=alone)), type(SUMMARY), 1 << 16
        )


def test_a_sketch_has_exactly_its_forms() -> None:
    short = Sketch(
        by=SKETCH.by,
        model=SKETCH.model,
        weights=SKETCH.weights,
        norm=1.0,
        thirds=(1.0, 0.0, 0.0),
        forms=b"\x01" * (FORMS - 1),
    )
    with pytest.raises(PeerError):
        summary.open_sketch(summary.seal(IDENTITY, short))
