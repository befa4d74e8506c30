"""Measured summaries as features."""

from msgspec.structs import replace

from p2pllm.summary import BUCKETS
from tests.vectors.values import SUMMARY
from trust.features import SKETCH
from trust.reading import Reference, features_of


def shift(sign: float, kinds: int = BUCKETS) -> tuple[tuple[float, ...], ...]:
    """Each of the first kinds better told apart, or worse; the others do not occur."""
    return tuple(
        tuple(sign * (0.9 if c == k else -0.1) * (c < kinds) for k in range(BUCKETS))
        for c in range(BUCKETS)
    )


OWN = replace(SUMMARY, shift=shift(1.0))
REFERENCE = Reference(own=OWN, last=None)


def test_training_agrees_and_its_reverse_does_not() -> None:
    good = features_of(OWN, REFERENCE)
    bad = features_of(replace(SUMMARY, shift=shift(-1.0)), REFERENCE)
    assert (round(good.agreement, 6), round(good.alignment, 6)) == (1.0, 1.0)
    assert (round(bad.agreement, 6), round(bad.alignment, 6)) == (-1.0, -1.0)
    assert min(good.fresh) > 0 > max(bad.fresh)


def test_kinds_that_do_not_occur_in_the_probe_say_nothing() -> None:
    own = replace(SUMMARY, shift=shift(1.0, 5))
    assert round(features_of(own, Reference(own=own, last=None)).agreement, 6) == 1.0


def test_an_empty_probe_gives_no_opinion() -> None:
    empty = replace(SUMMARY, shift=((0.0,) * BUCKETS,) * BUCKETS)
    found = features_of(empty, Reference(own=empty, last=None))
    assert found.agreement == found.alignment == 0
    assert found.fresh == (0.0,) * BUCKETS


def test_what_was_accepted_before_is_not_fresh() -> None:
    again = replace(OWN, relation=replace(SUMMARY.relation, cosine=1.0))
    assert features_of(again, Reference(own=OWN, last=OWN)).fresh == (0.0,) * BUCKETS


def test_the_sketch_is_of_length_one_and_a_false_one_is_a_fault() -> None:
    found = features_of(SUMMARY, REFERENCE)
    assert len(found.sketch) == SKETCH
    assert round(sum(form * form for form in found.sketch), 6) == 1.0
    assert found.sound
    assert not features_of(replace(SUMMARY, sketch_true=False), REFERENCE).sound
