"""A peer that lies, for the demo and the attack tests: forged adverts, bytes that are not theirs.

It speaks the real protocols over a real endpoint of its own; nothing in an honest node knows it.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from gossip import index
from gossip.dht import Dht, open_dht
from gossip.endpoint import Endpoint, open_endpoint
from gossip.fetch import fetch_model
from gossip.framing import read_frame, write_frame
from gossip.messages import EXCHANGE_PROTOCOL, MAX_REQUEST_BYTES, Give, Want
from gossip.pipe import Entry
from p2pllm import advert, codec, keys
from p2pllm.advert import Advert, Provider
from p2pllm.ids import ContentId, NodeId
from p2pllm.keys import Identity
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.store import Store

LISTEN = ("/ip4/127.0.0.1/tcp/0",)
QUOTA_BYTES = 1024**3


@dataclass(frozen=True)
class Liar:
    """A running hostile peer."""

    identity: Identity
    endpoint: Endpoint
    dht: Dht
    store: Store
    corrupted: set[ContentId]

    async def forge(self, honest: Advert) -> list[bool]:
        """Put a changed advert in its holder's name, signed by us: under which keys it was kept."""
        now = time.time()
        claim = msgspec.structs.replace(
            honest, issued_at=now, expires_at=now + advert.MAX_TTL_S / 2, licence="MIT"
        )
        value = self.identity.sign("advert.1", codec.encode(claim)) + codec.encode(claim)
        entries = [Entry(key=key, value=value) for key in advert.keys_of(claim)]
        return list(await self.dht.put(entries))

    async def mirror(self, manifest: ContentId, honest: NodeId) -> None:
        """Fetch a model as anybody may, hand it out with a flipped byte a chunk, and say so."""
        described, _ = await fetch_model(
            self.endpoint, self.store, manifest, [honest], lambda _event: None
        )
        self.corrupted.update(file.blake3 for file in described.files)
        now = time.time()
        record = Provider(
            by=self.identity.node,
            what=manifest,
            manifest=manifest,
            issued_at=now,
            expires_at=now + advert.MAX_TTL_S / 2,
        )
        await index.publish(self.dht, self.identity, record, now)

    async def serve(self, _peer: NodeId, stream: trio.SocketStream) -> None:
        """Answer wants: the truth for manifests and chunk lists, one wrong byte for the rest."""
        while True:
            request = await read_frame(stream, MAX_REQUEST_BYTES)
            want = codec.decode(request, Want, MAX_REQUEST_BYTES)
            if not self.store.has(want.blob):
                await write_frame(stream, codec.encode(Give(status="unknown")))
                continue
            blob = await trio.Path(self.store.path(want.blob)).read_bytes()
            first = want.first * CHUNK_BYTES
            data = bytearray(blob[first : first + want.count * CHUNK_BYTES])
            if want.blob in self.corrupted:
                for offset in range(0, len(data), CHUNK_BYTES):
                    data[offset] ^= 1
            give = Give(status="ok", size=len(blob), length=len(data))
            await write_frame(stream, codec.encode(give))
            await stream.send_all(bytes(data))


@asynccontextmanager
async def open_liar(folder: Path, seed: str) -> AsyncIterator[Liar]:
    """A hostile peer joined to the network of `seed` for the length of the block."""
    await trio.Path(folder).mkdir(parents=True, exist_ok=True)
    identity = keys.load_or_create(folder / "key")
    with closing(Store(folder / "store", QUOTA_BYTES)) as store:
        async with open_endpoint(folder / "run", folder / "key", LISTEN) as endpoint:
            await endpoint.connect(seed)
            async with open_dht(endpoint.control) as dht:
                await dht.bootstrap([seed])
                liar = Liar(identity, endpoint, dht, store, set())
                await endpoint.handle(EXCHANGE_PROTOCOL, liar.serve)
                yield liar
