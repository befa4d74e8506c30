"""The node's life on the network: endpoint, DHT and swarm as one block, rebuilt when it breaks.

A p2pd that dies takes every stream with it, so the whole block is built anew, with back-off. A DHT
process that dies is replaced alone. Whoever needs the network asks for `endpoint()`, `dht()` or
`swarm()` and gets Unavailable while that part is away.
"""

import logging
import time
from contextlib import suppress
from typing import Any

import trio

from gossip import exchange, news
from gossip.announce import AnnounceRules, open_announce, topic_of
from gossip.dht import Dht, open_dht
from gossip.endpoint import Endpoint, open_endpoint
from gossip.gains import serve_gains
from gossip.head_shelf import HeadShelf
from gossip.head_sync import serve_heads
from gossip.heard import HeardLog
from gossip.messages import Announce
from gossip.swarm import Swarm, Verdict, open_swarm
from gossip.testimony import serve_testimony
from node.backoff import Backoff, Retries
from node.config import Config
from node.events import Events
from node.judgement import Judgement
from node.models import Models
from node.offers import Offers
from node.peers import ROUND_S, Peers
from node.ports import remember_ports, same_ports
from node.presence import Presences
from p2pllm.advert import CLOCK_SLACK_S
from p2pllm.durable import file_faults_told
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place

log = logging.getLogger(__name__)
REMEMBER_S = 60.0
MAX_HINTS = 64
DHT_WAIT_MAX_S = 60.0  # a peer that is not in the DHT, such as a plain p2pd, is asked again so late


