"""Puts and gets among nodes that are objects in this process; their calls are real otherwise."""

import asyncio
import random
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from gossip import replicas
from gossip.lookup import REPLICAS, position
from gossip.pipe import Entry
from gossip.replicas import Replicas
from gossip.shelf import Kept, Shelf
from gossip.validator import Validator, key_id
from p2pllm import keys
from p2pllm.advert import index_keys, presence_key, provider_key, seal
from tests.gossip.records import MODEL, advert, presence, provider

ALICE = keys.generate()
KEY = presence_key(ALICE.node)


class Answer(msgspec.Struct):
    kept: Kept | None
    near: list[bytes]


class MemoryWire:
    """One node of a network in memory; a dead one answers nothing."""

    def __init__(self, net: dict[bytes, "MemoryWire"], node: bytes) -> None:
        self.net, self.me = net, node
        self.validator = Validator()
        self.shelf = Shelf(self.validator, full=8)
        self.dead = False
        self.hushed: list[bytes] = []
        self.lies: list[bytes] = []
        self.invented: list[bytes] = []
        self.table: set[bytes] = set()
        self.tasks: list[asyncio.Task[None]] = []
        net[node] = self

    @property
    def known(self) -> int:
        return len(self.table)

    def neighbours(self, key: bytes, count: int = 20) -> list[bytes]:
        target = int.from_bytes(key, "big")
        return sorted(self.table, key=lambda node: position(node) ^ target)[:count]

    def has_met(self, node: bytes) -> bool:
        return node in self.table

    async def dial(self, peer: str, _transports: Iterable[str]) -> bool:
        self.table.add(bytes.fromhex(peer))
        self.net[bytes.fromhex(peer)].table.add(self.me)
        return True

    async def find(self, node: bytes, wanted: Sequence[bytes]) -> dict[bytes, Answer] | None:
        await asyncio.sleep(0)
        if node not in self.net:
            await asyncio.sleep(3600)  # invented
        other = self.net[node]
        if other.dead:
            self.table.discard(node)
            return None
        self.table.add(node)
        other.table.add(self.me)
        return {
            key: Answer(
                Kept(records=tuple(other.lies)) if other.lies else other.kept(key),
                other.invented or [near for near in other.neighbours(key) if near != self.me],
            )
            for key in wanted
        }

    def kept(self, key: bytes) -> Kept | None:
        kept = self.shelf.get(key, time.time())
        return kept if kept.records or kept.more else None

    async def store(self, node: bytes, entries: Sequence[tuple[bytes, bytes]]) -> list[bool] | None:
        await asyncio.sleep(0)
        other = self.net[node]
        return None if other.dead else other.shelf.keep(entries, time.time())

    def hush(self, node: bytes, _seconds: float) -> None:
        self.hushed.append(node)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))


def network(count: int) -> list[MemoryWire]:
    net: dict[bytes, MemoryWire] = {}
    rng = random.Random(count)
    wires = [MemoryWire(net, bytes([0, 36]) + rng.randbytes(36)) for _ in range(count)]
    for wire in wires:
        # As Kademlia has it: all near neighbours, and some nodes everywhere.
        near = sorted(wires, key=lambda other: position(other.me) ^ position(wire.me))[:10]
        wire.table = {other.me for other in [*near, *rng.sample(wires, min(count, 8))]} - {wire.me}
    return wires


def holders(wires: list[MemoryWire], key: str) -> list[MemoryWire]:
    return [wire for wire in wires if wire.kept(key_id(key))]


def raw_presence(expires_in: float = 600, instance: str = "0") -> bytes:
    now = time.time()
    return seal(ALICE, presence(ALICE, now, instance=instance * 32, expires_at=now + expires_in))


def test_a_record_stands_at_the_five_nodes_nearest_to_its_key() -> None:
    async def main() -> None:
        wires = network(40)
        assert await Replicas(wires[0]).put([Entry(key=KEY, value=raw_presence())]) == [True]
        target = int.from_bytes(key_id(KEY), "big")
        nearest = sorted(wires, key=lambda wire: position(wire.me) ^ target)[:REPLICAS]
        assert {wire.me for wire in holders(wires, KEY)} == {wire.me for wire in nearest}

    asyncio.run(main())


def test_dead_replicas_are_replaced_by_the_next_nearest() -> None:
    async def main() -> None:
        wires = network(40)
        target = int.from_bytes(key_id(KEY), "big")
        by_distance = sorted(wires, key=lambda wire: position(wire.me) ^ target)
        for wire in by_distance[:3]:
            wire.dead = True
        assert await Replicas(by_distance[20]).put([Entry(key=KEY, value=raw_presence())]) == [True]
        assert len(holders(wires, KEY)) == REPLICAS

    asyncio.run(main())


def test_everything_is_found_when_replicas_hold_different_parts() -> None:
    async def main() -> None:
        wires = network(30)
        peers = [keys.generate() for _ in range(8)]
        key = provider_key(MODEL)
        raws = [seal(peer, provider(peer)) for peer in peers]
        assert await Replicas(wires[3]).put([Entry(key=key, value=raw) for raw in raws])
        parts = holders(wires, key)
        for number, wire in enumerate(parts):  # each forgets all but one or two
            entries = [(key_id(key), raw) for raw in raws[number::REPLICAS]]
            wire.shelf = Shelf(wire.validator)
            assert all(wire.shelf.keep(entries, time.time()))
        [held] = await Replicas(wires[9]).get([key])
        assert set(held.values) == set(raws)

    asyncio.run(main())


