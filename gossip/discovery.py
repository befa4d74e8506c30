"""The DHT process: hivemind's DHT node on the node's own p2pd, asked over standard input.

The only module that imports hivemind, and no module of ours imports it: `python -m
gossip.discovery CONTROL_SOCKET`, started by `gossip.dht`. It ends when standard input does.
"""

import asyncio
import os
import sys
import time
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import msgpack

from gossip.pipe import READY, Ask, Frames, Held, Reply, frame, read_ask
from gossip.validator import Validator


def _bare(name: str) -> Any:
    """Make a package importable without running its `__init__`."""
    parent, _, child = name.rpartition(".")
    spec = PathFinder.find_spec(name, sys.modules[parent].__path__ if parent else None)
    assert spec is not None
    package = sys.modules[name] = module_from_spec(spec)
    if parent:
        setattr(sys.modules[parent], child, package)
    return package


# hivemind's own `__init__`s import torch: 280 MB and 2 s for a DHT that needs none of it. Without
# them 38 MB and 0.15 s.
_bare("hivemind")
_bare("hivemind.dht")
_utils = _bare("hivemind.utils")
if True:
    from hivemind.utils.logging import get_logger
    from hivemind.utils.serializer import MSGPackSerializer, SerializerBase
    from hivemind.utils.timed_storage import get_dht_time

    _utils.get_logger = get_logger
    _utils.MSGPackSerializer = MSGPackSerializer
    _utils.SerializerBase = SerializerBase
    _utils.get_dht_time = get_dht_time
    from hivemind.dht.crypto import DHTRecord, RecordValidatorBase
    from hivemind.dht.node import DHTNode
    from hivemind.dht.routing import DHTID
    from hivemind.p2p import P2P, PeerID
    from hivemind.p2p.p2p_daemon_bindings.utils import ControlFailure
    from hivemind.utils.multiaddr import Multiaddr


class RecordValidator(RecordValidatorBase):  # type: ignore[misc]  # hivemind is untyped
    def __init__(self) -> None:
        self.rules = Validator()

    def validate(self, record: DHTRecord) -> bool:
        try:
            subkey = msgpack.unpackb(record.subkey)
            value = msgpack.unpackb(record.value)
        except ValueError:
            return False
        if not isinstance(value, bytes):
            return False
        return self.rules.accepts(record.key, subkey, value, record.expiration_time, time.time())


class Node:
    def __init__(self, p2p: P2P, node: DHTNode) -> None:
        self.p2p, self.node = p2p, node

    async def answer(self, ask: Ask) -> Reply:
        if ask.verb == "put":
            ok = await self.node.store_many(
                [e.key.encode() for e in ask.entries],
                [e.value for e in ask.entries],
                [e.expires_at for e in ask.entries],
                [e.subkey for e in ask.entries],
            )
            return Reply(
                number=ask.number,
                stored=tuple(ok[e.key.encode(), e.subkey] for e in ask.entries),
            )
        if ask.verb == "get":
            found = await self.node.get_many(
                [key.encode() for key in ask.keys], float("inf"), beam_size=8, num_workers=8
            )
            values = []
            for key in ask.keys:
                held = found[key.encode()]
                values.append(
                    Held(values=tuple(v.value for v in held.value.values()) if held else ())
                )
            return Reply(number=ask.number, found=tuple(values))
        if ask.verb == "bootstrap":
            await asyncio.gather(*(self._join(address) for address in ask.addresses))
            await self.node.find_nearest_nodes([self.node.node_id])
        return Reply(number=ask.number, size=len(self.node.protocol.routing_table.uid_to_peer_id))

    async def _join(self, address: str) -> None:
        transport, _, peer = address.rpartition("/p2p/")
        peer_id = PeerID.from_base58(peer)
        try:
            await self.p2p._client.connect(peer_id, [Multiaddr(transport)])
        except ControlFailure:
            return
        await self.node.protocol.call_ping(peer_id)


async def serve(control: Path) -> None:
    p2p = await P2P.replicate(Multiaddr(f"/unix{control}"))
    node = await DHTNode.create(
        p2p=p2p,
        node_id=DHTID.generate(source=p2p.peer_id.to_bytes()),
        record_validator=RecordValidator(),
        cache_locally=False,
        cache_nearest=0,
        cache_on_store=False,
        cache_refresh_before_expiry=0,
        reuse_get_requests=False,
    )
    service = Node(p2p, node)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    lock = asyncio.Lock()

    async def write(reply: Reply) -> None:
        async with lock:
            data = frame(reply)
            await loop.run_in_executor(None, out.write, data)

    async def handle(ask: Ask) -> None:
        try:
            reply = await service.answer(ask)
        except Exception as fault:  # noqa: BLE001  # the edge of this process
            reply = Reply(number=ask.number, fault=repr(fault))
        await write(reply)

    await write(Reply(number=READY))
    frames = Frames()
    tasks = set()
    while data := await reader.read(65536):
        for body in frames.feed(data):
            task = asyncio.create_task(handle(read_ask(body)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
