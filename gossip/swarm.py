"""The announcement channel: GossipSub topics over p2pd streams, each message judged before relay.

Goals: a message is passed on only if `validate` accepts it; one that no honest node relays costs
its sender its place; a slow, silent or hostile peer costs us a bounded amount and nobody else
anything. Non-goals: whom to know (node and the DHT), what a message means, missed messages
(gossip.news). Wire format: docs/specs/announce.md.
"""

import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, cast

import msgspec
import trio
from google.protobuf.message import DecodeError
from libp2p.abc import IHost, INetStream
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from gossip import standing
from gossip.endpoint import Endpoint
from gossip.p2pd_transport import PROTOCOL, Links, P2pdHost, RpcStream, Tally, node_of, peer_id
from gossip.router import Router, message_id
from gossip.standing import Allowance, Standing
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.keys import Identity

Verdict = Literal["accept", "reject", "ignore"]
Validate = Callable[[NodeId, str, bytes], Verdict]

MAX_DATA_BYTES = 4096  # of one message; an announcement has at most 1,024
MAX_RPC_BYTES = 256 * 1024 + 4096  # 64 messages of 4 KB, the most one IWANT brings
MAX_TOPICS = 256  # a peer may follow
SEEN_S = 600  # a message is known for so long; after it, the replay rule of the topic holds
MAX_REFUSED = 4096  # ids of rejected messages, so that repeating one costs us no verification
RATE, BURST = 50.0, 500.0  # messages and control entries a second that we read from one peer
COST_BYTES = 4096  # of an RPC weigh as much as one message
MAX_HEARD = 1024  # messages that wait for node

_TOPIC = re.compile(r"[a-z0-9]{1,16}/[0-9]{1,4}/[a-z0-9/-]{1,80}")
_MALFORMED = (MessageTooLarge, ParseError, DecodeError, UnicodeDecodeError)

logger = logging.getLogger(__name__)


class Heard(msgspec.Struct, frozen=True):
    """A message that `validate` accepted, and who handed it to us (not who made it)."""

    topic: str
    relayer: NodeId
    data: bytes


