"""Say that we are up, and notice another node that runs with a copy of our key.

Two nodes with one key write the same DHT record. Each reads it before it writes: a record of
another instance that was issued after we started can only come from a living twin.
"""

import secrets
import time
from collections.abc import Collection, Iterable

import trio

from gossip import index
from gossip.dht import Dht
from gossip.endpoint import Endpoint
from node.events import Events
from p2pllm.advert import Presence
from p2pllm.errors import LocalError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.keys import Identity

LIVES = 3  # a presence outlives this many missed renewals
MAX_ADDRESSES = 4


class Presences:
    """Our presence record, renewed; `twin` is set once a copied key has shown itself."""

    def __init__(self, identity: Identity, events: Events, every_s: float) -> None:
        self._identity = identity
        self._events = events
        self._every_s = every_s
        self._instance = secrets.token_hex(16)
        self._started_at = time.time()
        self.twin: LocalError | None = None
        self.absent: set[NodeId] = set()  # of those that were sought
        self._sought: dict[NodeId, float] = {}

    async def run(self, dht: Dht, endpoint: Endpoint) -> None:
        """Renew until cancelled."""
        while True:
            try:
                await self._look(dht)
                await self._say(dht, endpoint)
            except Unavailable as away:
                self._events.emit("presence", state="failed", message=away.message)
            await trio.sleep(self._every_s)

    async def seek(self, dht: Dht, peers: Iterable[NodeId], here: Collection[NodeId]) -> None:
        """Find out which of these are gone: not among those `here`, and without a presence."""
        for peer in peers:
            now = time.time()
            if peer in here:
                self.absent.discard(peer)
            elif now >= self._sought.get(peer, 0.0) + self._every_s:
                self._sought[peer] = now
                found = await index.presence(dht, peer, now)
                (self.absent.add if found is None else self.absent.discard)(peer)

    async def _look(self, dht: Dht) -> None:
        now = time.time()
        found = await index.presence(dht, self._identity.node, now)
        if found is None or found.instance == self._instance:
            return
        if found.issued_at > self._started_at:
            self._notice(
                f"a presence of another instance was issued {now - found.issued_at:.0f} s ago"
            )

    def _notice(self, why: str) -> None:
        self.twin = LocalError(
            "E0304",
            "another running node uses this node's key",
            why=[why],
            fix=["stop one of the two", "give the copy a key of its own: move its HOME/key away"],
        )
        self._events.emit("twin", code="E0304", message=self.twin.message, why=why)

    def seed_is_us(self, address: str) -> None:
        """A configured seed carries our own id: it is a twin, or our own address."""
        self._notice(f"the seed {address} has our id")

    async def _say(self, dht: Dht, endpoint: Endpoint) -> None:
        now = time.time()
        whole = await endpoint.addresses()
        addresses = tuple(address.rpartition("/p2p/")[0] for address in whole)
        record = Presence(
            by=self._identity.node,
            instance=self._instance,
            addresses=addresses[:MAX_ADDRESSES],
            issued_at=now,
            expires_at=now + LIVES * self._every_s,
        )
        await index.publish(dht, self._identity, record, now)
