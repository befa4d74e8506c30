"""What this node thinks of peers, for all parts that ask: gossip, search, fetch, relay."""

from collections.abc import Iterable, Mapping

from node import effects
from node.books import Books
from node.standing import WORST, Faults
from node.witnesses import Witnesses
from p2pllm.ids import NodeId
from p2pllm.names import Place
from trust.standing import State


class Opinions:
    """Faults on the wire and standing at places, as one answer to each question."""

    def __init__(self, me: NodeId, books: Books, faults: Faults, witnesses: Witnesses) -> None:
        self._me = me
        self._witnesses = witnesses
        self._books = books
        self._faults = faults

    def score(self, peer: NodeId) -> float:
        """What GossipSub is told: -100 (do not listen) to 10; 0 for a stranger."""
        judged = effects.score(self._books.standings(peer).values())
        return max(WORST, judged + self._faults.score(peer))

    def relays(self, publisher: NodeId, place: Place) -> bool:
        """Whether what this peer announces for a place is passed on."""
        return effects.relays(self._books.standing(publisher, place))

    def heard(self, peer: NodeId, place: Place) -> float:
        """Its score at a place, 0 to 1, after hearing witnesses, who move it within a cap."""
        return self._witnesses.score(peer, place)

    def witnesses(self, place: Place) -> Mapping[NodeId, float]:
        """How much each node's word about others counts at a place."""
        return self._witnesses.voices(place).weights

    def order(self, peer: NodeId, place: Place) -> tuple[int, float]:
        """Where it comes among providers and results, lower first; rank LEFT_OUT is passed over."""
        standing = self._books.standing(peer, place)
        return effects.order(standing, self.heard(peer, place))

    def ranked(self, peers: Iterable[NodeId], place: Place) -> list[NodeId]:
        """Peers in the order they are asked, each once, the banned and this node left out."""
        others = [peer for peer in dict.fromkeys(peers) if peer != self._me]
        orders = {peer: self.order(peer, place) for peer in others}
        return sorted(
            (p for p in others if orders[p][0] < effects.LEFT_OUT), key=orders.__getitem__
        )

    def state(self, peer: NodeId, place: Place) -> State:
        """Its state at a place, in a word."""
        return self._books.standing(peer, place).state

    def shut(self, peer: NodeId, place: Place) -> bool:
        """Whether nothing of it is used at this place."""
        return self._books.standing(peer, place).shut
