"""The libp2p host that py-libp2p's pubsub runs on, made of p2pd streams.

Goals: one p2pd stream a direction and peer, and nothing above it but GossipSub's own messages;
identity from p2pd alone. Non-goals: dialling by address, peer records, muxing. Why there is no
second Noise handshake inside p2pd's stream: docs/specs/announce.md, "The stream".
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import msgspec
import trio
from libp2p.abc import IMuxedConn, INetStream, INotifee
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamReset
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11

from gossip.endpoint import Endpoint
from p2pllm.errors import Unavailable
from p2pllm.ids import NodeId, node_id_bytes

# GossipSub 1.1 in signature policy StrictNoSign, under our own name: other swarms' pubsub stays
# out, and the number moves when the rules of docs/specs/announce.md do.
PROTOCOL = "/p2pllm/gossip/1"

MAX_LINKS = 128  # peers that have a gossip stream to us; of the endpoint's 512 streams
STALL_S = 30.0  # a peer that takes no byte for so long is gone
RETRY_S = 1.0  # first pause before linking back again; doubles
MAX_RETRY_S = 60.0


class Tally(msgspec.Struct):
    """Bytes of GossipSub RPCs, both ways, as they enter and leave p2pd."""

    bytes_in: int = 0
    bytes_out: int = 0


def peer_id(node: NodeId) -> ID:
    """py-libp2p's form of a node id."""
    return ID(node_id_bytes(node))


def node_of(peer: ID) -> NodeId:
    """The node id of a peer id that came out of `peer_id`."""
    return NodeId(peer.to_base58())


class RpcStream(INetStream):
    """One p2pd stream as py-libp2p reads and writes it: out to a peer, or in from one."""

    def __init__(self, peer: ID, socket: trio.SocketStream, tally: Tally) -> None:
        self.peer_id = peer
        self.muxed_conn = cast(IMuxedConn, self)  # pubsub asks it for peer_id, and nothing else
        self.metric_send_channel = None
        self.lost = trio.Event()  # set once the stream is of no more use
        self._socket = socket
        self._tally = tally
        self._buffer = bytearray()
        self._sending = trio.Lock()

    def get_protocol(self) -> TProtocol:
        """What the router takes this stream for; it knows its own protocols only."""
        return PROTOCOL_ID_V11

    def set_protocol(self, protocol_id: TProtocol) -> None:
        """Nothing to set: there is one protocol."""

    def get_remote_address(self) -> None:
        """None: where a peer is, p2pd knows."""

    async def read(self, n: int | None = None) -> bytes:
        """Up to n bytes; b'' at the end of the stream, StreamReset if it broke."""
        if not self._buffer:
            try:
                data = await self._socket.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
                raise StreamReset("the stream broke") from gone
            self._tally.bytes_in += len(data)
            self._buffer += data
        part = bytes(self._buffer[:n])
        del self._buffer[: len(part)]
        return part

    async def write(self, data: bytes) -> None:
        """Send one whole RPC; StreamReset if the stream is gone or the peer takes nothing."""
        async with self._sending:
            with trio.move_on_after(STALL_S) as stalled:
                try:
                    await self._socket.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
                    self.drop()
                    raise StreamReset("the stream broke") from gone
            if stalled.cancelled_caught:
                self.drop()  # half an RPC may be out
                raise StreamReset(f"the peer took nothing for {STALL_S:.0f} s")
            self._tally.bytes_out += len(data)

    async def watch(self) -> None:
        """Return when the other end is gone: nothing is ever sent back on an outgoing stream."""
        try:
            await self._socket.receive_some(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.drop()

    def drop(self) -> None:
        """Close at once; whoever reads or writes meets StreamReset."""
        self._socket.socket.close()
        self.lost.set()

    async def close(self) -> None:
        """Close at once."""
        self.drop()

    async def reset(self) -> None:
        """Close at once."""
        self.drop()


class P2pdHost:
    """What pubsub asks of a libp2p host: our id, streams out, a handler for streams in.

    It tells pubsub of no addresses and of no connections: Links below decides when to link.
    """

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery, tally: Tally) -> None:
        self._endpoint = endpoint
        self._nursery = nursery
        self._tally = tally
        self._me = peer_id(endpoint.node)
        self.on_lost: Callable[[RpcStream], None] = lambda stream: None

    def get_id(self) -> ID:
        """Our own peer id."""
        return self._me

    async def new_stream(self, peer: ID, _protocols: Sequence[TProtocol]) -> RpcStream:
        """A gossip stream to this peer; Unavailable E0902 if it cannot be had."""
        socket = await self._endpoint.open_stream(node_of(peer), PROTOCOL)
        stream = RpcStream(peer, socket, self._tally)
        self._nursery.start_soon(self._watch, stream)
        return stream

    async def _watch(self, stream: RpcStream) -> None:
        await stream.watch()
        self.on_lost(stream)

    def set_stream_handler(self, _protocol: TProtocol, _handler: object) -> None:
        """Nothing to keep: Links hands incoming streams over."""

    def get_network(self) -> "P2pdHost":
        """Itself; pubsub asks its network for the three methods that follow."""
        return self

    def get_peerstore(self) -> "P2pdHost":
        """Itself; pubsub asks its peer store for our own record."""
        return self

    def register_notifee(self, _notifee: INotifee) -> None:
        """Nothing to notify: Links tells pubsub itself."""

    def get_connections(self, _peer: ID) -> list[object]:
        """None, so that pubsub starts no retries of its own."""
        return []

    def get_addrs(self) -> list[object]:
        """None: addresses are p2pd's and the DHT's."""
        return []

    def get_local_record(self) -> "_NoRecord":
        """The record of no addresses, which the router sends as no record."""
        return _NoRecord()


