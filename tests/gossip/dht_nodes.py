"""Real DHT nodes for tests and benches: each a key, a p2pd and a DHT process of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from gossip.dht import Dht, open_dht
from gossip.endpoint import Endpoint, open_endpoint
from gossip.lookup import WIDTH
from p2pllm import keys
from p2pllm.errors import Unavailable
from p2pllm.keys import Identity

LISTEN = ["/ip4/127.0.0.1/tcp/0"]


@dataclass
class DhtNode:
    identity: Identity
    endpoint: Endpoint
    dht: Dht
    address: str
    scope: trio.CancelScope  # cancel it to take the node down
    gone: trio.Event
    fault: Unavailable | None = None


@asynccontextmanager
async def open_nodes(count: int, *, joined: bool = True) -> AsyncIterator[list[DhtNode]]:
    """So many nodes, started side by side; each knows all others if `joined`."""
    home = Path(tempfile.mkdtemp(prefix="d"))
    try:
        async with trio.open_nursery() as nursery:
            nodes: list[DhtNode] = []
            with trio.fail_after(120):
                async with trio.open_nursery() as starting:
                    for number in range(count):
                        starting.start_soon(_start, nursery, home / str(number), nodes)
                if joined:
                    await join(nodes)
            yield nodes
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(home)


@asynccontextmanager
async def open_bare() -> AsyncIterator[Endpoint]:
    """An endpoint with a new key, and no DHT on it."""
    with tempfile.TemporaryDirectory(prefix="d") as folder:
        home = Path(folder)
        keys.load_or_create(home / "key")
        async with open_endpoint(home / "run", home / "key", LISTEN) as endpoint:
            yield endpoint


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once it holds; another process cannot set an event of ours."""
    while not await condition():  # noqa: ASYNC110
        await trio.sleep(0.02)


async def join(nodes: list[DhtNode]) -> None:
    """Let the others join by the first node, and wait until everyone knows enough of them."""
    first, *rest = nodes
    for node in rest:
        await node.dht.bootstrap([first.address])
    for node in nodes:
        while await node.dht.size() < min(len(nodes) - 1, WIDTH):
            await node.dht.bootstrap([each.address for each in nodes if each is not node])


async def _start(nursery: trio.Nursery, home: Path, nodes: list[DhtNode]) -> None:
    nodes.append(await nursery.start(_run, home))


async def _run(home: Path, *, task_status: trio.TaskStatus[DhtNode]) -> None:
    await trio.Path(home).mkdir()
    identity = keys.load_or_create(home / "key")
    node: DhtNode | None = None
    try:
        with trio.CancelScope() as scope:
            async with (
                open_endpoint(home / "run", home / "key", LISTEN) as endpoint,
                open_dht(endpoint.control) as dht,
            ):
                address = (await endpoint.addresses())[0]
                node = DhtNode(identity, endpoint, dht, address, scope, trio.Event())
                task_status.started(node)
                await trio.sleep_forever()
    except Unavailable as fault:
        if node is None:
            raise
        node.fault = fault
    finally:
        if node is not None:
            node.gone.set()
