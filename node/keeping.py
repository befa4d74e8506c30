"""Apply what keepers of followed places accepted, as far as the user said that it may be.

Heads of others are only their word: `p2pllm.adopt` says which of it counts here. An update is
applied once: its bytes are here, verified and proved to fit, and then it is written down as such,
in one step, before anybody is told. docs/specs/heads.md
"""

import logging
import math
import time
from collections.abc import Iterable

import msgspec
import trio

from gossip import index
from gossip.fetch import fetch_bytes
from node.backoff import Retries
from node.lower import spares
from node.obtain import pull
from node.requests import PullRequest
from node.services import Services
from node.telling import Telling
from p2pllm import adopt
from p2pllm.adopt import Change, Following, Vouched
from p2pllm.durable import file_faults_told
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.heads import Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.manifest import MAX_MANIFEST_BYTES, open_manifest
from p2pllm.names import Place

log = logging.getLogger(__name__)
PROVIDERS = 8  # asked for an update's bytes: its vouchers and neighbours, whom the DHT may not know
FIRST_S, LONGEST_S = 1.0, 120.0  # waits after an update could not be fetched, until a peer comes
BAD_S, BAD_LONGEST_S = 60.0, 3600.0  # waits after its bytes were refused, whoever comes
MIN_S = 0.2


class Keeping:
    """The loop of one node, and what it has still to try again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._telling = Telling(services, self._hear)
        self._later: dict[Place, Retries[ContentId]] = {}  # what nobody had who could be reached
        self._bad = Retries[ContentId](BAD_S, BAD_LONGEST_S)  # what was refused
        self._news = trio.Event()

    async def run(self) -> None:
        """Tell, hear and apply until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._telling.run)
            while True:
                news = self._news
                followed = sorted(self._services.trust.followed)
                self._later = {p: one for p, one in self._later.items() if p in followed}
                for place in followed:
                    try:
                        with file_faults_told():
                            await self._apply(place)
                    except P2pllmError as fault:  # such as a full disk
                        log.warning("heads of %s are not applied: %s", place, fault)
                soonest = min((one.next_at() for one in self._later.values()), default=math.inf)
                soon = max(MIN_S, soonest - trio.current_time())
                with trio.move_on_after(min(self._services.config.network.heads_s, soon)):
                    await news.wait()

    def _hear(self, place: Place, came: bool) -> None:
        """Heads or peers of a place are new: what could not be had before is tried at once."""
        self._later.pop(place, None)
        if came:
            self._services.trust.try_again(place)
        self._news.set()
        self._news = trio.Event()

    async def _apply(self, place: Place) -> None:
        services, known = self._services, following(self._services, place)
        await _seek(services, place)
        found = change(services, place, known)
        if found.drop:
            take_back(services, place, found.drop, back=False)
        wanted = {one.manifest: one for one in found.apply} if known.auto else {}
        self._waits(place).keep(set(wanted))
        for one in wanted.values():
            now = trio.current_time()
            if self._waits(place).due(one.manifest, now) and self._bad.due(one.manifest, now):
                await self._adopt(place, one)

    def _waits(self, place: Place) -> Retries[ContentId]:
        return self._later.setdefault(place, Retries(FIRST_S, LONGEST_S))

    async def _adopt(self, place: Place, one: Vouched) -> None:
        self._waits(place).forget(one.manifest)
        try:
            with file_faults_told():
                await bring(self._services, place, one)
            if not await spares(self._services, place, following(self._services, place), one):
                self._bad.failed(one.manifest, trio.current_time())  # asked again, but not soon
                return
        except P2pllmError as fault:
            waits = self._waits(place) if isinstance(fault, Unavailable) else self._bad
            waits.failed(one.manifest, trio.current_time())
            card = {"place": str(place), "manifest": one.manifest, "code": fault.code}
            self._services.events.emit("apply", state="waits", message=fault.message, **card)
            return
        note_applied(self._services, place, one)


def change(services: Services, place: Place, known: Following) -> Change:
    """What is due at a place by this node's own verdicts and those of keepers it trusts.

    Where one of these is gone, the keepers that it trusted count for it; what they brought in
    stays when it is back.
    """
    own, heard = services.trust.heads.read(place), services.network.shelf.of(place)
    trusted, named = _trusted(services, place, heard)
    absent = services.network.presence.absent
    standing_in = {heir for heir, by in named.items() if by & absent}
    refused = _refused(services, place)

    def by_word_of(keepers: set[NodeId]) -> tuple[Vouched, ...]:
        mine = own.accepted if own else ()
        return adopt.vouched(services.identity.node, mine, heard, keepers, refused)

    may, stays = by_word_of(trusted | standing_in), by_word_of(trusted | named.keys())
    return adopt.change(known, may, stays)


