"""What is remembered of a place: on disk before it counts, and the same after every restart."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from node.books import OWN, Books
from node.trust_db import TrustDb, Update
from p2pllm.errors import LocalError
from p2pllm.ids import NodeId, content_id
from p2pllm.keys import Identity
from p2pllm.names import Place
from tests.node.test_effects import SUMMARY, node
from trust.evidence import check_chain
from trust.features import Features, Measured
from trust.judge import Round
from trust.ledger import Merged, Operator, Unfit

PLACE = Place("en", "medical")
ME = Identity(SigningKey(bytes(32)))


def measured(name: str, peer: NodeId, agreement: float = 0.5) -> Measured:
    features = Features(
        sound=True,
        norm=1.0,
        shares=(0.5, 0.5),
        echo=0.0,
        agreement=agreement,
        alignment=agreement,
        fresh=(1.0,),
        sketch=tuple(0.1 if number == len(name) else 0.01 * number for number in range(8)),
    )
    return Measured(peer=peer, update=content_id(name.encode()), features=features)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[TrustDb]:
    made = TrustDb(tmp_path / "trust.db")
    yield made
    made.close()


def judge(books: Books, *names: str) -> None:
    batch = tuple(measured(name, node(1 + at)) for at, name in enumerate(names))
    summaries = {one.update: SUMMARY for one in batch}
    books.judge(PLACE, Round(batch=batch), {**summaries, OWN: SUMMARY})


def state(books: Books):
    known = books.place(PLACE)
    parts = (known.book, known.tip, known.lines, known.taken, known.open, known.since)
    return deepcopy(parts)


def test_a_restart_finds_the_same_book_bit_for_bit(db: TrustDb) -> None:
    books = Books(db, ME)
    judge(books, "a", "bb")
    update = content_id(b"a")
    books.record(
        PLACE, Merged(taken=(update,), unfit=(Unfit(content_id(b"bb"), "harm", 1.0, 0.5),))
    )
    judge(books, "ccc")
    books.record(PLACE, Operator("quarantine", node(1), "a test"))
    books.record(PLACE, Merged(dropped=(update,)))
    assert state(Books(db, ME)) == state(books)
    assert books.place(PLACE).taken == {}
    assert content_id(b"ccc") in books.place(PLACE).open


def test_every_verdict_on_another_is_signed_and_chained(db: TrustDb) -> None:
    books = Books(db, ME)
    judge(books, "a", "bb")
    judge(Books(db, ME), "ccc")
    chain = check_chain(db.after(ME.node, 0, 10))
    assert [one.epoch for one in chain] == [1, 1, 2]
    assert {one.by for one in chain} == {ME.node}


def test_what_fails_half_way_is_neither_on_disk_nor_in_memory(db: TrustDb) -> None:
    books = Books(db, ME)
    judge(books, "a")
    before, lines = state(books), db.ledger(PLACE)

    def fail(_verdicts: object) -> None:
        raise LocalError("E0802", "the disk is full")

    with pytest.raises(LocalError):
        books.judge(PLACE, Round(batch=(measured("bb", node(2)),)), {}, fail)
    assert state(books) == before
    assert db.ledger(PLACE) == lines
    assert db.tip(ME.node)[0] == 1


def test_looking_at_a_place_leaves_nothing_behind(db: TrustDb) -> None:
    books = Books(db, ME)
    assert books.standing(node(1), PLACE).state == "probation"
    assert books.place(PLACE).lines == 0
    assert books.places() == []


def test_a_changed_ledger_is_found_at_start(db: TrustDb) -> None:
    judge(Books(db, ME), "a")
    judge(Books(db, ME), "bb")
    db._do("UPDATE ledger SET raw = ? WHERE number = 1", db.ledger(PLACE)[1].raw)
    with pytest.raises(LocalError) as found:
        Books(db, ME)
    assert found.value.code == "E0306"


def test_an_update_comes_back_as_it_was_put(db: TrustDb) -> None:
    update = Update(
        place=PLACE,
        manifest=content_id(b"a"),
        peer=node(1),
        model=content_id(b"m"),
        size=5,
        state="held",
        code="E0407",
        message="why",
        reviews=2,
        due_at=1.5,
        heard_at=0.5,
        ours=True,
        sketch=b"signed",
    )
    db.put(update)
    assert db.update(PLACE, update.manifest) == update
    assert db.updates() == db.updates(PLACE) == [update]
    assert (db.pending(PLACE), db.for_judging()) == ([update], [update])
    assert db.waiting(PLACE, node(1)) == (0, 0)  # held: it was judged once
    db.forget(PLACE, update.manifest)
    assert db.updates() == []
