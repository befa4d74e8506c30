"""Meet other nodes: dial seeds and remembered peers, join swarm and DHT, catch up on news."""

import json
import time
from collections.abc import Callable, Iterable

import trio

from gossip import index, news
from gossip.announce import topic_of
from gossip.dht import Dht
from gossip.endpoint import Endpoint
from gossip.heard import HeardLog
from gossip.swarm import Swarm
from node.config import NetworkConfig
from node.events import Events
from node.library import Library
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.names import Place

ROUND_S = 2.0  # how often we look whom we are connected to
SEED_WAIT_MAX_S = 30.0
DIAL_S = 10.0
MAX_SWARM_PEERS = 64  # GossipSub needs 12; more cost connections and gain nothing
REMEMBERED = 32
NEWS_PEERS = 3  # asked on return; one honest of them is enough
NEWS_S = 60.0  # for all that one peer has to say on one place


class Seed:
    """An address we were told to join by, and how that went."""

    def __init__(self, address: str, first_wait_s: float) -> None:
        self.address = address
        self.peer = NodeId(address.rpartition("/p2p/")[2])
        self.state = "not tried"
        self.error = ""
        self.wait_s = first_wait_s
        self.next_at = 0.0

    def card(self) -> dict[str, str]:
        """What `status` shows."""
        return {"address": self.address, "state": self.state, "error": self.error}


class Peers:
    """Whom this node knows and is connected to."""

    def __init__(
        self,
        library: Library,
        events: Events,
        config: NetworkConfig,
        heard: HeardLog,
        hear: Callable[[bytes, str, NodeId], None],
    ) -> None:
        self._library = library
        self._events = events
        self._heard = heard
        self._hear = hear
        retry_s = config.retry_s
        configured = [Seed(address, retry_s) for address in config.bootstrap]
        remembered = json.loads(library.fact("peers", "[]"))
        known = {seed.address for seed in configured}
        self.seeds = configured
        self._remembered = [Seed(a, retry_s) for a in remembered if a not in known]
        self.connected: set[NodeId] = set()
        self._asked: dict[Place, set[NodeId]] = {}

    async def dial_seeds(self, endpoint: Endpoint, on_twin: Callable[[str], None]) -> None:
        """Try every seed that is due and not connected; forget the error of one that answers."""
        now = trio.current_time()
        for seed in [*self.seeds, *self._remembered]:
            if seed.peer == endpoint.node:
                if seed.state != "our own key":
                    seed.state, seed.error = "our own key", "the seed's id is this node's own"
                    on_twin(seed.address)
                continue
            if seed.peer in self.connected:
                seed.state, seed.error = "connected", ""
            elif now >= seed.next_at:
                await self._dial(endpoint, seed)

    async def _dial(self, endpoint: Endpoint, seed: Seed) -> None:
        try:
            with trio.fail_after(DIAL_S):
                await endpoint.connect(seed.address)
            seed.state, seed.error, seed.wait_s = "connected", "", ROUND_S
            self.connected.add(seed.peer)
        except (P2pllmError, trio.TooSlowError) as fault:
            seed.state = "unreachable"
            seed.error = fault.message if isinstance(fault, P2pllmError) else "no answer"
            seed.wait_s = min(seed.wait_s * 2, SEED_WAIT_MAX_S)
        seed.next_at = trio.current_time() + seed.wait_s

    async def join_swarm(self, endpoint: Endpoint, swarm: Swarm) -> list[NodeId]:
        """Look whom p2pd is connected to and open a swarm connection to the new ones."""
        self.connected = {peer.node for peer in await endpoint.peers()}
        have = set(swarm.peers(None))
        new = sorted(self.connected - have)
        joined: list[NodeId] = []

        async def one(peer: NodeId) -> None:
            try:
                with trio.fail_after(DIAL_S):
                    await swarm.connect(peer)
                joined.append(peer)
            except (P2pllmError, trio.TooSlowError):
                pass  # a peer without our protocols, such as a plain p2pd; tried again next round

        async with trio.open_nursery() as nursery:
            for peer in new[: max(0, MAX_SWARM_PEERS - len(have))]:
                nursery.start_soon(one, peer)
        return joined

    async def remember(self, dht: Dht) -> None:
        """Keep the listening addresses of connected peers, to join by when every seed is gone."""
        addresses: list[str] = []
        for peer in sorted(self.connected)[:REMEMBERED]:
            found = await index.presence(dht, peer, time.time())
            addresses += [f"{a}/p2p/{peer}" for a in (found.addresses if found else ())]
        if addresses:
            self._library.set_fact("peers", json.dumps(addresses[:REMEMBERED]))

    async def catch_up(self, endpoint: Endpoint, swarm: Swarm, places: Iterable[Place]) -> None:
        """Ask up to three peers of each place for what was announced while we were not linked."""
        for place in places:
            here = set(swarm.peers(topic_of(place)))
            asked = self._asked.setdefault(place, set())
            asked &= here  # a peer that left and is back may have heard what we have not
            for peer in sorted(here - asked)[: max(0, NEWS_PEERS - len(asked))]:
                if await self._ask(endpoint, peer, place):
                    asked.add(peer)

    async def _ask(self, endpoint: Endpoint, peer: NodeId, place: Place) -> bool:
        async def take(raw: bytes) -> None:
            self._hear(raw, topic_of(place), peer)

        try:
            with trio.fail_after(NEWS_S):
                await news.catch_up(endpoint, self._heard, peer, place, take)
        except PeerError as broken:
            self._events.refuse(broken, peer=peer)
            return True  # not asked again while it stays
        except (Unavailable, trio.TooSlowError):
            return False  # asked again next round
        return True
