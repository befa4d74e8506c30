"""What other nodes observed: asked from them, checked, kept within bounds, and weighed.

A node is asked for its own observations alone, and each must follow the one before it. What they
say moves a score within the caps of `trust.witness` and no state; one that says two things under
one number has signed the proof that bans it.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

import msgspec

from node.books import Books, observed
from node.trust_db import MAX_OBSERVERS, TrustDb, Word
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId, content_id
from p2pllm.names import Place
from trust.evidence import FIRST, check_chain, equivocates, open_observation
from trust.ledger import Proof
from trust.standing import ALLOWED, Standing
from trust.witness import Report, witness_weights, witnessed

VALUES: Mapping[str, float] = {"accept": 1.0, "hold": 0.5, "reject": 0.0}


class Voices(msgspec.Struct, frozen=True):
    """What is said about the peers of one place, and how much each word counts."""

    reports: Mapping[NodeId, tuple[Report, ...]]
    weights: Mapping[NodeId, float]


class Witnesses:
    """Testimony of other nodes, on disk, and what follows from it."""

    def __init__(self, me: NodeId, db: TrustDb, books: Books) -> None:
        self._me = me
        self._db = db
        self._books = books
        self._voices: dict[Place, tuple[int, Voices]] = {}
        self._version = 0  # of the testimony

    def from_number(self, peer: NodeId) -> int:
        """From which of its observations on a peer is asked: the last that is here comes again."""
        seq, _ = self._db.tip(peer)
        return max(0, seq - 1)

    def take(self, peer: NodeId, records: Sequence[bytes]) -> int:
        """Keep what a peer said of its own observing; how many are new.

        Raises PeerError E0602 or E0603 for a record that is forged, another's, or breaks the chain;
        if two records contradict each other the proof is in the ledger when this returns.
        """
        seq, tip = self._db.tip(peer)
        if records and seq:
            first = open_observation(records[0])
            if first.seq == seq and records[0] != tip:
                self._contradicted(peer, tip, records[0])
                return 0
            records = records[1:] if records[0] == tip else records
        if seq == 0 and not self._has_room():
            return 0
        chain = check_chain(records, content_id(tip) if seq else FIRST)
        if any(one.by != peer for one in chain):
            raise PeerError("E0603", f"{peer} tells what another observed")
        with self._db.together():
            for one, raw in zip(chain, records, strict=True):
                self._db.observe(observed(one, raw))
            self._db.trim(peer)
        self._version += bool(chain)
        return len(chain)

    def _has_room(self) -> bool:
        """Room for one more node: one whose word counts nowhere makes way."""
        observers = self._db.observers()
        if len(observers) < MAX_OBSERVERS:
            return True
        for observer in observers:
            standings = self._books.standings(observer).values()
            if observer != self._me and not any(map(_word, standings)):
                self._db.drop_observer(observer)
                return True
        return False

    def _contradicted(self, peer: NodeId, one: bytes, other: bytes) -> None:
        if equivocates(one, other) != peer:
            raise PeerError("E0603", f"{peer} tells what another observed")
        places = {open_observation(one).place, open_observation(other).place}
        for place in sorted(places | set(self._books.standings(peer))):
            self._books.record(place, Proof(one, other))

    def score(self, peer: NodeId, place: Place) -> float:
        """A peer's score at a place, 0 to 1, after hearing witnesses."""
        standing = self._books.standing(peer, place)
        voices = self.voices(place)
        reports = voices.reports.get(peer, ())
        return witnessed(standing.reputation.mean, standing.rounds, reports, voices.weights)

    def voices(self, place: Place) -> Voices:
        """What is said at a place; made again when testimony or the place's book changed."""
        version = self._version + self._books.place(place).lines
        kept = self._voices.get(place)
        if kept is None or kept[0] != version:
            kept = version, self._listen(place)
            self._voices[place] = kept
        return kept[1]

    def _listen(self, place: Place) -> Voices:
        reports = reports_of(self._db.words(place, self._me))
        peers = self._books.place(place).book.peers
        direct = {peer: _word(standing) for peer, standing in peers.items()}
        weights = witness_weights(direct, [one for many in reports.values() for one in many])
        return Voices(reports, weights)


def reports_of(words: Iterable[Word]) -> dict[NodeId, tuple[Report, ...]]:
    """Each observer's opinion of each subject: the mean of its latest verdicts on its updates."""
    values: dict[tuple[NodeId, NodeId], list[float]] = {}
    for one in words:
        values.setdefault((one.observer, one.subject), []).append(VALUES[one.verdict])
    reports: dict[NodeId, list[Report]] = {}
    for (by, subject), found in sorted(values.items()):
        reports.setdefault(subject, []).append(Report(by, subject, fsum(found) / len(found)))
    return {subject: tuple(many) for subject, many in reports.items()}


def _word(standing: Standing) -> float:
    return standing.reputation.mean * ALLOWED[standing.state].testimony
