"""Announcements of 1 KB to 16 real nodes: who gets them, how soon, at how many bytes.

Sixteen p2pd, each with its own key, on loopback TCP; their Python sides share one process, so that
figures include the queueing of sixteen nodes' work on one core. Announcements are signed, padded
to the size with a field that readers ignore, and judged by the real rules before each relay.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio

from gossip.announce import AnnounceRules, topic_of
from gossip.endpoint import Endpoint, open_endpoint
from gossip.messages import ANNOUNCE_PURPOSE, MAX_ANNOUNCE_BYTES, Announce
from gossip.swarm import Swarm, open_swarm
from p2pllm import codec, keys
from p2pllm.ids import NodeId, content_id
from p2pllm.names import Place

PLACE = Place("en", "medical")
TOPIC = topic_of(PLACE)
LINKS = 4  # each node links to so many of those before it
SETTLE_S = 5.0  # for the meshes, and then for the measurement of the idle swarm
WAIT_S = 15.0  # for the last delivery


class Node:
    """One node, and when it heard what."""

    def __init__(self, identity: keys.Identity, endpoint: Endpoint, swarm: Swarm) -> None:
        self.identity, self.endpoint, self.swarm = identity, endpoint, swarm
        self.process = psutil.Process(endpoint.pid)
        self.heard: dict[bytes, float] = {}

    async def listen(self) -> None:
        async for heard in self.swarm.heard():
            self.heard[heard.data] = time.perf_counter()

    def network_bytes(self) -> int:
        """What this p2pd has written to the network: all it wrote, less what it wrote to us."""
        return int(self.process.io_counters().write_chars) - self.swarm.counters()["bytes_in"]


def main(argv: list[str]) -> dict[str, Any]:
    """Run the bench."""
    options = argparse.ArgumentParser(prog="python -m tests.bench gossip")
    options.add_argument("--nodes", type=int, default=16)
    options.add_argument("--announcements", type=int, default=300)
    options.add_argument("--interval", type=float, default=0.05, help="seconds between two")
    options.add_argument("--seed", type=int, default=1, help="of who links to whom")
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="p2g") as folder:
        return trio.run(_measure, Path(folder), chosen)


async def _measure(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    async with trio.open_nursery() as nursery:
        homes = [folder / str(number) for number in range(chosen.nodes)]
        nodes = [await nursery.start(_run_node, home) for home in homes]
        await _link(nodes, random.Random(chosen.seed))
        print(f"{len(nodes)} nodes linked", file=sys.stderr)
        idle = await _during(nodes, partial(trio.sleep, SETTLE_S))
        sent: dict[bytes, float] = {}
        announce = partial(_announce, nodes, chosen.announcements, chosen.interval, sent)
        busy = await _during(nodes, announce)
        result = _summary(nodes, sent, idle, busy)
        nursery.cancel_scope.cancel()
    return result


async def _run_node(home: Path, *, task_status: "trio.TaskStatus[Node]") -> None:
    await trio.Path(home).mkdir()
    identity, rules = keys.load_or_create(home / "key"), AnnounceRules()

    def validate(_relayer: NodeId, topic: str, data: bytes) -> Any:
        return rules.judge(data, topic, time.time()).verdict

    async with (
        open_endpoint(home / "run", home / "key", ["/ip4/127.0.0.1/tcp/0"]) as endpoint,
        open_swarm(endpoint, identity, validate, lambda _peer: 0.0) as swarm,
    ):
        await swarm.join(TOPIC)
        node = Node(identity, endpoint, swarm)
        task_status.started(node)
        await node.listen()


async def _link(nodes: Sequence[Node], rng: random.Random) -> None:
    for number, node in enumerate(nodes):
        for other in rng.sample(nodes[:number], min(number, LINKS)):
            await node.endpoint.connect((await other.endpoint.addresses())[0])
            await node.swarm.connect(other.endpoint.node)
    await trio.sleep(SETTLE_S)


class Use(msgspec.Struct, frozen=True):
    """What all nodes used while something ran."""

    seconds: float
    network_bytes: int
    rpc_bytes: int
    duplicates: int
    cpu_s: float


async def _during(nodes: Sequence[Node], work: Callable[[], Awaitable[None]]) -> Use:
    before = _used(nodes)
    await work()
    after = _used(nodes)
    return Use(*(b - a for a, b in zip(before, after, strict=True)))


def _used(nodes: Sequence[Node]) -> tuple[float, int, int, int, float]:
    counters = [node.swarm.counters() for node in nodes]
    processes = [psutil.Process(os.getpid()), *(node.process for node in nodes)]
    return (
        time.perf_counter(),
        sum(node.network_bytes() for node in nodes),
        sum(counter["bytes_out"] for counter in counters),
        sum(counter["duplicate"] for counter in counters),
        sum(t.user + t.system for t in (process.cpu_times() for process in processes)),
    )


async def _announce(
    nodes: Sequence[Node], count: int, interval: float, sent: dict[bytes, float]
) -> None:
    for number in range(count):
        node = nodes[number % len(nodes)]
        data = _announcement(node.identity, number)
        sent[data] = time.perf_counter()
        await node.swarm.publish(TOPIC, data)
        await trio.sleep(interval)
    with trio.move_on_after(WAIT_S):
        while sum(len(node.heard) for node in nodes) < count * (len(nodes) - 1):  # noqa: ASYNC110
            await trio.sleep(0.05)


def _announcement(identity: keys.Identity, number: int) -> bytes:
    now = time.time()
    announce = Announce(
        by=identity.node,
        place=PLACE,
        manifest=content_id(b"%d" % number),
        kind="adapter",
        name="bench",
        model=content_id(b"base"),
        size=9_000_000,
        created_at=now,
        expires_at=now + 3600,
    )
    fields = msgspec.to_builtins(announce)
    room = MAX_ANNOUNCE_BYTES - 64 - len(codec.encode(fields | {"pad": "x" * 256})) + 256
    body = codec.encode(fields | {"pad": "x" * room})
    raw = identity.sign(ANNOUNCE_PURPOSE, body) + body
    assert len(raw) == MAX_ANNOUNCE_BYTES
    return raw


def _summary(
    nodes: Sequence[Node], sent: dict[bytes, float], idle: Use, busy: Use
) -> dict[str, Any]:
    waits: dict[bytes, list[float]] = {data: [] for data in sent}
    for node in nodes:
        for data, when in node.heard.items():
            waits[data].append((when - sent[data]) * 1e3)
    every = sorted(wait for found in waits.values() for wait in found)
    last = sorted(max(found) for found in waits.values() if len(found) == len(nodes) - 1)
    due = len(sent) * (len(nodes) - 1)
    return {
        "nodes": len(nodes),
        "announcements": len(sent),
        "announce_bytes": MAX_ANNOUNCE_BYTES,
        "delivered": len(every) / due,
        "p50_ms": _share(every, 0.5),
        "p99_ms": _share(every, 0.99),
        "max_ms": _share(every, 1.0),
        "last_p50_ms": _share(last, 0.5),
        "last_p99_ms": _share(last, 0.99),
        "wire_bytes_per_delivery": round(busy.network_bytes / len(every)),
        "rpc_bytes_per_delivery": round(busy.rpc_bytes / len(every)),
        "duplicates_per_delivery": round(busy.duplicates / len(every), 2),
        "idle_wire_bytes_s_per_node": round(idle.network_bytes / idle.seconds / len(nodes), 1),
        "idle_cpu_share_per_node": round(idle.cpu_s / idle.seconds / len(nodes), 4),
        "cpu_ms_per_delivery": round(busy.cpu_s * 1e3 / len(every), 2),
        "linked_peers_mean": round(sum(len(n.swarm.peers()) for n in nodes) / len(nodes), 1),
        "python_processes": 1,
        "rss_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
    }


def _share(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
