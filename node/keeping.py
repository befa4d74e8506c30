"""Keep places together: tell and hear heads, and apply what the user said may be applied.

Heads of others are only their word: `p2pllm.adopt` says which of it counts here. An update is
applied once: its bytes are here, verified and proved to fit, and then it is written down as such,
in one step, before anybody is told. docs/specs/heads.md
"""

import logging
import time
from collections.abc import Iterable
from functools import partial

import msgspec
import trio

from gossip.announce import topic_of
from gossip.fetch import fetch_bytes
from gossip.head_sync import sync_heads
from node.obtain import pull
from node.requests import PullRequest
from node.services import Services
from p2pllm import adopt, heads
from p2pllm.adopt import Following, Vouched
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.heads import Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.manifest import MAX_MANIFEST_BYTES, open_manifest
from p2pllm.names import Place

log = logging.getLogger(__name__)
PEERS = 3  # asked for heads in a round, a place; others in the next
PROVIDERS = 8  # asked for an update's bytes: its vouchers and neighbours, whom the DHT may not know
ASK_S = 20.0
RETRY_S = 60.0  # after an update could not be fetched


class Keeping:
    """The loop of one node, and what it has still to try again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._turn: dict[Place, int] = {}
        self._met: dict[Place, set[NodeId]] = {}
        self._later: dict[ContentId, float] = {}

    async def run(self) -> None:
        """Tell, hear and apply until cancelled."""
        while True:
            for place in sorted(self._services.trust.followed):
                await self._place(place)
            await trio.sleep(self._services.config.network.heads_s)

    async def _place(self, place: Place) -> None:
        show_own(self._services, place)
        for peer in self._asked(place):
            await self._ask(peer, place)
        await self._apply(place)

    def _asked(self, place: Place) -> list[NodeId]:
        """New peers of the place, and a few others in turn."""
        try:
            here = sorted(self._services.network.swarm().peers(topic_of(place)))
        except Unavailable:
            return []
        met = self._met.setdefault(place, set())
        new = [peer for peer in here if peer not in met]
        self._met[place] = met & set(here)
        start = self._turn.get(place, 0)
        self._turn[place] = start + PEERS
        turn = [here[(start + at) % len(here)] for at in range(min(PEERS, len(here)))]
        return list(dict.fromkeys([*new, *turn]))

    async def _ask(self, peer: NodeId, place: Place) -> None:
        services = self._services
        weight = partial(services.trust.opinions.heard, place=place)
        try:
            endpoint, shelf = services.network.endpoint(), services.network.shelf
            with trio.fail_after(ASK_S):
                fresh = await sync_heads(endpoint, shelf, peer, place, weight)
        except PeerError as broken:
            services.events.refuse(broken, peer=peer, place=str(place))
            return
        except (Unavailable, trio.TooSlowError) as away:
            log.info("%s does not tell its heads of %s: %r", peer, place, away)
            return  # asked again in another round
        self._met[place].add(peer)
        for head in fresh:
            card = {"place": str(place), "by": head.by, "seq": head.seq, "from": peer}
            services.events.emit("head-heard", accepted=len(head.accepted), **card)

    async def _apply(self, place: Place) -> None:
        services, known = self._services, following(self._services, place)
        found = adopt.change(known, may_apply(services, place))
        if found.drop:
            take_back(services, place, found.drop, back=False)
        if not known.auto:
            return
        for one in found.apply:
            if self._later.get(one.manifest, 0.0) <= trio.current_time():
                await self._adopt(place, one)

    async def _adopt(self, place: Place, one: Vouched) -> None:
        try:
            await bring(self._services, place, one)
        except P2pllmError as fault:
            self._later[one.manifest] = trio.current_time() + RETRY_S
            card = {"place": str(place), "manifest": one.manifest, "code": fault.code}
            self._services.events.emit("apply", state="waits", message=fault.message, **card)
            return
        note_applied(self._services, place, one)


def show_own(services: Services, place: Place) -> None:
    """Put what this node serves among the heads that it tells."""
    own = services.trust.heads.read(place)
    if own is not None:
        # A signature is a function of key and text, so this is the record that was written.
        raw = heads.seal(services.identity, own)
        services.network.shelf.add(raw, 1.0, time.time())


def may_apply(services: Services, place: Place) -> tuple[Vouched, ...]:
    """What may be applied at a place by this node's own verdicts and those it trusts."""
    trust = services.trust
    own = trust.heads.read(place)
    heard = services.network.shelf.of(place)
    trusted = {one.by for one in heard if trust.opinions.state(one.by, place) == "trusted"}
    mine = own.accepted if own else ()
    return adopt.vouched(services.identity.node, mine, heard, trusted, _refused(services, place))


def _refused(services: Services, place: Place) -> set[ContentId]:
    judged = services.trust.books.place(place).judged
    return {update for update, found in judged.items() if found[-1].verdict.decision == "reject"}


async def bring(services: Services, place: Place, one: Vouched) -> None:
    """Have an update here, verified and proved; raises as `pull` does."""
    if services.library.get(one.manifest) is not None:
        return
    peers = [peer for peer in one.by if peer != services.identity.node]
    connected = services.network.peers.connected
    ranked = services.trust.opinions.ranked([*peers, *sorted(connected)], place)
    near = [peer for peer in ranked if peer in connected] or ranked
    endpoint = services.network.endpoint()
    record = await fetch_bytes(endpoint, one.manifest, MAX_MANIFEST_BYTES, near)
    manifest = open_manifest(record)
    if manifest.place != place or manifest.kind != "adapter":
        raise PeerError("E0610", f"{one.manifest} is no adapter of {place}")
    if services.trust.opinions.shut(manifest.by, place):
        raise PeerError("E0714", f"its publisher {manifest.by} is shut out here")
    ref = f"{place}/{manifest.name}@{one.manifest}"
    await pull(services, PullRequest(ref=ref, from_=list(near[:PROVIDERS])), _quiet)


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


def heads_of(services: Services, place: Place) -> list[Head]:
    """Every head of a place that is here, our own too."""
    show_own(services, place)
    return services.network.shelf.of(place)


def _quiet(_stage: str, **_fields: object) -> None:
    """No progress is told of what goes on by itself."""
