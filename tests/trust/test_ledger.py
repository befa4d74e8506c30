"""The ledger: replaying it gives the same book."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.errors import LocalError, PeerError
from tests.trust.test_evidence import ME, chain, observation
from tests.trust.values import any_rounds, node, one_round
from trust.evidence import FIRST, seal
from trust.judge import Book
from trust.ledger import Event, Judged, Operator, Proof, append, apply, read, replay

CONTRADICTION = Proof(chain(1)[0], seal(ME, observation(1, FIRST, verdict="reject")))
operators = st.builds(
    Operator,
    st.sampled_from(["quarantine", "release"]),
    st.integers(0, 5).map(node),
    st.text(max_size=20),
)
events = st.lists(
    st.one_of(any_rounds().map(Judged), operators, st.just(CONTRADICTION)), max_size=6
)


def written(happened: Iterable[Event]) -> list[bytes]:
    before, entries = FIRST, []
    for event in happened:
        before, raw = append(before, event)
        entries.append(raw)
    return entries


def folded(happened: Iterable[Event]) -> Book:
    book = Book()
    for event in happened:
        book = apply(book, event)
    return book


@given(events)
def test_replay_gives_the_same_book_as_living_through_it(happened: list[Event]) -> None:
    entries = written(happened)
    assert list(read(entries)) == happened
    assert replay(entries) == folded(happened)


def test_replay_of_a_long_life_gives_the_same_scores() -> None:
    rng = random.Random(1)
    happened: list[Event] = [Judged(one_round(rng, 8, p2={"agreement": -0.9})) for _ in range(30)]
    happened.insert(20, Operator("release", node(2), "asked to"))
    book = replay(written(happened))
    assert book == folded(happened)
    assert book.peers[node(2)].strikes == 2


def test_a_changed_lost_or_moved_entry_is_found() -> None:
    rng = random.Random(1)
    entries = written(Judged(one_round(rng, 3)) for _ in range(4))
    changed = bytearray(entries[1])
    changed[-5] ^= 1
    for broken in (
        [entries[0], bytes(changed), *entries[2:]],
        entries[1:],
        [entries[0], *entries[2:]],
        [entries[1], entries[0], *entries[2:]],
        [*entries[:3], entries[3][:-1]],
    ):
        with pytest.raises(LocalError) as damaged:
            replay(broken)
        assert damaged.value.code == "E0306"


def test_a_contradiction_bans_whoever_signed_it() -> None:
    assert apply(Book(), CONTRADICTION).peers[ME.node].state == "banned"
    with pytest.raises(PeerError):
        apply(Book(), Proof(CONTRADICTION.one, CONTRADICTION.one))


def test_the_operator_quarantines_and_releases() -> None:
    book = apply(Book(), Operator("quarantine", node(1), "spam"))
    assert book.peers[node(1)].state == "quarantined"
    assert apply(book, Operator("quarantine", node(1), "again")) == book
    assert apply(book, Operator("release", node(1), "sorry")).peers[node(1)].state == "probation"
