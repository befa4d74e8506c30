"""Heads: what merging promises, and the file that keeps them."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import heads
from p2pllm.errors import LocalError, PeerError
from p2pllm.heads import Accepted, Head, HeadFile
from p2pllm.keys import generate
from p2pllm.names import Place
from tests.strategies import accepted_sets, heads_of
from tests.vectors.values import IDENTITY, named

ALICE, BOB = generate(), generate()
EN = Place("en")
some_heads = st.lists(st.one_of(heads_of(ALICE.node), heads_of(BOB.node)), max_size=6)


def a_head(seq: int, *updates: str, place: Place = EN) -> Head:
    pairs = heads.canonical(Accepted(named(update), 0.5) for update in updates)
    return Head(by=IDENTITY.node, place=place, seq=seq, accepted=pairs)


@given(accepted_sets, accepted_sets, accepted_sets)
def test_merging_commutes_associates_and_repeats_without_effect(
    a: tuple[Accepted, ...], b: tuple[Accepted, ...], c: tuple[Accepted, ...]
) -> None:
    assert heads.merge(a, b) == heads.merge(b, a)
    assert heads.merge(heads.merge(a, b), c) == heads.merge(a, heads.merge(b, c))
    assert heads.merge(a, a) == a
    assert heads.merge(heads.merge(a, b), b) == heads.merge(a, b)


@given(accepted_sets, accepted_sets)
def test_a_merge_holds_every_update_once_and_dropping_undoes_it(
    a: tuple[Accepted, ...], b: tuple[Accepted, ...]
) -> None:
    both = heads.merge(a, b)
    names = [pair.manifest for pair in both]
    assert names == sorted({pair.manifest for pair in (*a, *b)})
    new = {pair.manifest for pair in b} - {pair.manifest for pair in a}
    rest = heads.without(both, new)
    assert [pair.manifest for pair in rest] == [pair.manifest for pair in a]


@given(some_heads, st.randoms(use_true_random=False))
def test_the_latest_heads_do_not_depend_on_order_or_repetition(some: list[Head], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = some + some[:2]
    random.shuffle(shuffled)
    newest = heads.latest(some)
    assert heads.latest(shuffled) == newest
    assert heads.latest(newest) == newest
    for head in some:
        [kept] = [one for one in newest if (one.by, one.place) == (head.by, head.place)]
        assert kept.seq >= head.seq


@given(heads_of(IDENTITY.node))
def test_a_signed_head_opens_to_itself(head: Head) -> None:
    assert heads.open_head(heads.seal(IDENTITY, head)) == head


def test_the_largest_head_fits_its_limit() -> None:
    pairs = (Accepted(named(str(n)), 0.123456789) for n in range(heads.MAX_ACCEPTED))
    word = "a" * 32
    head = Head(
        by=IDENTITY.node,
        place=Place("abc-abcdefgh", word, word),
        seq=2**53,
        accepted=heads.canonical(pairs),
    )
    record = heads.seal(IDENTITY, head)
    assert len(record) <= heads.MAX_HEAD_BYTES
    assert heads.open_head(record) == head


@pytest.mark.parametrize("order", [("b" * 64, "a" * 64), ("a" * 64, "a" * 64)])
def test_a_head_out_of_order_is_refused(order: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="rising order"):
        Head(
            by=IDENTITY.node,
            place=Place("en"),
            seq=1,
            accepted=tuple(Accepted(manifest, 1.0) for manifest in order),  # type: ignore[arg-type]
        )


def test_a_head_survives_in_its_file_and_an_older_one_does_not_replace_it(tmp_path: Path) -> None:
    kept = HeadFile(tmp_path / "heads")
    assert kept.read(Place("en")) is None
    kept.write(heads.seal(IDENTITY, a_head(2, "one")))
    for seq in (1, 2):
        with pytest.raises(PeerError) as refused:
            kept.write(heads.seal(IDENTITY, a_head(seq, "other")))
        assert refused.value.code == "E0607"
    kept.write(heads.seal(IDENTITY, a_head(3, "one", "two")))
    assert HeadFile(tmp_path / "heads").read(Place("en")) == a_head(3, "one", "two")
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["en.head"]


def test_each_place_has_its_own_file(tmp_path: Path) -> None:
    kept = HeadFile(tmp_path)
    places = [Place("en"), Place("en", "medical"), Place("en", "medical", "x"), Place("en-xx")]
    for seq, place in enumerate(places, 1):
        kept.write(heads.seal(IDENTITY, a_head(seq, place=place)))
    assert [kept.read(place) for place in places] == [
        a_head(seq, place=place) for seq, place in enumerate(places, 1)
    ]


def test_a_damaged_or_misplaced_head_file_is_refused(tmp_path: Path) -> None:
    kept = HeadFile(tmp_path)
    record = heads.seal(IDENTITY, a_head(1, "one"))
    for damaged in (b"", record[:-1], record[:70] + b"x" + record[71:]):
        (tmp_path / "en.head").write_bytes(damaged)
        with pytest.raises(LocalError) as refused:
            kept.read(Place("en"))
        assert refused.value.code == "E0306"
    (tmp_path / "de.head").write_bytes(record)
    with pytest.raises(LocalError, match="damaged"):
        kept.read(Place("de"))


def test_a_forged_head_is_not_kept(tmp_path: Path) -> None:
    record = heads.seal(IDENTITY, a_head(1, "one"))
    with pytest.raises(PeerError) as refused:
        HeadFile(tmp_path).write(bytes(64) + record[64:])
    assert refused.value.code == "E0602"
    assert list(tmp_path.iterdir()) == []


def test_a_head_without_heirs_is_written_as_before_and_one_with_them_in_order() -> None:
    plain = a_head(1, "a")
    assert b"heirs" not in heads.seal(IDENTITY, plain)
    first, second = sorted((ALICE.node, BOB.node))
    named_heirs = msgspec.structs.replace(plain, heirs=(first, second))
    assert heads.open_head(heads.seal(IDENTITY, named_heirs)) == named_heirs
    with pytest.raises(ValueError, match="heirs"):
        msgspec.structs.replace(plain, heirs=(second, first))
