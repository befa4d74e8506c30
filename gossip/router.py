"""GossipSub 1.1 as this project runs it: py-libp2p's router, with what it leaves open closed.

What py-libp2p 0.8.1 leaves open and is closed here is listed, with reasons, in
docs/specs/announce.md, "What we change in py-libp2p".
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from blake3 import blake3
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import PeerScorer, ScoreParams

from gossip import standing
from gossip.p2pd_transport import node_of
from gossip.standing import Standing

# GossipSub's own defaults (libp2p specs, gossipsub-v1.0, "Parameters").
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 5, 12
HEARTBEAT_S = 1
WINDOW, HISTORY = 3, 5  # heartbeats that IHAVE covers, that IWANT is answered for
PRUNE_BACKOFF_S = 60

MAX_IDS = 64  # message ids taken from, or put into, one IHAVE or IWANT
MAX_CONTROL = 64  # entries taken of each control message in one RPC
MAX_BACKOFF_S = 3600  # a peer may ask of us


def message_id(message: rpc_pb2.Message) -> bytes:
    """What makes two messages the same: topic and data, whoever sent them."""
    topic = "\n".join(message.topicIDs).encode()
    return blake3(topic + b"\0" + message.data).digest(20)


class _Cache(MessageCache):
    """The router's recent messages, under our ids instead of sender and number."""

    def put(self, msg: rpc_pb2.Message) -> None:
        key = message_id(msg)
        if key not in self.msgs:
            self.msgs[key] = msg
            self.history[0].append(CacheEntry(key, msg.topicIDs))


class _Scorer(PeerScorer):
    """The router's questions about peers, answered by Standing and its thresholds."""

    def __init__(self, peers: Standing) -> None:
        super().__init__(
            ScoreParams(
                publish_threshold=standing.PUBLISH,
                gossip_threshold=standing.GOSSIP,
                graylist_threshold=standing.GRAYLIST,
                accept_px_threshold=float("inf"),
            )
        )
        self._peers = peers

    def score(self, peer: ID, topics: Sequence[str] = ()) -> float:
        return self._peers.score(node_of(peer), time.monotonic())

    def allow_publish(self, peer: ID, topics: list[str]) -> bool:
        return self.score(peer) >= standing.PUBLISH

    def allow_gossip(self, peer: ID, topics: list[str]) -> bool:
        return self.score(peer) >= standing.GOSSIP

    def is_graylisted(self, peer: ID, topics: list[str]) -> bool:
        return self.score(peer) < standing.GRAYLIST

    def allow_px_from(self, peer: ID, topics: list[str]) -> bool:
        return False

    def charge(self, peer: ID, points: float) -> None:
        self._peers.charge(node_of(peer), points, time.monotonic())

    def penalize_behavior(self, peer: ID, amount: float = 0.0) -> None:
        self.charge(peer, standing.EXCESS)

    def penalize_graft_flood(self, peer: ID, amount: float = 0.0) -> None:
        self.charge(peer, standing.EXCESS)

    def penalize_iwant_spam(self, peer: ID, amount: float = 0.0) -> None:
        self.charge(peer, standing.EXCESS)

    def penalize_ihave_spam(self, peer: ID, amount: float = 0.0) -> None:
        self.charge(peer, standing.EXCESS)


