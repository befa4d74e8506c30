"""Our own head among those that are told: once, at once, and beyond what an earlier life signed."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nacl.signing import SigningKey

from gossip.head_shelf import HeadShelf
from node.services import Services
from node.telling import show_own
from p2pllm import heads
from p2pllm.heads import Accepted, Head, HeadFile
from p2pllm.ids import ContentId
from p2pllm.keys import Identity
from p2pllm.names import Place

PLACE = Place("en", "medical")
US, THEM, OTHER = (Identity(SigningKey(bytes([number]) * 32)) for number in (1, 2, 3))


def signed(seq: int, *numbers: int, by: Identity = US) -> bytes:
    accepted = tuple(Accepted(ContentId(f"{n:064x}"), 0.5) for n in sorted(numbers))
    return heads.seal(by, Head(by=by.node, place=PLACE, seq=seq, accepted=accepted))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Any]:
    shelf = HeadShelf(tmp_path / "heads.db")
    presence = SimpleNamespace(twin=None)
    network = SimpleNamespace(shelf=shelf, presence=presence)
    states = {THEM.node: "trusted"}
    opinions = SimpleNamespace(state=lambda peer, _place: states.get(peer, "probation"))
    trust = SimpleNamespace(heads=HeadFile(tmp_path / "heads"), opinions=opinions)
    yield SimpleNamespace(network=network, trust=trust, identity=US)
    shelf.close()


def told(node: Any) -> tuple[int, int]:
    [head] = node.network.shelf.of(PLACE)
    return head.seq, len(head.accepted)


def test_a_head_that_changed_is_told_once(node: Any) -> None:
    services, files = cast(Services, node), node.trust.heads
    assert not show_own(services, PLACE)
    assert files.stamp(PLACE) is None
    files.write(signed(1, 1))
    first = files.stamp(PLACE)
    assert show_own(services, PLACE)
    assert not show_own(services, PLACE)
    assert told(node) == (1, 1)
    files.write(signed(2, 1, 2))
    assert files.stamp(PLACE) != first
    assert show_own(services, PLACE)
    assert told(node) == (2, 2)


def test_a_node_restored_from_an_old_copy_goes_beyond_its_later_head(node: Any) -> None:
    services, files = cast(Services, node), node.trust.heads
    files.write(signed(4, 1))
    node.network.shelf.add(signed(9, 1, 2), 0.5, 1.0)  # heard from a peer
    assert show_own(services, PLACE)
    assert told(node) == (10, 1)
    assert files.read(PLACE).seq == 10
    assert not show_own(services, PLACE)


def test_two_nodes_of_one_key_do_not_outbid_each_other(node: Any) -> None:
    node.network.presence.twin = "it runs elsewhere"
    node.trust.heads.write(signed(4, 1))
    node.network.shelf.add(signed(9, 1, 2), 0.5, 1.0)
    assert not show_own(cast(Services, node), PLACE)
    assert told(node) == (9, 2)


def test_a_head_names_the_keepers_that_its_node_trusts(node: Any) -> None:
    services, files = cast(Services, node), node.trust.heads
    files.write(signed(1, 1))
    assert show_own(services, PLACE)
    assert files.read(PLACE).heirs == ()
    for keeper in (THEM, OTHER):
        node.network.shelf.add(signed(1, 1, by=keeper), 0.5, 1.0)
    assert show_own(services, PLACE)
    assert files.read(PLACE).heirs == (THEM.node,)
    assert files.read(PLACE).seq == 2
    assert not show_own(services, PLACE)