class Network:
    """Our part of the network, and what is wrong with it."""

    def __init__(
        self,
        config: Config,
        models: Models,
        events: Events,
        trust: Judgement,
    ) -> None:
        self._config = config
        self._models = models
        self._events = events
        self._trust = trust
        self.heard = HeardLog(config.home / "heard.db")
        self.shelf = HeadShelf(config.home / "heads.db")
        self.offers = Offers(models, self.heard, events)
        net = config.network
        self.peers = Peers(models.library, events, net, self.heard, self._hear)
        self.presence = Presences(models.identity, events, net.presence_s)
        # Peers that hold a head which we lack; where nobody takes them, the next round finds them.
        self._hints, self.hints = trio.open_memory_channel[tuple[NodeId, Place]](MAX_HINTS)
        self._rules = AnnounceRules()
        for raw in self.heard.alive(time.time()):
            self._rules.remember(open_announce(raw))
        self._followed: set[Place] = set(trust.followed)
        self._endpoint: Endpoint | None = None
        self._swarm: Swarm | None = None
        self._dht: Dht | None = None
        self._joined_dht = False
        self._backoffs = {"p2pd": Backoff(), "dht": Backoff()}
        self._errors: dict[str, str] = {}
        self.addresses: list[str] = []
        self.heard_count = 0  # announcements new to us since the start

    def endpoint(self) -> Endpoint:
        """The live endpoint, or Unavailable E0903."""
        if self._endpoint is None:
            raise self._away("E0903", "the network endpoint is not up", "p2pd")
        return self._endpoint

    def dht(self) -> Dht:
        """The live DHT, or Unavailable E0904."""
        if self._dht is None:
            raise self._away("E0904", "the DHT is not up", "dht")
        return self._dht

    def swarm(self) -> Swarm:
        """The live swarm, or Unavailable E0903."""
        if self._swarm is None:
            raise self._away("E0903", "the swarm is not up", "p2pd")
        return self._swarm

    def need_peers(self) -> None:
        """Return if we know another node; else Unavailable E0905 with the reason."""
        if not self.peers.connected:
            raise Unavailable(
                "E0905",
                "this node is isolated",
                why=[self.reason()],
                fix=["p2pllm peers connect ADDRESS", "p2pllm up --bootstrap ADDRESS"],
            )

    def _away(self, code: str, message: str, child: str) -> Unavailable:
        if child in self._errors:
            return Unavailable(code, message, why=[self._errors[child]])
        return Unavailable(code, message, why=["it is starting"], details={"starting": child})

    async def follow(self, place: Place) -> None:
        """Hear announcements of a place from now on."""
        self._followed.add(place)
        if self._swarm is not None:
            await self._swarm.join(topic_of(place))

    async def run(self) -> None:
        """Keep the network up until cancelled."""
        backoff = self._backoffs["p2pd"]
        while True:
            began = trio.current_time()
            try:
                with file_faults_told():
                    await self._live()
            except (Unavailable, LocalError) as gone:
                self._errors["p2pd"] = ": ".join([gone.message, *gone.why[-1:]])
                self._events.emit("child", child="p2pd", state="died", message=gone.message)
                log.warning("the network block ended: %s", gone)
            await trio.sleep(backoff.after(trio.current_time() - began))

    async def _live(self) -> None:
        config = self._config
        listen = same_ports(config.network.listen, self._models.library)
        async with open_endpoint(config.run, config.home / "key", listen) as endpoint:
            await exchange.serve(endpoint, self._models.store, self._serves)
            await news.serve_news(endpoint, self.heard)
            await serve_gains(endpoint, self._trust.gains_of)
            await serve_testimony(endpoint, self._trust.observed, self._trust.sketch_of)
            await serve_heads(endpoint, self.shelf, self._hint)
            self.addresses = await endpoint.addresses()
            remember_ports(config.network.listen, self.addresses, self._models.library)
            self._events.emit("endpoint", addresses=self.addresses, pid=endpoint.pid)
            identity, score = self._models.identity, self._trust.opinions.score
            async with open_swarm(endpoint, identity, self._validate, score) as swarm:
                self._endpoint, self._swarm = endpoint, swarm
                self._errors.pop("p2pd", None)
                try:
                    await self._tasks(endpoint, swarm)
                finally:
                    self._endpoint = self._swarm = None
                    self.peers.connected = set()

    async def _tasks(self, endpoint: Endpoint, swarm: Swarm) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_dht, endpoint)
            nursery.start_soon(self._listen, swarm)
            nursery.start_soon(self._dial, endpoint)
            nursery.start_soon(self._meet, endpoint, swarm)

    async def _keep_dht(self, endpoint: Endpoint) -> None:
        backoff = self._backoffs["dht"]
        while True:
            began = trio.current_time()
            try:
                async with open_dht(endpoint.control) as dht, trio.open_nursery() as nursery:
                    self._dht, self._joined_dht = dht, False
                    self._errors.pop("dht", None)
                    nursery.start_soon(self._join_dht, dht, endpoint)
            except* Unavailable as gone:
                self._errors["dht"] = str(gone.exceptions[0])
                self._events.emit("child", child="dht", state="died", message=self._errors["dht"])
            finally:
                self._dht = None
            await trio.sleep(backoff.after(trio.current_time() - began))

    async def _join_dht(self, dht: Dht, endpoint: Endpoint) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.offers.run, dht)
            nursery.start_soon(self.presence.run, dht, endpoint)
            nursery.start_soon(self._remember, dht)
            met, waits = set[NodeId](), Retries[NodeId](ROUND_S, DHT_WAIT_MAX_S)
            while True:
                known, now = await dht.size(), trio.current_time()
                met &= self.peers.connected if known else set()
                # By new peers too: whoever joins two swarms joins their tables.
                new = {p for p in self.peers.connected - met if waits.due(p, now)}
                if new:
                    joined = await dht.bootstrap(
                        [
                            f"{address}/p2p/{peer.node}"
                            for peer in await endpoint.peers()
                            for address in peer.addresses
                            if peer.node in new
                        ]
                    )
                    known = joined.size
                    met |= joined.met
                    for peer in new - joined.met:  # its own DHT process may be starting
                        waits.failed(peer, now)
                waits.keep(self.peers.connected - met)
                if known and not self._joined_dht:
                    self._events.emit("dht", state="joined", peers=known)
                    self.offers.refresh_now()
                self._joined_dht = known > 0
                await trio.sleep(self._round_s())

    async def _remember(self, dht: Dht) -> None:
        while True:
            known = self._joined_dht and await self.peers.remember(dht)
            await trio.sleep(REMEMBER_S if known else ROUND_S)

    async def _dial(self, endpoint: Endpoint) -> None:
        while True:
            await self.peers.dial_seeds(endpoint, self.presence.seed_is_us)
            await trio.sleep(self._round_s())

    async def _meet(self, endpoint: Endpoint, swarm: Swarm) -> None:
        for place in self.places():
            await swarm.join(topic_of(place))
        was = 0
        async with trio.open_nursery() as nursery:
            while True:
                await self.peers.join_swarm(endpoint, swarm, nursery)
                self.peers.catch_up(endpoint, swarm, self.places(), nursery)
                await self.offers.send(swarm)
                count = len(self.peers.connected)
                if bool(count) != bool(was):
                    state = self.state()
                    self._events.emit("state", state=state, peers=count, reason=self.reason())
                was = count
                await trio.sleep(self._round_s())

    def _round_s(self) -> float:
        return ROUND_S if self.peers.connected else min(ROUND_S, self._config.network.retry_s)

    def places(self) -> list[Place]:
        """The places whose announcements we hear: configured, and where we hold a model."""
        held = {held.place for held in self._models.library.models() if held.offered}
        return sorted(self._followed | held)

    async def _listen(self, swarm: Swarm) -> None:
        async for heard in swarm.heard():
            self._keep(open_announce(heard.data), heard.data, heard.relayer)

    def _validate(self, relayer: NodeId, topic: str, data: bytes) -> Verdict:
        """Before relay: only what the rules accept goes on."""
        judged = self._rules.judge(data, topic, time.time())
        if judged.verdict == "reject":
            fault = PeerError("E0611", f"announcement refused: {judged.why}")
            self._events.refuse(fault, peer=relayer, topic=topic)
        announce = judged.announce
        if announce is None or judged.verdict != "accept":
            return judged.verdict
        if self._trust.opinions.relays(announce.by, announce.place):
            return "accept"
        self._trust.hear(announce)  # judged in the shadow, or its peer could not come back
        return "ignore"

    def _hear(self, data: bytes, topic: str, peer: NodeId) -> None:
        """An announcement from catch-up: as strict as the topic, but as many as were missed."""
        try:
            announce = open_announce(data)
            if topic_of(announce.place) != topic:
                raise PeerError("E0611", f"announcement of {announce.place} offered as {topic}")
        except PeerError as broken:
            self._events.refuse(broken, peer=peer, topic=topic)
            return
        now = time.time()
        if announce.created_at - CLOCK_SLACK_S < now < announce.expires_at:
            self._rules.remember(announce)
            self._keep(announce, data, peer)

    def _keep(self, announce: Announce, data: bytes, peer: NodeId) -> None:
        self._trust.hear(announce)
        if not self._trust.opinions.relays(announce.by, announce.place):
            return  # kept, it would be told to others as news
        if not self.heard.add(data, announce, time.time()):
            return
        self.heard_count += 1
        card: dict[str, Any] = {"place": str(announce.place), "name": announce.name}
        card |= {"manifest": announce.manifest, "by": announce.by, "size_bytes": announce.size}
        self._events.emit("heard", relayer=peer, **card)

    def _hint(self, peer: NodeId, place: Place) -> None:
        with suppress(trio.WouldBlock):
            self._hints.send_nowait((peer, place))

    def _serves(self, blob: ContentId, peer: NodeId) -> bool:
        """Only blobs of offered models leave this node."""
        return blob in self._models.offered_blobs()

    def state(self) -> str:
        """online, isolated, starting or degraded."""
        if self._endpoint is None:
            return "degraded" if "p2pd" in self._errors else "starting"
        if self.presence.twin is not None or "dht" in self._errors:
            return "degraded"
        return "online" if self.peers.connected else "isolated"

    def reason(self) -> str:
        """Why the state is not `online`; '' if it is."""
        if self.presence.twin is not None:
            return self.presence.twin.message
        if self._errors:
            return "; ".join(f"{child}: {message}" for child, message in self._errors.items())
        if self._endpoint is None:
            return "the endpoint is starting"
        if self.peers.connected:
            return ""
        seeds = self.peers.seeds
        if not seeds:
            return "no seed is configured and no peer has called"
        return "; ".join(f"{s.address}: {s.error or s.state}" for s in seeds)

    def warnings(self) -> list[dict[str, str]]:
        """What a person should know of."""
        twin = self.presence.twin
        return [{"code": twin.code, "message": twin.message}] if twin else []

    async def describe(self) -> dict[str, Any]:
        """The network's part of `status`."""
        pids = {
            "p2pd": self._endpoint.pid if self._endpoint else None,
            "dht": self._dht.pid if self._dht else None,
        }
        children = {
            name: {
                "pid": pid,
                "state": "up" if pid else "down",
                "restarts": self._backoffs[name].restarts,
            }
            for name, pid in pids.items()
        }
        topics = [
            {
                "place": str(place),
                "peers": len(self._swarm.peers(topic_of(place)) if self._swarm else []),
            }
            for place in self.places()
        ]
        dht_peers, dht_refused = 0, 0
        if self._dht is not None:
            try:
                dht_peers = await self._dht.size()
                dht_refused = self._dht.refused
            except P2pllmError:
                dht_peers = 0
        swarm = {"seeds": [seed.card() for seed in self.peers.seeds]}
        return {
            "state": self.state(),
            "reason": self.reason() or None,
            "addresses": self.addresses,
            "peers": {"total": len(self.peers.connected)},
            "heard": self.heard_count,
            "swarm": {
                **swarm,
                "dht_peers": dht_peers,
                "dht_refused": dht_refused,  # calls of peers that asked too much
                "topics": topics,
            },
            "children": children,
            "warnings": self.warnings(),
        }
