"""Filters over adverts, and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import keys
from p2pllm.advert import SIZE_CLASSES, Advert, index_keys, size_class
from p2pllm.errors import LocalError
from p2pllm.ids import content_id
from p2pllm.names import Place
from p2pllm.query import MAX_SIZE, Query, keys_for, matches, parse_size
from tests.gossip.records import MODEL, advert

ALICE = keys.generate()
MB, GB, MIB, GIB = 10**6, 10**9, 2**20, 2**30


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("<200MB", 0, 200 * MB - 1),
        ("<=200MB", 0, 200 * MB),
        (">1GB", GB + 1, MAX_SIZE),
        (" >= 1 GiB ", GIB, MAX_SIZE),
        ("200MB-2GB", 200 * MB, 2 * GB),
        ("200-500mb", 200 * MB, 500 * MB),
        ("1.5GB..2GB", 1500 * MB, 2 * GB),
        ("<1000", 0, 999),
        (">1TB", None, None),
        ("s1", 0, 4 * MIB),
        ("S4", 64 * MIB + 1, 256 * MIB),
        ("s7", 4 * GIB + 1, MAX_SIZE),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, low: int | None, high: int | None) -> None:
    if low is None:  # more than any model may have
        with pytest.raises(LocalError):
            parse_size(text)
    else:
        assert parse_size(text) == (low, high)


@pytest.mark.parametrize(
    "text",
    ["", "200MB", "small", "<", "<200 parsecs", "2GB-1GB", "s8", "s0", "-1MB", "<0", "1-2-3"],
)
def test_what_is_no_range_of_sizes_is_refused_with_advice(text: str) -> None:
    with pytest.raises(LocalError) as caught:
        parse_size(text)
    assert caught.value.code == "E0204"
    assert caught.value.fix


@pytest.mark.parametrize("name", SIZE_CLASSES)
def test_the_bounds_of_a_class_are_the_sizes_it_holds(name: str) -> None:
    low, high = parse_size(name)
    assert size_class(max(low, 1)) == size_class(high) == name
    assert low <= 1 or size_class(low - 1) != name
    assert high == MAX_SIZE or size_class(high + 1) != name


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), True),
        (Query(lang="en"), True),
        (Query(lang="de"), False),
        (Query(domain="medical"), True),
        (Query(domain=""), False),
        (Query(sub=""), True),
        (Query(sub="cardiology"), False),
        (Query(kind="adapter"), True),
        (Query(kind="base"), False),
        (Query(size_low=300 * MIB, size_high=300 * MIB), True),
        (Query(size_low=300 * MIB + 1), False),
        (Query(size_high=300 * MIB - 1), False),
        (Query(model=MODEL), True),
        (Query(model=content_id(b"another base")), False),
        (Query(licence="apache-2.0"), True),
        (Query(licence="MIT"), False),
        (Query(text="Medical model-7"), True),
        (Query(text="en/medical"), True),
        (Query(text="legal"), False),
    ],
)
def test_a_filter_holds_or_not(query: Query, expected: bool) -> None:
    assert matches(query, advert(ALICE, 7)) is expected


def test_a_query_without_filters_asks_for_fourteen_keys_and_one_with_all_for_one() -> None:
    assert len(keys_for(Query())) == 14
    exact = Query(lang="en", domain="", sub="", size_low=1, size_high=9, kind="base")
    assert keys_for(exact) == ["p2pllm/1/ad/en/-/-/s1/base"]


def test_a_range_of_no_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="none"):
        Query(size_low=2, size_high=1)


def adverts() -> st.SearchStrategy[Advert]:
    word = st.sampled_from(["medical", "law", "x"])
    deep = st.builds(Place, st.sampled_from(["en", "de"]), word, st.sampled_from(["", "a", "b"]))
    places = st.one_of(deep, st.builds(Place, st.sampled_from(["en", "de"])))
    return st.builds(
        lambda place, size, kind: advert(ALICE, place=place, size=size, kind=kind),
        places,
        st.integers(1, MAX_SIZE),
        st.sampled_from(["base", "adapter"]),
    )


def queries() -> st.SearchStrategy[Query]:
    sizes = st.tuples(st.integers(0, MAX_SIZE), st.integers(0, MAX_SIZE)).map(sorted)
    return st.builds(
        lambda lang, domain, sub, kind, size: Query(
            lang=lang, domain=domain, sub=sub, kind=kind, size_low=size[0], size_high=size[1]
        ),
        st.sampled_from([None, "en", "de"]),
        st.sampled_from([None, "", "medical", "law"]),
        st.sampled_from([None, "", "a"]),
        st.sampled_from([None, "base", "adapter"]),
        sizes,
    )


@given(adverts(), queries())
def test_whatever_matches_a_query_stands_under_a_key_the_query_asks_for(
    found: Advert, query: Query
) -> None:
    if matches(query, found):
        assert set(index_keys(found)) & set(keys_for(query))
