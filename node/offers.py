"""What this node offers, kept known to others: adverts and providers in the DHT, announcements."""

import time

import trio

from gossip import index
from gossip.announce import seal, topic_of
from gossip.dht import Dht
from gossip.heard import HeardLog
from gossip.messages import MAX_ANNOUNCE_TTL_S, Announce
from gossip.swarm import Swarm
from node.backoff import pause
from node.events import Events
from node.library import Held
from node.models import Models
from p2pllm.advert import Advert, Provider
from p2pllm.errors import Unavailable
from p2pllm.ids import NodeId
from p2pllm.manifest import Manifest

TTL_S = 3600.0  # an advert outlives its node by at most this
REFRESH_S = TTL_S / 3  # so two refreshes in a row may fail
FIRST_S, LONGEST_S = 4.0, 120.0  # waits after a refresh that did


def advert_of(by: NodeId, held: Held, manifest: Manifest, now: float) -> Advert:
    """What we say of a model that we hold."""
    report = manifest.report
    return Advert(
        by=by,
        manifest=held.manifest,
        kind=manifest.kind,
        place=manifest.place,
        name=manifest.name,
        model=manifest.model,
        size=manifest.size + manifest.base_size,
        download=manifest.size,
        params=manifest.params,
        licence=manifest.licence,
        gain=report.base_loss - report.loss if report else None,
        created_at=manifest.created_at,
        issued_at=now,
        expires_at=now + TTL_S,
    )


def records_of(by: NodeId, held: Held, manifest: Manifest, now: float) -> list[Advert | Provider]:
    """The DHT records that say that we hold this model."""
    until = now + TTL_S
    named = [held.manifest, manifest.model] if manifest.kind == "base" else [held.manifest]
    providers = [
        Provider(by=by, what=what, manifest=held.manifest, issued_at=now, expires_at=until)
        for what in named
    ]
    return [advert_of(by, held, manifest, now), *providers]


def announce_of(held: Held, manifest: Manifest, now: float) -> Announce:
    """The announcement of a model of our own."""
    return Announce(
        by=manifest.by,
        place=manifest.place,
        manifest=held.manifest,
        kind=manifest.kind,
        name=manifest.name,
        model=manifest.model,
        size=manifest.size,
        created_at=now,
        expires_at=now + MAX_ANNOUNCE_TTL_S - 60,
    )


class Offers:
    """Keeps the node's offered models advertised and announced."""

    def __init__(self, models: Models, heard: HeardLog, events: Events) -> None:
        self._models = models
        self._heard = heard
        self._events = events
        self._due = trio.Event()
        self._unsent: dict[str, tuple[Held, bytes]] = {}

    def offered(self) -> list[Held]:
        """The models that peers may fetch from us."""
        held = [one for one in self._models.library.models() if one.offered]
        return [one for one in held if self._models.described(one)]

    def refresh_now(self) -> None:
        """Advertise again without waiting, as after joining a network."""
        self._due.set()

    async def run(self, dht: Dht) -> None:
        """Advertise everything offered, and again before it expires."""
        failed = 0
        while True:
            self._due = trio.Event()
            refused = 0
            for held in self.offered():
                try:
                    await self.advertise(dht, held)
                except Unavailable as away:  # keys full, or a clock that is off
                    refused += 1
                    fields = {"manifest": held.manifest, "message": away.message}
                    self._events.emit("advert", state="refused", **fields)
            failed = failed + 1 if refused else 0
            with trio.move_on_after(pause(failed, FIRST_S, LONGEST_S) if failed else REFRESH_S):
                await self._due.wait()

    async def advertise(self, dht: Dht, held: Held) -> None:
        """Put the records of one model into the DHT."""
        now = time.time()
        for record in self._records(held, now):
            await index.publish(dht, self._models.identity, record, now)

    async def withdraw(self, dht: Dht, held: Held) -> None:
        """Take the records of one model back."""
        now = time.time()
        for record in self._records(held, now):
            await index.withdraw(dht, self._models.identity, record, now)

    def _records(self, held: Held, now: float) -> list[Advert | Provider]:
        manifest = self._models.manifest(held.manifest)
        return records_of(self._models.identity.node, held, manifest, now)

    def announce(self, held: Held) -> None:
        """Write the announcement of our own model down; `send` tells the peers of its place.

        Once it is in the log, a peer that was away hears of it by asking for news.
        """
        now = time.time()
        announce = announce_of(held, self._models.manifest(held.manifest), now)
        raw = seal(self._models.identity, announce)
        self._heard.add(raw, announce, now)
        self._unsent[held.manifest] = (held, raw)

    async def send(self, swarm: Swarm) -> int:
        """Publish what is not yet announced to topics that have peers; how many peers heard."""
        for held in self._models.library.models():  # every other second: what is new is read, only
            new = held.offered and held.origin == "local" and not held.announced
            if new and held.manifest not in self._unsent and self._models.described(held):
                self.announce(held)
        told = 0
        for manifest, (held, raw) in list(self._unsent.items()):
            topic = topic_of(held.place)
            peers = swarm.peers(topic)
            if not peers:
                continue
            await swarm.publish(topic, raw)
            told += len(peers)
            self._models.library.mark_announced(held.manifest)
            self._events.emit(
                "announced", manifest=manifest, place=str(held.place), peers=len(peers)
            )
            del self._unsent[manifest]
        return told
