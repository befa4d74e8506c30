"""Nodes that exchange blobs in tests: endpoints with stores, and providers that follow a script."""

import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import msgspec
import trio
from nacl.signing import SigningKey

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.ledger import FetchEvent
from gossip.messages import EXCHANGE_PROTOCOL, Give, Want
from p2pllm import codec, keys, manifest
from p2pllm.ids import ContentId, NodeId
from p2pllm.manifest import CHUNK_BYTES, File, Manifest
from p2pllm.names import Place
from p2pllm.store import Store
from tests.gossip.endpoints import open_endpoints

Answer = Callable[[trio.SocketStream, Want], Awaitable[None]]
QUOTA = 2**30


class Node:
    """An endpoint with a store."""

    def __init__(self, endpoint: Endpoint, store: Store) -> None:
        self.endpoint, self.store, self.id = endpoint, store, endpoint.node


@asynccontextmanager
async def open_nodes(count: int) -> AsyncIterator[list[Node]]:
    """`count` nodes with empty stores; the first fetches in these tests, the others serve."""
    with tempfile.TemporaryDirectory(prefix="p2s") as name:
        async with AsyncExitStack() as stack:
            endpoints = await stack.enter_async_context(open_endpoints(count))
            stores = [Store(Path(name) / str(number), QUOTA) for number in range(count)]
            for store in stores:
                stack.enter_context(closing(store))
            yield [Node(*pair) for pair in zip(endpoints, stores, strict=True)]


def everyone(_blob: ContentId, _peer: NodeId) -> bool:
    return True


def ignore(_event: FetchEvent) -> None:
    pass


def data_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def put(store: Store, data: bytes) -> File:
    """Put data into a store with its chunk list, as a file of a manifest."""
    with tempfile.NamedTemporaryFile() as source:
        source.write(data)
        source.flush()
        stored = store.put_file(Path(source.name))
    return File(
        path="blob",
        size=stored.size,
        blake3=stored.blake3,
        chunks=stored.chunks,
        sha256=stored.sha256,
    )


async def answer_with(node: Node, answer: Answer) -> None:
    """Have a node answer wants for its blobs' chunk lists honestly, and others with `answer`."""

    async def handler(_peer: NodeId, stream: trio.SocketStream) -> None:
        while True:
            want = codec.decode(await read_frame(stream, 1024), Want, 1024)
            if node.store.size(want.blob) < CHUNK_BYTES:
                await give(stream, node.store.read(want.blob, CHUNK_BYTES))
            else:
                await answer(stream, want)

    await node.endpoint.handle(EXCHANGE_PROTOCOL, handler)


async def give(stream: trio.SocketStream, part: bytes, size: int | None = None) -> None:
    head = Give(status="ok", size=size or len(part), length=len(part))
    await write_frame(stream, codec.encode(head))
    await stream.send_all(part)


def offer(data: bytes, part: bytes) -> Give:
    return Give(status="ok", size=len(data), length=len(part))


def part_of(node: Node, want: Want) -> bytes:
    data = node.store.path(want.blob).read_bytes()
    return data[want.first * CHUNK_BYTES : (want.first + want.count) * CHUNK_BYTES]


def spoil(path: Path, offset: int, step: int) -> None:
    """Change one byte in every `step` of a stored file, as a failing disk or a liar would."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    for place in range(offset, len(data), step):
        data[place] ^= 1
    path.write_bytes(data)


def model(store: Store, contents: Sequence[bytes]) -> tuple[Manifest, bytes]:
    """A signed base of these files, in the store; the same for the same contents."""
    stored = [put(store, data) for data in contents]
    files = tuple(
        msgspec.structs.replace(file, path=f"f{n}.safetensors") for n, file in enumerate(stored)
    )
    signer = keys.Identity(SigningKey(bytes(32)))
    made = Manifest(
        kind="base",
        place=Place("en"),
        name="tiny",
        by=signer.node,
        created_at=1.0,
        licence="Apache-2.0",
        consent=True,
        model=manifest.model_id(files),
        params=1,
        base_size=0,
        files=files,
    )
    _, record = manifest.seal(signer, made)
    store.put_bytes(record)
    return made, record
