"""Whom we meet: one silent peer holds up nobody else, and is asked again later and later."""

import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from gossip.endpoint import Endpoint
from gossip.heard import HeardLog
from gossip.news import OVERLAP_S
from gossip.swarm import Swarm
from node import peers as peers_module
from node.config import NetworkConfig
from node.events import Events
from node.library import Library
from node.peers import LINK_WAIT_MAX_S, SEED_WAIT_MAX_S, Peers
from p2pllm.errors import Unavailable
from p2pllm.ids import NodeId
from p2pllm.names import Place

GOOD, SILENT, PLAIN = (NodeId(f"12D3KooW{letter * 44}") for letter in "GSP")


class World:
    """An endpoint and a swarm in memory: one peer never answers, one has none of our protocols."""

    node = NodeId("12D3KooW" + "M" * 44)

    def __init__(self) -> None:
        self.dialled: list[tuple[float, str]] = []
        self.linked: list[NodeId] = []
        self.asked: list[float] = []

    async def connect(self, to: str) -> None:
        if to.startswith("/"):
            self.dialled.append((trio.current_time(), to[-1]))
        if SILENT in to:
            await trio.sleep_forever()
        if to == PLAIN:
            self.asked.append(trio.current_time())
            raise Unavailable("E0902", "it speaks another language")
        self.linked += [] if to.startswith("/") else [NodeId(to)]

    def peers(self, _topic: str | None = None) -> Any:
        return list(self.linked)


def peers_of(*seeds: NodeId) -> Peers:
    library = cast(Library, SimpleNamespace(fact=lambda _name, default: default))
    bootstrap = tuple(f"/ip4/192.0.2.1/tcp/1/p2p/{seed}" for seed in seeds)
    config = NetworkConfig(bootstrap=bootstrap)
    heard, events = cast(HeardLog, None), Events(trio.current_time)
    return Peers(library, events, config, heard, lambda *_heard: None)


def test_a_silent_seed_holds_up_no_other_and_is_dialled_less_and_less() -> None:
    async def main() -> None:
        world, peers = World(), peers_of(SILENT, GOOD)
        with trio.move_on_after(600):
            while True:
                await peers.dial_seeds(cast(Endpoint, world), lambda _address: None)
                await trio.sleep(1)
        first = {name: at for at, name in reversed(world.dialled)}
        assert first["G"] == first["S"], "both at once"
        times = [at for at, name in world.dialled if name == "S"]
        waits = [b - a for a, b in pairwise(times)]
        assert waits[0] < 16 < waits[-1] < SEED_WAIT_MAX_S * 1.25 + 12

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_peers_are_linked_side_by_side_and_a_stranger_is_asked_less_and_less() -> None:
    async def main() -> None:
        world, peers = World(), peers_of()
        known = [SimpleNamespace(node=each) for each in (SILENT, PLAIN, GOOD)]

        async def connected() -> Any:
            return known

        endpoint = cast(Endpoint, SimpleNamespace(peers=connected))
        async with trio.open_nursery() as nursery:
            await peers.join_swarm(endpoint, cast(Swarm, world), nursery)
            await trio.testing.wait_all_tasks_blocked()
            assert world.linked == [GOOD]
            for _ in range(400):
                await trio.sleep(2)
                await peers.join_swarm(endpoint, cast(Swarm, world), nursery)
            nursery.cancel_scope.cancel()
        waits = [b - a for a, b in pairwise(world.asked)]
        assert waits[0] <= 4 < 40 < waits[-1] <= LINK_WAIT_MAX_S * 1.25 + 4
        assert world.linked == [GOOD]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_comes_after_three_were_asked_is_asked_for_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[NodeId, float] = {}

    async def catch_up(*given: Any) -> int:
        asked[given[2]] = given[5]
        return 0

    monkeypatch.setattr(peers_module.news, "catch_up", catch_up)

    async def main() -> None:
        world, peers = World(), peers_of()
        others = [NodeId(f"12D3KooW{letter * 44}") for letter in "ABCD"]
        swarm, endpoint = cast(Swarm, world), cast(Endpoint, world)
        async with trio.open_nursery() as nursery:
            for count in (3, 4):
                world.linked = others[:count]
                peers.catch_up(endpoint, swarm, [Place("en")], nursery)
                await trio.testing.wait_all_tasks_blocked()
        assert [asked[each] for each in others[:3]] == [0.0] * 3
        assert time.time() - 2 * OVERLAP_S < asked[others[3]] < time.time()

    trio.run(main)
