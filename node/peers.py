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
from node.backoff import Retries, pause
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
NEWS_AT_ONCE = 8  # questions; a peer takes 32 streams of one node
NEWS_PEERS = 3  # asked on return for everything, and at once; one honest of them is enough
NEWS_S = 60.0  # for all that one peer has to say on one place
LINK_WAIT_MAX_S = 60.0  # a peer without our protocols, such as a plain p2pd, is asked again so late


class Seed:
    """An address we were told to join by, and how that went."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.peer = NodeId(address.rpartition("/p2p/")[2])
        self.state = "not tried"
        self.error = ""
        self.failed = 0  # times in a row
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
        self._retry_s = config.retry_s
        configured = [Seed(address) for address in config.bootstrap]
        remembered = json.loads(library.fact("peers", "[]"))
        known = {seed.address for seed in configured}
        self.seeds = configured
        self._remembered = [Seed(address) for address in remembered if address not in known]
        self.connected: set[NodeId] = set()
        self._linking: set[NodeId] = set()
        self._links = Retries[NodeId](ROUND_S, LINK_WAIT_MAX_S)
        self._began = time.time()
        self._asked: dict[Place, set[NodeId]] = {}
        self._questions = trio.CapacityLimiter(NEWS_AT_ONCE)

    async def dial_seeds(self, endpoint: Endpoint, on_twin: Callable[[str], None]) -> None:
        """Try every seed that is due and not connected; forget the error of one that answers."""
        now = trio.current_time()
        due: list[Seed] = []
        for seed in [*self.seeds, *self._remembered]:
            if seed.peer == endpoint.node:
                if seed.state != "our own key":
                    seed.state, seed.error = "our own key", "the seed's id is this node's own"
                    on_twin(seed.address)
                continue
            if seed.peer in self.connected:
                seed.state, seed.error = "connected", ""
            elif now >= seed.next_at:
                due.append(seed)
        async with trio.open_nursery() as nursery:
            for seed in due:
                nursery.start_soon(self._dial, endpoint, seed)

    async def _dial(self, endpoint: Endpoint, seed: Seed) -> None:
        try:
            with trio.fail_after(DIAL_S):
                await endpoint.connect(seed.address)
            seed.state, seed.error, seed.failed = "connected", "", 0
            self.connected.add(seed.peer)
        except (P2pllmError, trio.TooSlowError) as fault:
            seed.state = "unreachable"
            seed.error = fault.message if isinstance(fault, P2pllmError) else "no answer"
            seed.failed += 1
        wait = pause(seed.failed, self._retry_s, SEED_WAIT_MAX_S) if seed.failed else ROUND_S
        seed.next_at = trio.current_time() + wait

    async def join_swarm(self, endpoint: Endpoint, swarm: Swarm, nursery: trio.Nursery) -> None:
        """Look whom p2pd is connected to; the new ones are linked to in the nursery."""
        self.connected = {peer.node for peer in await endpoint.peers()}
        self._links.keep(self.connected)
        now, have = trio.current_time(), set(swarm.peers(None)) | self._linking
        new = [peer for peer in sorted(self.connected - have) if self._links.due(peer, now)]
        for peer in new[: max(0, MAX_SWARM_PEERS - len(have))]:
            self._linking.add(peer)
            nursery.start_soon(self._link, swarm, peer)

    async def _link(self, swarm: Swarm, peer: NodeId) -> None:
        try:
            with trio.fail_after(DIAL_S):
                await swarm.connect(peer)
            self._links.forget(peer)
        except (P2pllmError, trio.TooSlowError):
            self._links.failed(peer, trio.current_time())
        finally:
            self._linking.discard(peer)

    async def remember(self, dht: Dht) -> bool:
        """Keep the listening addresses of connected peers, to join by when every seed is gone;
        whether there were any."""
        addresses: list[str] = []
        for peer in sorted(self.connected)[:REMEMBERED]:
            found = await index.presence(dht, peer, time.time())
            addresses += [f"{a}/p2p/{peer}" for a in (found.addresses if found else ())]
        if addresses:
            self._library.set_fact("peers", json.dumps(addresses[:REMEMBERED]))
        return bool(addresses)

    def catch_up(
        self, endpoint: Endpoint, swarm: Swarm, places: Iterable[Place], nursery: trio.Nursery
    ) -> None:
        """Ask the peers of each place, in the nursery, for what was announced while we were not
        linked: three for all of it, others for what came since our start, as after a split."""
        for place in places:
            here = set(swarm.peers(topic_of(place)))
            asked = self._asked.setdefault(place, set())
            asked &= here  # a peer that left and is back may have heard what we have not
            for peer in sorted(here - asked)[:NEWS_PEERS]:
                least = 0.0 if len(asked) < NEWS_PEERS else self._began - news.OVERLAP_S
                asked.add(peer)
                nursery.start_soon(self._ask, endpoint, peer, place, least)

    async def _ask(self, endpoint: Endpoint, peer: NodeId, place: Place, least: float) -> None:
        async def take(raw: bytes) -> None:
            self._hear(raw, topic_of(place), peer)

        try:
            async with self._questions:
                with trio.fail_after(NEWS_S):
                    await news.catch_up(endpoint, self._heard, peer, place, take, least)
        except PeerError as broken:
            self._events.refuse(broken, peer=peer)  # not asked again while it stays
        except (Unavailable, trio.TooSlowError):
            self._asked[place].discard(peer)  # asked again next round
