"""Tell and hear the heads of followed places: at once when one changes or a peer comes.

To tell a peer is to ask it: a question names the heads that the asker holds, and who lacks one of
them asks back. docs/specs/heads.md
"""

import logging
import random
import time
from collections.abc import Callable, Collection
from functools import partial

import msgspec
import trio

from gossip.announce import topic_of
from gossip.head_sync import sync_heads
from gossip.standing import Allowances
from node.backoff import pause
from node.services import Services
from p2pllm import heads
from p2pllm.durable import file_faults_told
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.heads import MAX_HEIRS, Head, Stamp
from p2pllm.ids import NodeId
from p2pllm.names import Place

log = logging.getLogger(__name__)
LOOK_S = 1.0  # how soon a peer that came, or a head of ours that changed, is noticed
TELL = 6  # peers told what is new here; each of them tells as many
PEERS = 3  # asked in a round, a place; others in the next
AT_ONCE = 8  # questions; a peer takes 32 streams of one node
ASK_S = 20.0
TRIES, FIRST_S, LONGEST_S = 4, 1.0, 8.0  # of a question that is not answered; then the rounds go on
BACK_RATE, BACK_BURST = 1.0, 32.0  # questions a second that a peer can make us ask by its own

Key = tuple[NodeId, Place]


class Telling:
    """Whom this node has asked, and of what it has told.

    news   called with a place whose heads, or whose peers, are other than before; `came`: peers
    """

    def __init__(self, services: Services, news: Callable[[Place, bool], None]) -> None:
        self._services = services
        self._news = news
        self._shown: dict[Place, Stamp] = {}  # the file of our head as it was told last
        self._met: dict[Place, set[NodeId]] = {}
        self._turn: dict[Place, int] = {}
        self._round_at = 0.0
        self._asking: set[Key] = set()
        self._again: set[Key] = set()  # to be asked once more when their question is answered
        self._back = Allowances(BACK_RATE, BACK_BURST)
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def run(self) -> None:
        """Tell and hear until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_back, nursery)
            while True:
                now = trio.current_time()
                in_turn = now >= self._round_at
                if in_turn:
                    self._round_at = now + self._services.config.network.heads_s
                for place in sorted(self._services.trust.followed):
                    self._look(place, nursery, in_turn=in_turn)
                await trio.sleep(LOOK_S)

    def _look(self, place: Place, nursery: trio.Nursery, *, in_turn: bool) -> None:
        here = self._here(place)
        came = set(here) - self._met.get(place, set())
        self._met[place] = set(here)
        if came:
            self._news(place, True)
        ask = [*sorted(came), *(self._next(place, here) if in_turn else ())]
        if self._show(place, again=in_turn):
            self._news(place, False)
            ask += self._some(here)
        for peer in dict.fromkeys(ask):
            self._start(peer, place, nursery)

    def _here(self, place: Place) -> list[NodeId]:
        try:
            return self._services.network.swarm().peers(topic_of(place))
        except Unavailable:
            return []

    def _next(self, place: Place, here: list[NodeId]) -> list[NodeId]:
        start = self._turn.get(place, 0)
        self._turn[place] = start + PEERS
        return [here[(start + at) % len(here)] for at in range(min(PEERS, len(here)))]

    @staticmethod
    def _some(here: Collection[NodeId]) -> list[NodeId]:
        return random.sample(sorted(here), min(TELL, len(here)))

    def _show(self, place: Place, *, again: bool) -> bool:
        """Put our head among those that are told, if its file is another one than before.

        again   look as well whether it names the keepers that are trusted now
        """
        stamp = self._services.trust.heads.stamp(place)
        if stamp is None or (stamp == self._shown.get(place) and not again):
            return False
        try:
            with file_faults_told():
                moved = show_own(self._services, place)
        except LocalError as fault:  # such as a full disk: looked at again in a round
            log.warning("the head of %s is not told: %s", place, fault)
            moved = False
        self._shown[place] = stamp
        return moved

    async def _ask_back(self, nursery: trio.Nursery) -> None:
        async for peer, place in self._services.network.hints:
            followed = place in self._services.trust.followed
            if followed and self._back.admit(peer, 1, 0.0, trio.current_time()) is not None:
                self._start(peer, place, nursery)

    def _start(self, peer: NodeId, place: Place, nursery: trio.Nursery) -> None:
        if (peer, place) in self._asking:
            self._again.add((peer, place))
        else:
            self._asking.add((peer, place))
            nursery.start_soon(self._ask, peer, place, nursery)

    async def _ask(self, peer: NodeId, place: Place, nursery: trio.Nursery) -> None:
        failed = 0
        try:
            while failed < TRIES:
                self._again.discard((peer, place))
                fresh = await self._question(peer, place)
                if fresh is None:
                    failed += 1
                    await trio.sleep(pause(failed, FIRST_S, LONGEST_S))
                    continue
                if fresh:
                    self._took(peer, place, fresh, nursery)
                if (peer, place) not in self._again:
                    return
        finally:
            self._asking.discard((peer, place))

    def _took(self, peer: NodeId, place: Place, fresh: list[Head], nursery: trio.Nursery) -> None:
        services = self._services
        for head in fresh:
            card = {"place": str(place), "by": head.by, "seq": head.seq, "from": peer}
            services.events.emit("head-heard", accepted=len(head.accepted), **card)
        if any(head.by == services.identity.node for head in fresh):
            self._shown.pop(place, None)  # of an earlier life: ours has to go beyond it
        self._news(place, False)
        for other in self._some(set(self._here(place)) - {peer}):
            self._start(other, place, nursery)

    async def _question(self, peer: NodeId, place: Place) -> list[Head] | None:
        """The heads that were new here; None if the peer does not answer."""
        services = self._services
        weight = partial(services.trust.opinions.heard, place=place)
        try:
            endpoint, shelf = services.network.endpoint(), services.network.shelf
            async with self._limit:
                with trio.fail_after(ASK_S):
                    return await sync_heads(endpoint, shelf, peer, place, weight)
        except PeerError as broken:
            services.events.refuse(broken, peer=peer, place=str(place))
            return []
        except (Unavailable, trio.TooSlowError) as away:
            log.info("%s does not tell its heads of %s: %r", peer, place, away)
            return None


def show_own(services: Services, place: Place) -> bool:
    """Put what this node serves among the heads that it tells; whether that was news.

    It names the keepers that are trusted here, who stand in for this one when it is gone. A node
    that was restored from an old copy signed later heads in its earlier life, which others hold:
    what it serves now gets a number beyond those, or nobody would take it.
    """
    shelf, files = services.network.shelf, services.trust.heads
    own = files.read(place)
    if own is None:
        return False
    told, heirs = shelf.by(place, own.by), _heirs(services, place)
    seq = max(own.seq, told.seq if told is not None else 0)
    other = own.heirs != heirs or (told is not None and told.seq >= own.seq and told != own)
    if other and services.network.presence.twin is None:  # or the two would outbid each other
        own = msgspec.structs.replace(own, seq=seq + 1, heirs=heirs)
        files.write(heads.seal(services.identity, own))
    # A signature is a function of key and text, so this is the record that was written.
    return shelf.add(heads.seal(services.identity, own), 1.0, time.time()) is not None


def _heirs(services: Services, place: Place) -> tuple[NodeId, ...]:
    keepers = {head.by for head in services.network.shelf.of(place)} - {services.identity.node}
    state = services.trust.opinions.state
    return tuple(sorted(each for each in keepers if state(each, place) == "trusted")[:MAX_HEIRS])