def _trusted(
    services: Services, place: Place, heard: list[Head]
) -> tuple[set[NodeId], dict[NodeId, set[NodeId]]]:
    """The keepers that are trusted here, and those whom they name."""
    opinions = services.trust.opinions
    trusted = {one.by for one in heard if opinions.state(one.by, place) == "trusted"}
    named = adopt.heirs(heard, trusted)
    return trusted, {heir: by for heir, by in named.items() if not opinions.shut(heir, place)}


async def _seek(services: Services, place: Place) -> None:
    """Look whether the keepers that name others are still there."""
    _, named = _trusted(services, place, services.network.shelf.of(place))
    network = services.network
    try:
        dht = network.dht()
    except Unavailable:
        return
    if network.peers.connected:  # or it is this node that is gone
        keepers = {keeper for by in named.values() for keeper in by}
        await network.presence.seek(dht, keepers, network.peers.connected)


def _refused(services: Services, place: Place) -> set[ContentId]:
    judged = services.trust.books.place(place).judged
    bad = {update for update, found in judged.items() if found[-1].verdict.decision == "reject"}
    return bad | services.trust.gate.refused(place)


async def bring(services: Services, place: Place, one: Vouched) -> None:
    """Have an update here, verified and proved; raises as `pull` does."""
    if services.library.get(one.manifest) is not None:
        return
    endpoint, holders = services.network.endpoint(), await _holders(services, place, one)
    record = await fetch_bytes(endpoint, one.manifest, MAX_MANIFEST_BYTES, holders)
    manifest = open_manifest(record)
    if manifest.place != place or manifest.kind != "adapter":
        raise PeerError("E0610", f"{one.manifest} is no adapter of {place}")
    if services.trust.opinions.shut(manifest.by, place):
        raise PeerError("E0714", f"its publisher {manifest.by} is shut out here")
    ref = f"{place}/{manifest.name}@{one.manifest}"
    await pull(services, PullRequest(ref=ref, from_=list(holders[:PROVIDERS])), _quiet)


async def _holders(services: Services, place: Place, one: Vouched) -> list[NodeId]:
    """Who may have an update: who vouches for it, or says so in the DHT; then neighbours."""
    network, ranked = services.network, services.trust.opinions.ranked
    try:
        said = [each.by for each in await index.providers(network.dht(), one.manifest, time.time())]
    except Unavailable:
        said = []
    likely, near = ranked([*one.by, *said], place), network.peers.connected
    others = [peer for peer in ranked(sorted(near), place) if peer not in likely]
    # Of the likely ones, those that are not connected may be gone, and each costs a dial.
    return sorted([*likely, *others], key=lambda peer: peer not in near)


def following(services: Services, place: Place) -> Following:
    """What this node remembers of a place it follows."""
    raw = services.library.fact(_fact(place), "")
    return msgspec.json.decode(raw, type=Following) if raw else Following()


def _keep(services: Services, place: Place, state: Following) -> None:
    services.library.set_fact(_fact(place), msgspec.json.encode(state).decode())


def _fact(place: Place) -> str:
    return f"following/{place}"


def set_auto(services: Services, place: Place, *, auto: bool) -> None:
    """Apply accepted updates of a place without asking, or no more."""
    state = following(services, place)
    _keep(services, place, msgspec.structs.replace(state, auto=auto))


def note_applied(services: Services, place: Place, one: Vouched) -> None:
    """Write down that an update is applied; told once, since it is on disk first."""
    state = following(services, place)
    if one.manifest in state.applied:
        return
    _keep(services, place, adopt.applied(state, one, time.time()))
    card = {"place": str(place), "manifest": one.manifest, "weight": one.weight}
    services.events.emit("applied", by=list(one.by), **card)


def take_back(
    services: Services, place: Place, gone: Iterable[ContentId], *, back: bool
) -> tuple[ContentId, ...]:
    """Undo applied updates; `back`: by a person, so that they stay out. What was undone."""
    state = following(services, place)
    here = tuple(sorted(one for one in gone if one in state.applied))
    if not here and back:
        raise LocalError("E0402", f"no such update is applied at {place}")
    _keep(services, place, adopt.dropped(state, here, back=back))
    for manifest in here:
        why = "rolled back" if back else "nobody trusted vouches for it any more"
        services.events.emit("taken-back", place=str(place), manifest=manifest, reason=why)
    return here


def _quiet(_stage: str, **_fields: object) -> None:
    """No progress is told of what goes on by itself."""