class Swarm:
    """Our place in the swarm: topics joined, peers linked, messages in and out."""

    def __init__(self, rpcs: "_Rpcs", peers: Standing, tally: Tally) -> None:
        self._rpcs = rpcs
        self._peers = peers
        self._tally = tally

    async def connect(self, peer: NodeId) -> None:
        """Exchange gossip with this peer from now on; does nothing if we do already.

        Raises Unavailable E0902 if p2pd cannot reach it or it takes no gossip stream.
        """
        await self._rpcs.link(peer_id(peer))

    async def join(self, topic: str) -> None:
        """Hear a topic and help to carry it."""
        assert _TOPIC.fullmatch(topic), topic
        await self._rpcs.subscribe(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Send our own message, joined or not. It is neither judged nor delivered to ourselves."""
        assert len(data) <= MAX_DATA_BYTES
        await self._rpcs.publish(topic, data)

    def heard(self) -> "trio.MemoryReceiveChannel[Heard]":
        """What others said, each message once. When nobody takes it, the newest are dropped."""
        return self._rpcs.inbox

    def peers(self, topic: str | None = None) -> list[NodeId]:
        """The peers we are linked to, or those among them that follow this topic."""
        linked = self._rpcs.peers.keys()
        found = linked if topic is None else linked & self._rpcs.peer_topics.get(topic, set())
        return sorted(node_of(peer) for peer in found)

    def topics(self) -> list[str]:
        """The topics joined."""
        return sorted(self._rpcs.topic_ids)

    def score(self, peer: NodeId) -> float:
        """The peer's score as the router sees it; the thresholds are in gossip.standing."""
        return self._peers.score(peer, time.monotonic())

    def counters(self) -> dict[str, int]:
        """Since the start: messages by verdict, duplicates, drops, and bytes of RPCs."""
        traffic = {"bytes_in": self._tally.bytes_in, "bytes_out": self._tally.bytes_out}
        return {**self._rpcs.counts, **traffic}


@asynccontextmanager
async def open_swarm(
    endpoint: Endpoint,
    identity: Identity,
    validate: Validate,
    score: Callable[[NodeId], float],
) -> AsyncIterator[Swarm]:
    """Take part in gossip for the length of the block; once for each endpoint.

    validate  called with relayer, topic and data of each new message, before it goes further; must
              be quick and must not block
    score     node's opinion of a peer, -100 (do not listen) to +10; 0 for one it does not know. If
              it raises or gives NaN, that is -100. Called several times a second for each peer.
    """
    assert endpoint.node == identity.node  # one key, one id
    # py-libp2p cuts its loggers off from the program's when it is imported.
    logging.getLogger("libp2p").propagate = True
    tally, peers = Tally(), Standing(score)
    async with trio.open_nursery() as nursery:
        host = P2pdHost(endpoint, nursery, tally)
        router = Router(peers)
        rpcs = _Rpcs(host, router, peers, validate)
        links = Links(rpcs.link, rpcs.stream_handler, rpcs.welcome, tally)
        try:
            async with background_trio_service(rpcs), background_trio_service(router):
                await rpcs.wait_until_ready()
                await endpoint.handle(PROTOCOL, links.accept)
                yield Swarm(rpcs, peers, tally)
        finally:
            links.close()
            rpcs.close()
            nursery.cancel_scope.cancel()


class _Rpcs(Pubsub):
    """RPCs in and out: read within bounds, judged before relay, faults charged to their sender."""

    def __init__(self, host: P2pdHost, router: Router, peers: Standing, validate: Validate) -> None:
        super().__init__(
            cast(IHost, host),  # the part of it that pubsub uses
            router,
            seen_ttl=SEEN_S,
            strict_signing=False,  # announcements carry their publisher's signature
            msg_id_constructor=message_id,
            max_subscriptions_per_peer=MAX_TOPICS,
        )
        host.on_lost = self._forget
        self.counts = Counter(accept=0, reject=0, ignore=0, duplicate=0, malformed=0, dropped=0)
        self._outbox, self.inbox = trio.open_memory_channel[Heard](MAX_HEARD)
        self._standing = peers
        self._validate = validate
        self._refused: dict[bytes, None] = {}
        self._linking: dict[ID, trio.Lock] = {}
        self._speaking: dict[ID, INetStream] = {}  # who sends us RPCs, and over what

    async def link(self, peer: ID) -> RpcStream:
        """Our stream to this peer, opened if need be; Unavailable E0902 if it cannot be had."""
        lock = self._linking.setdefault(peer, trio.Lock())
        try:
            async with lock:
                await self._handle_new_peer(peer)
        except StreamError as gone:
            raise Unavailable("E0902", f"{node_of(peer)} closed the gossip stream") from gone
        finally:
            if not lock.locked():
                self._linking.pop(peer, None)
        stream = cast("RpcStream | None", self.peers.get(peer))
        if stream is None or stream.lost.is_set():
            self._handle_dead_peer(peer)
            raise Unavailable("E0902", f"{node_of(peer)} closed the gossip stream")
        return stream

    def welcome(self, node: NodeId) -> bool:
        """Whether to take a stream from this peer at all."""
        return self._standing.score(node, time.monotonic()) >= standing.GRAYLIST

    async def stream_handler(self, stream: INetStream) -> None:
        """Act on one peer's RPCs until its stream ends, or until it is not worth reading."""
        peer = stream.muxed_conn.peer_id
        node = node_of(peer)
        self._speaking[peer] = stream
        allowance = Allowance(RATE, BURST, BURST, trio.current_time())
        try:
            while self.welcome(node):
                raw = await read_varint_prefixed_bytes_limited(stream, MAX_RPC_BYTES)
                rpc = rpc_pb2.RPC.FromString(raw)
                await self._take(peer, node, rpc)
                # Reading no further is what slows a peer down: its own queue fills and drops.
                await trio.sleep(allowance.spend(_cost(rpc, len(raw)), trio.current_time()))
            self._handle_dead_peer(peer)
        except _MALFORMED as bad:
            self.counts["malformed"] += 1
            self._charge(node, standing.MALFORMED, f"no RPC: {bad}")
        except (IncompleteReadError, StreamError):
            pass  # the peer closed it; nothing is wrong with that
        finally:
            if self._speaking.get(peer) is stream:
                del self._speaking[peer]
                self._forget_all_subscriptions(peer)

    async def _take(self, peer: ID, node: NodeId, rpc: rpc_pb2.RPC) -> None:
        if len(rpc.subscriptions) > 2 * MAX_TOPICS:
            self._charge(node, standing.EXCESS, f"{len(rpc.subscriptions)} subscriptions at once")
        for subscription in rpc.subscriptions[: 2 * MAX_TOPICS]:
            if _is_text(subscription.topicid) and _TOPIC.fullmatch(subscription.topicid):
                self.handle_subscription(peer, subscription)
        for message in rpc.publish:
            await self._receive(peer, node, message)
        if rpc.HasField("control"):
            await self.router.handle_rpc(rpc, peer)

    async def _receive(self, peer: ID, node: NodeId, message: rpc_pb2.Message) -> None:
        fault = _fault_of(message)
        if fault:
            self.counts["reject"] += 1
            self._charge(node, standing.REJECTED, fault)
            return
        topic, key = message.topicIDs[0], message_id(message)
        if topic not in self.topic_ids:
            return
        if self._standing.score(node, time.monotonic()) < standing.PUBLISH:
            self.counts["ignore"] += 1
            return
        if self.seen_messages.has(key):
            self.counts["duplicate"] += 1
            if key in self._refused:
                self._charge(node, standing.REJECTED, "a message that was rejected before")
            return
        verdict = self._judge(node, topic, message.data)
        self.counts[verdict] += 1
        self.seen_messages.add(key)
        if verdict == "reject":
            self._refuse(node, key, topic)
        elif verdict == "accept":
            self._deliver(Heard(topic, node, message.data))
            await self.router.publish(peer, message)

    def _judge(self, node: NodeId, topic: str, data: bytes) -> Verdict:
        # The callable is node's and reads bytes that strangers chose. A fault in it must neither
        # let a message through nor end the swarm.
        try:
            return self._validate(node, topic, data)
        except PeerError as bad:
            logger.debug("%s on %s: %s", node, topic, bad)
            return "reject"
        except P2pllmError as ours:
            logger.warning("a message on %s could not be judged: %s", topic, ours)
            return "ignore"
        except Exception:
            logger.exception("judging a message of %s on %s failed; it is ignored", node, topic)
            return "ignore"

    def _refuse(self, node: NodeId, key: bytes, topic: str) -> None:
        self._refused[key] = None
        while len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._charge(node, standing.REJECTED, f"a message on {topic} that breaks its rules")

    def _deliver(self, heard: Heard) -> None:
        try:
            self._outbox.send_nowait(heard)
        except trio.WouldBlock:
            self.counts["dropped"] += 1

    def _charge(self, node: NodeId, points: float, why: str) -> None:
        self._standing.charge(node, points, time.monotonic())
        logger.debug("%s is charged %.0f points: %s", node, points, why)

    async def publish(self, topic_id: str | list[str], data: bytes) -> None:
        """Send a message of ours: topic and data and nothing else (StrictNoSign)."""
        message = rpc_pb2.Message(topicIDs=[topic_id] if isinstance(topic_id, str) else topic_id)
        message.data = data
        self.seen_messages.add(message_id(message))
        await self.router.publish(self.my_id, message)

    def get_hello_packet(self) -> rpc_pb2.RPC:
        """The first RPC on a stream: the topics we follow, and no peer record."""
        follow = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in self.topic_ids]
        return rpc_pb2.RPC(subscriptions=follow)

    def _build_announce_rpc(
        self, topic_id: str, subscribe: bool
    ) -> tuple[rpc_pb2.RPC, rpc_pb2.RPC.SubOpts]:
        entry = rpc_pb2.RPC.SubOpts(subscribe=subscribe, topicid=topic_id)
        return rpc_pb2.RPC(subscriptions=[entry]), entry

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        # A peer says what it follows on its stream to us; that ours to it broke changes nothing.
        if peer_id not in self._speaking:
            super()._forget_all_subscriptions(peer_id)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        stream = cast("RpcStream | None", self.peers.get(peer_id))
        super()._handle_dead_peer(peer_id)
        if stream is not None:
            stream.drop()

    def _forget(self, stream: RpcStream) -> None:
        if cast("RpcStream | None", self.peers.get(stream.peer_id)) is stream:
            self._handle_dead_peer(stream.peer_id)

    def close(self) -> None:
        """Drop all streams out, and end the thread that pubsub keeps."""
        for peer in list(self.peers):
            cast(RpcStream, self.peers[peer]).drop()
        self._outbox.close()
        self.seen_messages.stop()


def _is_text(topic: object) -> bool:
    return isinstance(topic, str)  # protobuf hands over bytes where a text is not UTF-8


def _fault_of(message: rpc_pb2.Message) -> str:
    if len(message.topicIDs) != 1 or not _is_text(message.topicIDs[0]):
        return f"a message on {len(message.topicIDs)} topics, or on none that is text"
    if len(message.data) > MAX_DATA_BYTES:
        return f"a message of {len(message.data)} bytes"
    extra = [name for name in ("from_id", "seqno", "signature", "key") if message.HasField(name)]
    return f"a message with {', '.join(extra)}, which StrictNoSign forbids" if extra else ""


def _cost(rpc: rpc_pb2.RPC, size: int) -> float:
    control = rpc.control
    entries = len(rpc.publish) + len(rpc.subscriptions) + len(control.graft) + len(control.prune)
    return entries + len(control.ihave) + len(control.iwant) + size / COST_BYTES