def test_of_two_versions_among_the_replicas_the_later_is_returned() -> None:
    async def main() -> None:
        wires = network(20)
        old, new = raw_presence(60, "a"), raw_presence(120, "b")
        await Replicas(wires[0]).put([Entry(key=KEY, value=old)])
        one = holders(wires, KEY)[2]
        one.shelf.keep([(key_id(KEY), new)], time.time())
        for wire in wires:
            [held] = await Replicas(wire).get([KEY])
            assert held.values == (new,)

    asyncio.run(main())


def bad_answers() -> list[list[bytes]]:
    good, bob = raw_presence(), keys.generate()
    forged = seal(bob, presence(bob))[:64] + good[64:]
    elsewhere = seal(bob, presence(bob))
    return [[forged], [good, elsewhere], [b"x" * 100]]


@pytest.mark.parametrize("lies", bad_answers(), ids=["forged", "wrong key", "nonsense"])
def test_a_node_that_answers_with_what_no_honest_node_keeps_is_not_heard_nor_asked_again(
    lies: list[bytes],
) -> None:
    async def main() -> None:
        wires = network(12)
        good = raw_presence(300, "c")
        await Replicas(wires[0]).put([Entry(key=KEY, value=good)])
        liar, asker = holders(wires, KEY)[0], wires[5]
        liar.lies = lies
        asker.table.add(liar.me)
        [held] = await Replicas(asker).get([KEY])
        assert held.values == (good,)
        assert asker.hushed == [liar.me]

    asyncio.run(main())


def test_a_node_whose_records_died_on_the_way_is_not_blamed() -> None:
    async def main() -> None:
        wires = network(12)
        good = raw_presence(300, "c")
        await Replicas(wires[0]).put([Entry(key=KEY, value=good)])
        slow = holders(wires, KEY)[0]
        slow.lies = [raw_presence(-5, "d")]
        asker = next(wire for wire in wires if wire not in holders(wires, KEY))
        asker.table.add(slow.me)
        [held] = await Replicas(asker).get([KEY])
        assert held.values == (good,)
        assert asker.hushed == []

    asyncio.run(main())


def test_a_full_key_says_false_to_who_puts_and_more_to_who_gets() -> None:
    async def main() -> None:
        wires, key = network(20), provider_key(MODEL)
        peers = [keys.generate() for _ in range(9)]
        entries = [Entry(key=key, value=seal(peer, provider(peer))) for peer in peers]
        first = Replicas(wires[0])
        assert await first.put(entries[:8]) == [True] * 8
        [held] = await first.get([key])
        assert not held.more
        assert await first.put(entries[8:]) == [False]
        [held] = await Replicas(wires[7]).get([key])
        assert held.more
        assert len(held.values) == 8

    asyncio.run(main())


def test_records_put_while_alone_are_spread_once_there_are_others() -> None:
    async def main() -> None:
        wires = network(15)
        alone, others = wires[0], wires[1:]
        alone.table = set()
        for wire in others:
            wire.table.discard(alone.me)
        ad = advert(ALICE)
        entries = [Entry(key=key, value=seal(ALICE, ad)) for key in index_keys(ad)]
        assert await Replicas(alone).put(entries) == [True] * 8
        first = others[0].me.hex()
        assert await Replicas(alone).join([f"/ip4/1.2.3.4/tcp/1/p2p/{first}"]) == [first]
        await asyncio.gather(*alone.tasks)
        alone.dead = True
        for held in await Replicas(others[9]).get(index_keys(ad)):
            assert held.values == (seal(ALICE, ad),)

    asyncio.run(main())


def test_a_put_with_nobody_there_is_kept_by_the_node_itself() -> None:
    async def main() -> None:
        [wire] = network(1)
        assert await Replicas(wire).put([Entry(key=KEY, value=raw_presence())]) == [True]
        [held] = await Replicas(wire).get([KEY])
        assert len(held.values) == 1

    asyncio.run(main())


def test_nodes_that_do_not_exist_delay_a_search_once_and_hide_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        wires = network(12)
        good = raw_presence()
        await Replicas(wires[0]).put([Entry(key=KEY, value=good)])
        holders(wires, KEY)[1].invented = [bytes([0, 36]) + bytes([n]) * 36 for n in range(200)]
        for wire in wires:
            began = time.monotonic()
            [held] = await Replicas(wire).get([KEY])
            assert held.values == (good,)
            assert time.monotonic() - began < 2.0  # and not for each of the 200

    monkeypatch.setattr(replicas, "QUIET_S", 0.1)
    asyncio.run(main())


def test_one_node_that_says_more_is_not_believed_and_two_are() -> None:
    async def main() -> None:
        wires, key = network(20), provider_key(MODEL)
        peers = [keys.generate() for _ in range(2)]
        entries = [Entry(key=key, value=seal(peer, provider(peer))) for peer in peers]
        await Replicas(wires[0]).put(entries[:1])
        first, second, *_ = holders(wires, key)
        asker = next(wire for wire in wires if wire not in holders(wires, key))
        for liar, believed in ((first, False), (second, True)):
            liar.shelf = Shelf(liar.validator, full=0)
            liar.shelf.keep([(key_id(key), entries[1].value)], time.time())  # refuses, and marks
            [held] = await Replicas(asker).get([key])
            assert held.more is believed
        [held] = await Replicas(first).get([key])
        assert held.more

    asyncio.run(main())
