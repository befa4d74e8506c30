"""What others observed: taken in order from who observed it, weighed, and never more than that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from node import trust_db
from node.books import Books
from node.trust_db import TrustDb
from node.witnesses import Witnesses
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId, content_id
from p2pllm.keys import Identity
from p2pllm.names import Place
from trust.evidence import FIRST, Observation, seal
from trust.ledger import Operator

PLACE = Place("en", "medical")
ME, LIAR, OTHER, SUBJECT = (Identity(SigningKey(bytes([n]) * 32)) for n in range(4))


def said(identity: Identity, count: int, verdict: str = "reject", start: int = 1) -> list[bytes]:
    """A chain of observations of the subject's updates."""
    records: list[bytes] = []
    before = FIRST
    for seq in range(start, start + count):
        one = Observation(
            by=identity.node,
            seq=seq,
            before=before,
            subject=SUBJECT.node,
            update=content_id(f"update {seq}".encode()),
            place=PLACE,
            epoch=seq,
            verdict=verdict,  # type: ignore[arg-type]
            features=content_id(b"features"),
            probe=content_id(b"probe"),
            observed_at=1.7e9,
        )
        records.append(seal(identity, one))
        before = content_id(records[-1])
    return records


@pytest.fixture
def db(tmp_path: Path) -> Iterator[TrustDb]:
    made = TrustDb(tmp_path / "trust.db")
    yield made
    made.close()


@pytest.fixture
def books(db: TrustDb) -> Books:
    return Books(db, ME)


@pytest.fixture
def witnesses(db: TrustDb, books: Books) -> Witnesses:
    return Witnesses(ME.node, db, books)


def trusted(books: Books, peer: NodeId) -> None:
    books.record(PLACE, Operator("trust", peer, "known"))


def test_a_chain_is_taken_page_by_page(witnesses: Witnesses) -> None:
    records = said(OTHER, 5)
    assert witnesses.from_number(OTHER.node) == 0
    assert witnesses.take(OTHER.node, records[:3]) == 3
    assert witnesses.from_number(OTHER.node) == 2
    assert witnesses.take(OTHER.node, records[2:]) == 2
    assert witnesses.take(OTHER.node, records[4:]) == 0


def test_two_tales_under_one_number_ban_who_told_them(witnesses: Witnesses, books: Books) -> None:
    witnesses.take(LIAR.node, said(LIAR, 2))
    assert witnesses.take(LIAR.node, said(LIAR, 2, "accept")[1:]) == 0
    assert books.standing(LIAR.node, PLACE).state == "banned"


def test_a_gap_is_refused_and_nothing_of_it_is_kept(witnesses: Witnesses, db: TrustDb) -> None:
    records = said(OTHER, 4)
    with pytest.raises(PeerError):
        witnesses.take(OTHER.node, [records[0], records[2]])
    assert db.tip(OTHER.node)[0] == 0


def test_what_another_observed_is_not_taken(witnesses: Witnesses, db: TrustDb) -> None:
    with pytest.raises(PeerError):
        witnesses.take(LIAR.node, said(OTHER, 2))
    assert db.observers() == []


def test_strangers_words_move_no_score(witnesses: Witnesses) -> None:
    before = witnesses.score(SUBJECT.node, PLACE)
    for number in range(10, 30):
        stranger = Identity(SigningKey(bytes([number]) * 32))
        witnesses.take(stranger.node, said(stranger, 3))
    assert witnesses.score(SUBJECT.node, PLACE) == before


def test_a_trusted_witness_moves_a_score_within_the_cap_and_no_state(
    witnesses: Witnesses, books: Books
) -> None:
    trusted(books, OTHER.node)
    before = witnesses.score(SUBJECT.node, PLACE)
    witnesses.take(OTHER.node, said(OTHER, 9))
    after = witnesses.score(SUBJECT.node, PLACE)
    assert before - 0.25 <= after < before
    assert books.standing(SUBJECT.node, PLACE).state == "probation"


def test_only_the_latest_records_of_a_node_are_kept(
    witnesses: Witnesses, db: TrustDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_db, "MAX_OF_OBSERVER", 3)
    records = said(OTHER, 8)
    witnesses.take(OTHER.node, records)
    assert db.after(OTHER.node, 0, 100) == records[5:]
    assert witnesses.take(OTHER.node, records[7:]) == 0