class Router(GossipSub):
    """Which peers get a message: the mesh of each topic, kept by score."""

    scorer: _Scorer
    pubsub: Pubsub

    def __init__(self, peers: Standing) -> None:
        super().__init__(
            protocols=[TProtocol(PROTOCOL_ID_V11)],
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_initial_delay=0.2,
            heartbeat_interval=HEARTBEAT_S,
            prune_back_off=PRUNE_BACKOFF_S,
            do_px=False,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,  # Rpcs paces each peer before it judges
            eclipse_protection_enabled=False,  # needs addresses, which p2pd keeps
            pending_messages_ttl=2.0,
        )
        self.mcache = _Cache(WINDOW, HISTORY)
        self.scorer = _Scorer(peers)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Send a judged message on to the mesh."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()  # kept for a feature that is off, for ever

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Act on a peer's control messages, within bounds and for topics of ours only."""
        control, sender = rpc.control, sender_peer_id
        entries = (control.ihave, control.iwant, control.graft, control.prune)
        if max(len(part) for part in entries) > MAX_CONTROL:
            self.scorer.charge(sender, standing.EXCESS)
        if self.scorer.allow_gossip(sender, []):
            for have in control.ihave[:MAX_CONTROL]:
                if have.topicID in self.mesh:
                    del have.messageIDs[MAX_IDS:]
                    await self.handle_ihave(have, sender)
            if control.iwant:
                ids = [id_ for want in control.iwant[:MAX_CONTROL] for id_ in want.messageIDs]
                wanted = list(dict.fromkeys(ids))[:MAX_IDS]
                await self.handle_iwant(rpc_pb2.ControlIWant(messageIDs=wanted), sender)
        for prune in control.prune[:MAX_CONTROL]:
            if prune.topicID in self.mesh:
                backoff = min(prune.backoff, MAX_BACKOFF_S)
                bounded = rpc_pb2.ControlPrune(topicID=prune.topicID, backoff=backoff)
                await self.handle_prune(bounded, sender)
        for graft in control.graft[:MAX_CONTROL]:
            if graft.topicID in self.mesh:
                await self._take_graft(graft, sender)

    async def _take_graft(self, graft: rpc_pb2.ControlGraft, sender: ID) -> None:
        if self.scorer.score(sender) < standing.MESH:
            await self.emit_prune(graft.topicID, sender, False, False)
        else:
            await self.handle_graft(graft, sender)

    def _notify_mesh_peer_added(self, peer_id: ID, topic: str) -> None:
        # What was published between a peer's arrival and its graft reaches it by neither mesh nor
        # heartbeat, which tells only the peers outside the mesh. So tell it once, on joining.
        super()._notify_mesh_peer_added(peer_id, topic)
        ids = self.mcache.window(topic)[-MAX_IDS:]
        if ids:
            have = rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids)
            rpc = rpc_pb2.RPC(control=rpc_pb2.ControlMessage(ihave=[have]))
            self.send_rpc(peer_id, rpc, priority=True)

    async def on_peer_subscribed(self, peer_id: ID, topic: str) -> None:
        """Graft a newcomer at once if the mesh wants it."""
        if self.scorer.score(peer_id) >= standing.MESH:
            await super().on_peer_subscribed(peer_id, topic)

    def mesh_heartbeat(self) -> tuple[dict[ID, list[str]], dict[ID, list[str]]]:  # type: ignore[override]
        """Drop the peers whose score fell, then keep the degree; whom to graft and to prune."""
        fallen = [
            (topic, peer)
            for topic, peers in self.mesh.items()
            for peer in peers
            if self.scorer.score(peer) < standing.MESH
        ]
        for topic, peer in fallen:
            self.mesh[topic].discard(peer)
        grafts, prunes = super().mesh_heartbeat()
        for topic, peer in fallen:
            prunes[peer].append(topic)
        for peer, topics in prunes.items():
            for topic in topics:
                self._add_back_off(peer, topic, False)
        self._forget_backoffs()
        return grafts, prunes

    def _forget_backoffs(self) -> None:
        now = int(time.time())
        for topic, peers in list(self.back_off.items()):
            self.back_off[topic] = {peer: until for peer, until in peers.items() if until > now}
            if not self.back_off[topic]:
                del self.back_off[topic]

    async def _emit_control_msgs(
        self,
        peers_to_graft: dict[ID, list[str]],
        peers_to_prune: dict[ID, list[str]],
        peers_to_gossip: dict[ID, dict[str, list[bytes]]],
    ) -> None:
        for peer in {*peers_to_graft, *peers_to_prune, *peers_to_gossip}:
            control = self.pack_control_msgs(
                [
                    rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids)
                    for topic, ids in peers_to_gossip.get(peer, {}).items()
                ],
                [rpc_pb2.ControlGraft(topicID=topic) for topic in peers_to_graft.get(peer, ())],
                [
                    rpc_pb2.ControlPrune(topicID=topic, backoff=self.prune_back_off)
                    for topic in peers_to_prune.get(peer, ())
                ],
            )
            await self.emit_control_message(control, peer)

    def _get_in_topic_gossipsub_peers_from_minus(
        self, topic: str, num_to_select: int, minus: Iterable[ID], backoff_check: bool = False
    ) -> list[ID]:
        followers = self.pubsub.peer_topics.get(topic, set())
        low = {peer for peer in followers if self.scorer.score(peer) < standing.MESH}
        return super()._get_in_topic_gossipsub_peers_from_minus(
            topic, num_to_select, {*minus, *low}, backoff_check
        )

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Iterable[ID]:
        if msg_forwarder != self.pubsub.my_id:
            return super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id)
        # Our own message goes to every follower we know (gossipsub v1.1, "Flood Publishing"), so
        # that no mesh, young or captured, decides whether it gets out.
        followers = {p for topic in topic_ids for p in self.pubsub.peer_topics.get(topic, ())}
        return [peer for peer in followers if self.scorer.allow_publish(peer, [])]

    def gossip_heartbeat(self) -> defaultdict[ID, dict[str, list[bytes]]]:
        """Whom to tell of which recent messages: some followers outside the mesh."""
        tell: defaultdict[ID, dict[str, list[bytes]]] = defaultdict(dict)
        for topic, mesh in self.mesh.items():
            ids = self.mcache.window(topic)[-MAX_IDS:]
            if ids and topic in self.pubsub.peer_topics:
                count = max(DEGREE, len(self.pubsub.peer_topics[topic]) // 4)
                for peer in self._get_in_topic_gossipsub_peers_from_minus(topic, count, mesh):
                    tell[peer][topic] = ids
        return tell

    def _perform_opportunistic_grafting(self, topic: str, peers_to_graft: object) -> int:
        return 0  # grafts two peers a heartbeat where all scores are equal, as ours mostly are

    def _check_equivocation(self, msg: rpc_pb2.Message) -> bool:
        return True  # compares sender and number, which StrictNoSign messages do not carry
