"""The DHT's wire: hivemind's ping, routing table and calls over p2pd, with our rules on them.

The only module that imports hivemind. Nodes are binary peer ids here, records are bytes; no type
of hivemind's leaves. What is stricter than hivemind's DHTNode, and why: docs/specs/dht.md.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID
from hivemind.p2p import P2P, P2PContext, P2PDaemonError, P2PHandlerError, PeerID
from hivemind.proto import dht_pb2
from hivemind.utils.multiaddr import Multiaddr
from hivemind.utils.multiaddr.exceptions import Error as MultiaddrError

from gossip.lookup import REPLICAS, SILENT_S, position
from gossip.shelf import KEYS_A_CALL, MAX_KEPT_BYTES, RECORDS_A_CALL, Kept, Shelf
from gossip.standing import Allowances
from gossip.validator import Validator
from p2pllm import codec
from p2pllm.advert import MAX_RECORD_BYTES
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId

BUCKET = 20  # Kademlia's k: nodes a bucket, and neighbours an answer
DEPTH_MODULO = 5  # Kademlia's b, as hivemind has it
CALL_S = 3.0  # a node that takes longer is passed over
CONNECT_S = 10.0  # a dead address may swallow packets
# What one peer may ask: one unit a call and one a key or record; RATE for ever, BURST at once.
# 500 adverts published in a network so small that this node keeps all of them are 9,000 units.
RATE, BURST = 1000.0, 10_000.0
COST_BYTES = 16 * 1024  # of an answer, a unit: 16 MB a second
WAIT_S = 2.0  # who asks too much waits; who would wait longer is refused, before its CALL_S end
BUSY = "asks too much"  # in a refusal, so that the caller knows that this node lives
_MAX_SILENT = 1024
_PEER_ID_BYTES = 38
_FAULTS = (TimeoutError, OSError, EOFError, P2PDaemonError, P2PHandlerError, DecodeError)


class Answer(msgspec.Struct, frozen=True):
    """What one node says of one key."""

    kept: Kept | None
    near: list[bytes]  # nodes it knows that are nearer


class Wire(DHTProtocol):  # type: ignore[misc]  # hivemind has no types
    """Calls to other nodes, and answers to theirs. Made by `open`; lives as long as the process."""

    def __init__(self, *, _initialized_with_create: bool = False) -> None:
        super().__init__(_initialized_with_create=_initialized_with_create)
        self.validator = Validator()
        self.shelf = Shelf(self.validator)
        self.refused = 0  # calls of peers that asked too much
        self._allowances = Allowances(RATE, BURST)
        self._silent: dict[bytes, float] = {}  # node -> not to be asked before (monotonic)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, control: str) -> "Wire":
        """Take part in the DHT by the p2pd behind this unix socket, known to nobody yet."""
        p2p = await P2P.replicate(Multiaddr(f"/unix{control}"))
        p2p._client.control._pending_calls = _Calls()
        place = DHTID(position(p2p.peer_id.to_bytes()))
        wire: Wire = await cls.create(p2p, place, BUCKET, DEPTH_MODULO, REPLICAS, CALL_S)
        return wire

    async def closed(self) -> None:
        """Return when p2pd is gone."""
        await asyncio.wait([self.p2p._client.control._read_task])

    @property
    def me(self) -> bytes:
        """This node."""
        return bytes(self.p2p.peer_id.to_bytes())

    @property
    def known(self) -> int:
        """How many nodes the routing table holds."""
        return len(self.routing_table.uid_to_peer_id)

    def neighbours(self, key: bytes, count: int = BUCKET, but: bytes = b"") -> list[bytes]:
        """The nodes of the routing table nearest to a key, the nearest first."""
        place = DHTID(position(but)) if but else None
        near = self.routing_table.get_nearest_neighbors(DHTID.from_bytes(key), count, exclude=place)
        return self._sensible(peer_id.to_bytes() for _, peer_id in near)

    def has_met(self, node: bytes) -> bool:
        """Whether a node has answered us, or asked us, and not failed since."""
        return DHTID(position(node)) in self.routing_table

    async def dial(self, peer: str, transports: Iterable[str]) -> bool:
        """Meet a node by its id and addresses; whether it answered."""
        try:
            peer_id = PeerID.from_base58(peer)
            maddrs = [Multiaddr(transport) for transport in transports if transport]
            async with asyncio.timeout(CONNECT_S):
                await self.p2p._client.connect(peer_id, maddrs)
        except (*_FAULTS, ValueError, MultiaddrError):
            return False
        self._silent.pop(peer_id.to_bytes(), None)
        place = await self.call_ping(peer_id)
        if place is not None:
            await self.update_routing_table(place, peer_id)
        return place is not None

    async def find(self, node: bytes, keys: Sequence[bytes]) -> dict[bytes, Answer] | None:
        """What a node keeps under some keys; None if it does not answer, or not with sense."""
        request = dht_pb2.FindRequest(keys=keys, peer=self.node_info)
        response = await self._call(node, "rpc_find", request, dht_pb2.FindResponse)
        if response is None or len(response.results) != len(keys):
            return None
        try:
            return {
                key: Answer(
                    codec.decode(result.value, Kept, MAX_KEPT_BYTES)
                    if result.type == dht_pb2.FOUND_REGULAR
                    else None,
                    self._sensible(result.nearest_peer_ids),
                )
                for key, result in zip(keys, response.results, strict=True)
            }
        except PeerError:
            return None

    async def store(self, node: bytes, entries: Sequence[tuple[bytes, bytes]]) -> list[bool] | None:
        """Ask a node to keep records, given with their key ids; None if it does not answer."""
        kept: list[bool] = []
        for start in range(0, len(entries), RECORDS_A_CALL):
            keys, values = zip(*entries[start : start + RECORDS_A_CALL], strict=True)
            request = dht_pb2.StoreRequest(keys=keys, values=values, peer=self.node_info)
            response = await self._call(node, "rpc_store", request, dht_pb2.StoreResponse)
            if response is None or len(response.store_ok) != len(keys):
                return None
            kept += response.store_ok
        return kept

    def sweep(self) -> None:
        """Forget calls that others gave up, which hivemind keeps."""
        tasks = self.p2p._client.control._handler_tasks
        for call in [call for call, task in tasks.items() if task.done()]:
            del tasks[call]

    def hush(self, node: bytes, seconds: float) -> None:
        """Do not ask a node for a while, nor believe others that name it."""
        now = time.monotonic()
        if len(self._silent) > _MAX_SILENT:
            self._silent = {each: until for each, until in self._silent.items() if until > now}
        self._silent[node] = max(self._silent.get(node, 0.0), now + seconds)

    # What other nodes call; the names are hivemind's

    @classmethod
    def _get_handle_name(cls, _namespace: str | None, method_name: str) -> str:
        return f"/p2pllm/dht/1/{method_name}"

    async def rpc_ping(
        self, request: dht_pb2.PingRequest, context: P2PContext
    ) -> dht_pb2.PingResponse:
        """Say that this node is up."""
        await self._admit(context.remote_id, 0, request)
        return await super().rpc_ping(request, context)

    async def rpc_store(
        self, request: dht_pb2.StoreRequest, context: P2PContext
    ) -> dht_pb2.StoreResponse:
        """Keep records for another node, each by its own proof."""
        entries = list(zip(request.keys, request.values, strict=True))
        if len(entries) > RECORDS_A_CALL:
            raise ValueError(f"{len(entries)} records, at most {RECORDS_A_CALL}")
        await self._admit(context.remote_id, len(entries), request)
        await self._met(request.peer, context.remote_id)
        kept = self.shelf.keep(entries, time.time())
        return dht_pb2.StoreResponse(store_ok=kept, peer=self.node_info)

    async def rpc_find(
        self, request: dht_pb2.FindRequest, context: P2PContext
    ) -> dht_pb2.FindResponse:
        """Say what is kept here under some keys, and which nodes are nearer to them."""
        if len(request.keys) > KEYS_A_CALL:
            raise ValueError(f"{len(request.keys)} keys, at most {KEYS_A_CALL}")
        caller = await self._admit(context.remote_id, len(request.keys), request)
        await self._met(request.peer, context.remote_id)
        response = dht_pb2.FindResponse(peer=self.node_info)
        for key in request.keys:
            kept = self.shelf.get(key, time.time())
            result = response.results.add(type=dht_pb2.NOT_FOUND)
            if kept.records or kept.more:
                result.type, result.value = dht_pb2.FOUND_REGULAR, codec.encode(kept)
            near = self.neighbours(key, BUCKET, context.remote_id.to_bytes())
            result.nearest_peer_ids.extend(near)
        self._allowances.spend(caller, response.ByteSize() / COST_BYTES, time.monotonic())
        return response

    async def update_routing_table(
        self, node_id: DHTID | None, peer_id: PeerID, responded: bool = True
    ) -> None:
        """Note that a node answered or did not; hand a new one what it should keep."""
        node = peer_id.to_bytes()
        place = DHTID(position(node))
        if responded and node_id != place:
            return  # it says it sits where it does not
        is_new = responded and place not in self.routing_table
        await super().update_routing_table(place, peer_id, responded)
        if is_new:
            self._silent.pop(node, None)
            self.spawn(self._hand_over(node))

    # How it is done

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside, for as long as the process lives or it takes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # asyncio itself would not keep it
        task.add_done_callback(self._tasks.discard)

    async def _call(self, node: bytes, method: str, request: Any, reply: type[Any]) -> Any:
        peer_id = _peer_id(node)
        try:
            async with asyncio.timeout(CALL_S):
                response = await self.p2p.call_protobuf_handler(
                    peer_id, self._get_handle_name(None, method), request, reply
                )
        except _FAULTS as fault:
            self.hush(node, SILENT_S)
            if isinstance(fault, P2PHandlerError) and BUSY in str(fault):
                return None  # it lives: without it in our table, two nodes would lose each other
            await self.update_routing_table(None, peer_id, responded=False)
            return None
        await self.update_routing_table(DHTID(position(node)), peer_id)
        return response

    async def _admit(self, peer_id: PeerID, items: int, request: Any) -> NodeId:
        # p2pd vouches for the id. A refusal is an error and no empty answer: that would count as
        # "the key is full" or "nothing is here", and hide records.
        caller = NodeId(peer_id.to_base58())
        units = 1 + max(items, request.ByteSize() / MAX_RECORD_BYTES)
        wait = self._allowances.admit(caller, units, WAIT_S, time.monotonic())
        if wait is None:
            self.refused += 1
            raise ConnectionRefusedError(f"{caller} {BUSY}")
        if wait:
            await asyncio.sleep(wait)
        return caller

    async def _met(self, info: dht_pb2.NodeInfo, peer_id: PeerID) -> None:
        if info.node_id:
            await self.update_routing_table(DHTID.from_bytes(info.node_id), peer_id)

    async def _hand_over(self, node: bytes) -> None:
        entries: list[tuple[bytes, bytes]] = []
        for count, key in enumerate(self.shelf.key_ids()):
            if count % 64 == 63:
                await asyncio.sleep(0)  # a large shelf takes seconds
            if self._should_keep(node, key):
                entries += [(key, value) for value in self.shelf.values(key)]
            if len(entries) > RECORDS_A_CALL:
                await self.store(node, entries)
                entries = []
        if entries:
            await self.store(node, entries)

    def _should_keep(self, node: bytes, key: bytes) -> bool:
        # Of the nodes we know, only the nearest to a key passes it on, or all would.
        target = int.from_bytes(key, "big")
        others = [position(each) ^ target for each in self.neighbours(key, REPLICAS, node)]
        if len(others) < REPLICAS:
            return True
        return position(node) ^ target < others[-1] and position(self.me) ^ target < others[0]

    def _sensible(self, nodes: Iterable[bytes]) -> list[bytes]:
        now = time.monotonic()
        return [
            node
            for node in list(nodes)[:BUCKET]
            if len(node) == _PEER_ID_BYTES
            and node != self.me
            and self._silent.get(node, -math.inf) <= now
        ]


class _Calls(dict[Any, Any]):
    """hivemind's calls that wait for an answer, without those that were given up.

    An answer to one of those would raise in hivemind's reader, and end it.
    """

    def __contains__(self, call: object) -> bool:
        future = self.get(call)
        return future is not None and not future.done()


@lru_cache(maxsize=4096)
def _peer_id(node: bytes) -> PeerID:
    return PeerID(node)  # which writes itself in base58, slowly
