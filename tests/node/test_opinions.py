"""One opinion of a peer for gossip, search and fetch: faults on the wire and verdicts together."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from gossip import standing as wire
from node.books import Books
from node.events import Events
from node.opinions import Opinions
from node.standing import FAULT, Faults
from node.trust_db import TrustDb
from node.witnesses import Witnesses
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId
from p2pllm.keys import Identity
from p2pllm.names import Place
from tests.node.test_effects import node
from trust.ledger import Operator

PLACE, OTHER = Place("en", "medical"), Place("en", "law")
ME = Identity(SigningKey(bytes(32)))


class Bench:
    """Opinions over a ledger of their own."""

    def __init__(self, db: TrustDb) -> None:
        self.events = Events(lambda: 0.0)
        self.books = Books(db, ME)
        faults = Faults(self.events, lambda: 0.0)
        self.opinions = Opinions(ME.node, self.books, faults, Witnesses(ME.node, db, self.books))

    def put(self, act: str, peer: NodeId, place: Place = PLACE) -> None:
        self.books.record(place, Operator(act, peer, "a test"))  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    db = TrustDb(tmp_path / "trust.db")
    yield Bench(db)
    db.close()


def test_verdicts_reach_the_score_that_gossip_asks_for(bench: Bench) -> None:
    assert bench.opinions.score(node(1)) == 0.0
    bench.put("trust", node(1))
    assert bench.opinions.score(node(1)) > 0
    bench.put("quarantine", node(1), OTHER)
    assert wire.PUBLISH < bench.opinions.score(node(1)) < wire.MESH
    bench.put("release", node(1), OTHER)
    assert bench.opinions.score(node(1)) == 0.0


def test_faults_on_the_wire_feed_the_same_score(bench: Bench) -> None:
    bench.put("trust", node(1))
    before = bench.opinions.score(node(1))
    bench.events.refuse(PeerError("E0604", "bad bytes"), peer=node(1))
    assert bench.opinions.score(node(1)) == pytest.approx(before - FAULT)


def test_providers_are_asked_in_the_order_of_their_standing(bench: Bench) -> None:
    bench.put("trust", node(1))
    bench.put("quarantine", node(2))
    peers = [node(2), node(3), node(1), ME.node, node(3)]
    assert bench.opinions.ranked(peers, PLACE) == [node(1), node(3), node(2)]
    assert bench.opinions.ranked(peers, OTHER) == [node(2), node(3), node(1)]


def test_a_banned_peer_is_asked_for_nothing_and_heard_in_nothing(bench: Bench) -> None:
    for _ in range(3):
        bench.put("quarantine", node(1))
        if bench.opinions.state(node(1), PLACE) != "banned":
            bench.put("release", node(1))
    assert bench.opinions.state(node(1), PLACE) == "banned"
    assert bench.opinions.ranked([node(1)], PLACE) == []
    assert bench.opinions.score(node(1)) < wire.GRAYLIST
    assert not bench.opinions.relays(node(1), PLACE)
    assert bench.opinions.relays(node(1), OTHER)
