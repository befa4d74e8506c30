"""Places and references: parsed from what people type, printed as they would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.errors import LocalError
from p2pllm.ids import content_id
from p2pllm.names import Place, Ref, exact_ref, parse_lang, parse_place, parse_ref
from tests.strategies import places


@given(places)
def test_a_place_is_read_as_it_is_printed(place: Place) -> None:
    assert parse_place(str(place)) == place


@given(
    places,
    st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True),
    st.one_of(st.just(""), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)),
    st.one_of(st.just(""), st.from_regex(r"[0-9a-f]{8,64}", fullmatch=True)),
)
def test_a_reference_is_read_as_it_is_printed(place: Place, name: str, tag: str, id_: str) -> None:
    ref = Ref(place, name, tag, id_)
    assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    ["", "/", "english", "E1", "en/", "en//x", "en/Medical", "en/a/", "en/a/b/c", "en/-a", "en/a-",
     "en/a b", "en\n", "e", "en/" + "a" * 33, "en_us", "../en", "en/.."],
)  # fmt: skip
def test_what_is_no_place_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(LocalError) as refused:
        parse_place(text)
    assert refused.value.code == "E0201"
    assert refused.value.fix


@pytest.mark.parametrize(
    "text",
    ["", "notes", "en", "en/", "en/a/b/c/d", "en/notes:", "en/notes@", "en/notes@12345",
     "en/notes:A", "en/Notes", "en/notes@" + "a" * 65, "en/notes\n", "en/../notes"],
)  # fmt: skip
def test_what_is_no_reference_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(LocalError) as refused:
        parse_ref(text)
    assert refused.value.code == "E0202"
    assert refused.value.fix


def test_a_reference_has_a_place_of_one_to_three_words() -> None:
    assert parse_ref("en/notes") == Ref(Place("en"), "notes")
    assert parse_ref("en/medical/notes") == Ref(Place("en", "medical"), "notes")
    assert parse_ref("pt-br/law/tax/notes:v1@00112233") == Ref(
        Place("pt-br", "law", "tax"), "notes", "v1", "00112233"
    )


def test_a_language_is_read_in_any_case() -> None:
    assert parse_place("EN/medical") == Place("en", "medical")
    assert parse_ref("Pt-BR/law/notes") == Ref(Place("pt-br", "law"), "notes")
    assert parse_lang("EN") == "en"
    for text in ("English", "en/medical", ""):
        with pytest.raises(LocalError, match="E0201"):
            parse_lang(text)


def test_an_exact_reference_names_a_manifest() -> None:
    manifest = content_id(b"m")
    ref = parse_ref(exact_ref(Place("en", "medical"), "notes", manifest))
    assert manifest.startswith(ref.id)
    assert len(ref.id) == 16


def test_a_sub_domain_needs_a_domain() -> None:
    with pytest.raises(ValueError, match="needs a domain"):
        Place("en", "", "cardiology")


def test_places_sort_parent_first() -> None:
    assert sorted([Place("en", "a", "b"), Place("en"), Place("de", "z"), Place("en", "a")]) == [
        Place("de", "z"), Place("en"), Place("en", "a"), Place("en", "a", "b"),
    ]  # fmt: skip