class _NoRecord:
    def _env_addrs_set(self) -> set[object]:
        return set()

    def marshal_envelope(self) -> bytes:
        return b""


class Links:
    """Which peers we exchange RPCs with: at most one stream each way, the incoming ones bounded."""

    def __init__(
        self,
        open_out: Callable[[ID], Awaitable[RpcStream]],
        read_in: Callable[[RpcStream], Awaitable[None]],
        welcome: Callable[[NodeId], bool],
        tally: Tally,
    ) -> None:
        self._open_out = open_out
        self._read_in = read_in
        self._welcome = welcome
        self._tally = tally
        self._incoming: dict[NodeId, RpcStream] = {}
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    async def accept(self, node: NodeId, socket: trio.SocketStream) -> None:
        """Serve one incoming gossip stream until it ends; p2pd has proved whose it is."""
        full = len(self._incoming) >= MAX_LINKS and node not in self._incoming
        if self._closed or full or not self._welcome(node):
            return
        stream = RpcStream(peer_id(node), socket, self._tally)
        if node in self._incoming:
            self._incoming[node].drop()  # its end is gone, or it would not have come again
        self._incoming[node] = stream
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._link_back, stream)
                    await self._read_in(stream)
                    nursery.cancel_scope.cancel()
            finally:
                self._scopes.discard(scope)
                stream.drop()
                if self._incoming.get(node) is stream:
                    del self._incoming[node]

    async def _link_back(self, stream: RpcStream) -> None:
        # GossipSub speaks over one stream each way: as long as a peer speaks to us, be linked to
        # it, so that it hears our subscriptions and grafts.
        pause = RETRY_S
        while True:
            try:
                out = await self._open_out(stream.peer_id)
                pause = RETRY_S
                await out.lost.wait()
            except Unavailable:
                pass  # p2pd cannot reach it now; it is tried again
            await trio.sleep(pause)
            pause = min(pause * 2, MAX_RETRY_S)

    def close(self) -> None:
        """End all incoming streams, and take no more."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
