"""Real nodes for the gossip tests: each its own key, p2pd and swarm, on loopback."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import trio
from libp2p.pubsub.pb import rpc_pb2

from gossip.endpoint import Endpoint, open_endpoint
from gossip.p2pd_transport import PROTOCOL
from gossip.swarm import Heard, Swarm, Validate, open_swarm
from p2pllm import keys
from p2pllm.ids import NodeId

TOPIC = "p2pllm/1/en/medical"
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]
DEADLINE_S = 20.0  # for what takes milliseconds on an idle machine


class Node:
    """One running node and what it heard."""

    def __init__(self, endpoint: Endpoint, swarm: Swarm) -> None:
        self.endpoint = endpoint
        self.swarm = swarm
        self.heard: list[Heard] = []

    @property
    def id(self) -> NodeId:
        return self.endpoint.node

    @property
    def data(self) -> list[bytes]:
        return [heard.data for heard in self.heard]


@contextmanager
def homes() -> Iterator[Path]:
    """A short temporary folder: paths of unix sockets have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pl-", dir="/tmp") as folder:
        yield Path(folder)


def accept_all(_relayer: NodeId, _topic: str, _data: bytes) -> str:
    return "accept"


@asynccontextmanager
async def open_peer(home: Path) -> AsyncIterator[Endpoint]:
    """An endpoint with a new key, and nothing on it."""
    await trio.Path(home).mkdir(exist_ok=True)
    keys.load_or_create(home / "key")
    async with open_endpoint(home / "run", home / "key", LOOPBACK) as endpoint:
        yield endpoint


class Raw:
    """A peer without a swarm, which says what it likes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._streams = AsyncExitStack()

    @property
    def id(self) -> NodeId:
        return self.endpoint.node

    async def speak(self, node: Node, *sent: bytes) -> trio.SocketStream:
        """Send these bytes on a gossip stream of our own; see `framed` and `rpc_of`."""
        stream = await self.endpoint.open_stream(node.id, PROTOCOL)
        await self._streams.enter_async_context(stream)
        for part in sent:
            await stream.send_all(part)
        return stream

    async def aclose(self) -> None:
        await self._streams.aclose()


@asynccontextmanager
async def open_raw(home: Path, node: Node) -> AsyncIterator[Raw]:
    """A raw peer that knows this node."""
    async with open_peer(home) as endpoint:
        raw = Raw(endpoint)
        await dial(endpoint, node.endpoint)
        try:
            yield raw
        finally:
            await raw.aclose()


@asynccontextmanager
async def open_node(
    home: Path,
    validate: Validate = accept_all,
    score: Callable[[NodeId], float] = lambda _: 0.0,
    topics: tuple[str, ...] = (TOPIC,),
) -> AsyncIterator[Node]:
    """A node that follows `topics` and keeps what it hears."""
    async with open_peer(home) as endpoint:
        identity = keys.load(home / "key")
        async with open_swarm(endpoint, identity, validate, score) as swarm:
            node = Node(endpoint, swarm)
            for topic in topics:
                await swarm.join(topic)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_keep, node)
                yield node
                nursery.cancel_scope.cancel()


async def _keep(node: Node) -> None:
    async for heard in node.swarm.heard():
        node.heard.append(heard)


async def dial(here: Endpoint, there: Endpoint) -> None:
    """Make the two p2pd know each other."""
    await here.connect((await there.addresses())[0])


async def link(here: Node, there: Node, topic: str = TOPIC) -> None:
    """Link two nodes, and wait until each is in the other's mesh of a topic both follow."""
    await dial(here.endpoint, there.endpoint)
    await here.swarm.connect(there.id)
    await until(lambda: there.id in here.swarm.peers(topic) and here.id in there.swarm.peers(topic))


async def until(holds: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    """Wait for a condition; fail if it does not come true in time."""
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110  what is waited for is another process's doing
            await trio.sleep(0.01)


def framed(rpc: bytes) -> bytes:
    """An RPC behind its length, as an unsigned varint."""
    length, head = len(rpc), b""
    while length > 127:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + rpc


def rpc_of(*messages: bytes, topic: str = TOPIC, **fields: bytes) -> bytes:
    """One framed RPC with these messages on a topic; `fields` are set on each."""
    publish = [rpc_pb2.Message(topicIDs=[topic], data=data, **fields) for data in messages]
    return framed(rpc_pb2.RPC(publish=publish).SerializeToString())
