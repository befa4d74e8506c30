"""Heads between nodes: newest of each keeper, through whoever has it, forged ones not at all."""

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from gossip import head_shelf
from gossip.framing import read_frame, write_frame
from gossip.head_shelf import HeadShelf
from gossip.head_sync import serve_heads, sync_heads
from gossip.messages import HEADS_PROTOCOL, MAX_HEADS_BYTES, HeadList
from p2pllm import codec, heads
from p2pllm.errors import LocalError, PeerError
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.keys import Identity
from p2pllm.names import Place
from tests.gossip.swarm_nodes import dial, homes, open_peer

PLACE = Place("en", "medical")
KEYS = [Identity(SigningKey(bytes([number]) * 32)) for number in range(1, 5)]


def signed(keeper: int, seq: int, *numbers: int, place: Place = PLACE) -> bytes:
    accepted = tuple(Accepted(ContentId(f"{n:064x}"), 0.5) for n in sorted(numbers))
    head = Head(by=KEYS[keeper].node, place=place, seq=seq, accepted=accepted)
    return heads.seal(KEYS[keeper], head)


def even(_keeper: NodeId) -> float:
    return 0.5


def test_an_older_head_does_not_come_back(tmp_path: Path) -> None:
    shelf = HeadShelf(tmp_path / "heads.db")
    assert shelf.add(signed(0, 2, 1, 2), 0.5, 10.0) is not None
    assert shelf.add(signed(0, 1, 1), 0.5, 11.0) is None
    assert shelf.add(signed(0, 2, 1, 2), 0.5, 12.0) is None
    assert [head.seq for head in shelf.of(PLACE)] == [2]
    shelf.close()
    again = HeadShelf(tmp_path / "heads.db")
    assert [head.seq for head in again.of(PLACE)] == [2], "it is on disk"
    assert again.places() == [PLACE]
    again.forget(PLACE, KEYS[0].node)
    assert again.of(PLACE) == []
    again.close()


@given(st.permutations([signed(0, 3, 1), signed(0, 3, 2), signed(0, 2, 7), signed(1, 1, 1)]))
def test_of_two_heads_of_one_number_the_same_counts_everywhere(order: list[bytes]) -> None:
    with homes() as folder:
        shelf = HeadShelf(folder / "heads.db")
        for raw in order:
            shelf.add(raw, 0.5, 1.0)
        found = shelf.of(PLACE)
        shelf.close()
    everything = [heads.open_head(raw) for raw in order]
    assert sorted(found, key=lambda h: h.by) == heads.latest(everything)


def test_the_lightest_keepers_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_shelf, "MAX_KEEPERS", 2)
    shelf = HeadShelf(tmp_path / "heads.db")
    for keeper, weight in ((0, 0.9), (1, 0.1), (2, 0.5)):
        shelf.add(signed(keeper, 1, 1), weight, 1.0)
    assert {head.by for head in shelf.of(PLACE)} == {KEYS[0].node, KEYS[2].node}
    assert shelf.add(signed(3, 1, 1), 0.0, 2.0) is None
    shelf.close()


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "heads.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LocalError) as refused:
        HeadShelf(tmp_path / "heads.db")
    assert refused.value.code == "E0306"


def test_heads_pass_through_a_third_node_and_only_what_lacks() -> None:
    hints: list[tuple[NodeId, Place]] = []

    async def test(folder: Path) -> None:
        shelves = [HeadShelf(folder / f"{name}.db") for name in "abc"]
        async with (
            open_peer(folder / "a") as a,
            open_peer(folder / "b") as b,
            open_peer(folder / "c") as c,
        ):
            for endpoint, shelf in zip((a, b, c), shelves, strict=True):
                await serve_heads(endpoint, shelf, lambda *hint: hints.append(hint))
            await dial(b, a)
            await dial(c, b)
            shelves[0].add(signed(0, 1, 1), 0.5, 1.0)
            shelves[1].add(signed(1, 4, 2), 0.5, 1.0)
            assert [h.by for h in await sync_heads(b, shelves[1], a.node, PLACE, even)] == [
                KEYS[0].node
            ]
            assert len(await sync_heads(c, shelves[2], b.node, PLACE, even)) == 2
            assert await sync_heads(c, shelves[2], b.node, PLACE, even) == []
            assert shelves[2].answer(PLACE, shelves[1].known(PLACE)).heads == ()
            merged = [heads.merge(*(h.accepted for h in s.of(PLACE))) for s in shelves[1:]]
            assert merged[0] == merged[1]
            assert await sync_heads(c, shelves[2], b.node, Place("es"), even) == []
            hints.clear()
            shelves[2].add(signed(1, 5, 3), 0.5, 2.0)
            assert await sync_heads(c, shelves[2], b.node, PLACE, even) == []
            while not hints:
                await trio.lowlevel.checkpoint()
            assert hints == [(c.node, PLACE)], "b learns that c holds what it lacks, and asks back"
        for shelf in shelves:
            shelf.close()

    with homes() as folder:
        trio.run(test, folder)


@pytest.mark.parametrize("what", ["forged", "elsewhere"])
def test_a_forged_head_ends_the_stream_and_is_not_kept(what: str) -> None:
    good = signed(0, 1, 1)
    other = signed(1, 1, 1, place=Place("es")) if what == "elsewhere" else b"\0" * 64 + good[64:]

    async def test(folder: Path) -> None:
        shelf = HeadShelf(folder / "heads.db")
        async with open_peer(folder / "a") as liar, open_peer(folder / "b") as us:

            async def answer(_peer: NodeId, stream: trio.SocketStream) -> None:
                await read_frame(stream, MAX_HEADS_BYTES)
                await write_frame(stream, codec.encode(HeadList(heads=(good, other))))

            await liar.handle(HEADS_PROTOCOL, answer)
            await dial(us, liar)
            with pytest.raises(PeerError) as refused:
                await sync_heads(us, shelf, liar.node, PLACE, even)
            assert refused.value.code in ("E0602", "E0603")
            assert [head.by for head in shelf.of(PLACE)] == [KEYS[0].node]
            assert shelf.of(Place("es")) == []
        shelf.close()

    with homes() as folder:
        trio.run(test, folder)
