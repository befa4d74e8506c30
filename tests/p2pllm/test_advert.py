"""DHT records: alive only for a while, and under the keys that a search asks for."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pllm import advert, codec
from p2pllm.advert import CLOCK_SLACK_S, MAX_TTL_S, SIZE_CLASSES, Advert, size_class
from p2pllm.errors import PeerError
from p2pllm.names import Place
from tests.strategies import records
from tests.vectors.values import ADVERT, IDENTITY, NOW, PRESENCE, PROVIDER

MIB = 1024**2


def code_at(raw: bytes, now: float) -> str:
    with pytest.raises(PeerError) as refused:
        advert.open_record(raw, now)
    return refused.value.code


@pytest.mark.parametrize("record", [ADVERT, PROVIDER, PRESENCE], ids=lambda r: type(r).__name__)
def test_a_record_lives_until_it_expires_and_not_from_too_far_ahead(
    record: advert.Record,
) -> None:
    raw, end = advert.seal(IDENTITY, record), record.expires_at
    assert advert.open_record(raw, end - 1) == record
    assert advert.open_record(raw, end - MAX_TTL_S - CLOCK_SLACK_S) == record
    assert code_at(raw, end) == "E0607"
    assert code_at(raw, end + 1) == "E0607"
    assert code_at(raw, end - MAX_TTL_S - CLOCK_SLACK_S - 1) == "E0607"


def test_a_record_of_one_kind_is_not_read_as_another() -> None:
    body = codec.encode(PROVIDER)
    assert code_at(IDENTITY.sign("advert.1", body) + body, NOW) == "E0602"
    other = codec.encode(ADVERT).replace(b"advert.1", b"advert.9")
    assert code_at(IDENTITY.sign("advert.1", other) + other, NOW) == "E0603"


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (1, "s1"),
        (4 * MIB, "s1"),
        (4 * MIB + 1, "s2"),
        (16 * MIB, "s2"),
        (64 * MIB, "s3"),
        (256 * MIB, "s4"),
        (1024 * MIB, "s5"),
        (4096 * MIB, "s6"),
        (4096 * MIB + 1, "s7"),
        (2**37, "s7"),
    ],
)
def test_size_classes_are_powers_of_four_mebibytes(size: int, name: str) -> None:
    assert size_class(size) == name


@given(st.integers(1, 2**37), st.integers(1, 2**37), st.integers(1, 2**37))
def test_every_size_of_a_range_is_in_a_class_of_that_range(a: int, b: int, size: int) -> None:
    low, high = sorted((a, b))
    inside = min(max(size, low), high)
    assert size_class(inside) in advert.size_classes_within(low, high)


def test_a_range_asks_for_no_class_it_does_not_touch() -> None:
    assert advert.size_classes_within(5 * MIB, 60 * MIB) == ["s2", "s3"]
    assert advert.size_classes_within(0, 2**40) == list(SIZE_CLASSES)


places = st.sampled_from(
    [Place("en"), Place("en", "medical"), Place("en", "medical", "heart"), Place("de", "law")]
)


@given(places, st.integers(1, 2**36), places)
def test_an_advert_stands_under_exactly_the_keys_that_filters_it_meets_ask_for(
    place: Place, size: int, filter_place: Place
) -> None:
    value = replace(ADVERT, place=place, size=size)
    keys = set(advert.index_keys(value))
    assert len(keys) == 8
    for wild in product((True, False), repeat=3):
        words = zip(wild, (filter_place.lang, filter_place.domain, filter_place.sub), strict=True)
        asked = ["*" if any_ else word for any_, word in words]
        key = advert.index_key(*asked, size_class(size), "adapter")
        meets = all(
            any_ or word == own
            for any_, word, own in zip(
                wild, asked, (place.lang, place.domain, place.sub), strict=True
            )
        )
        assert (key in keys) == meets


def test_kinds_and_sizes_have_keys_of_their_own() -> None:
    large: Advert = replace(ADVERT, size=2**36)
    base: Advert = replace(ADVERT, kind="base")
    assert set(advert.index_keys(ADVERT)).isdisjoint(advert.index_keys(large))
    assert set(advert.index_keys(ADVERT)).isdisjoint(advert.index_keys(base))


@given(records(IDENTITY.node))
def test_a_sub_key_begins_with_the_signer(record: advert.Record) -> None:
    assert advert.subkey_of(record).split("/")[0] == IDENTITY.node
    assert advert.keys_of(record)


def test_a_withdrawn_advert_takes_the_place_of_the_advert() -> None:
    gone = replace(ADVERT, withdrawn=True, expires_at=ADVERT.expires_at + 1)
    assert advert.subkey_of(gone) == advert.subkey_of(ADVERT)
    assert advert.keys_of(gone) == advert.keys_of(ADVERT)
