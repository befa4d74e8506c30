"""What this node holds of each place: its book, verdicts and accepted updates, replayed from disk.

Every change is a ledger entry that is on disk before this returns; at start the ledgers are read
again and give the same books, bit for bit.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from node.trust_db import Line, Observed, TrustDb
from p2pllm import codec
from p2pllm.ids import ContentId, NodeId, content_id
from p2pllm.keys import Identity
from p2pllm.names import Place
from p2pllm.summary import UpdateSummary
from trust import evidence, ledger
from trust.evidence import FIRST, MAX_REASONS, Observation, Shown
from trust.features import Measured
from trust.judge import Book, Round, Verdict, judge
from trust.ledger import Event, Judged, Merged
from trust.standing import Standing

LIMIT = 1e12  # of a number in an observation
MAX_SHOWN = 5000  # updates of a place whose verdicts are in memory, about 4 kB each
OWN, LAST = "own", "last"  # names of summaries that are of no update of the round
Beside = Callable[[Sequence[Verdict]], None]


def _no(_verdicts: Sequence[Verdict]) -> None:
    """Nothing to write beside."""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict as this node reached it."""

    number: int  # of the round at its place, from 1
    line: int  # of the ledger entry
    at: float  # Unix seconds
    verdict: Verdict
    measured: Measured

    @property
    def odd(self) -> bool:
        """Whether the update is unusual, which costs it weight."""
        return any(one.code == "p" and one.value < one.limit for one in self.verdict.reasons)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One update that a place serves here."""

    update: ContentId
    peer: NodeId
    number: int  # of the round that accepted it
    scale: float  # of the change, so that it is not longer than usual
    odd: bool  # unusual, and so of less weight


@dataclass
class PlaceBook:
    """One place: all of it follows from its ledger."""

    place: Place
    book: Book = field(default_factory=Book)
    tip: ContentId = FIRST
    lines: int = 0
    judged: dict[ContentId, list[Ruling]] = field(default_factory=dict)
    taken: dict[ContentId, Taken] = field(default_factory=dict)
    open: dict[ContentId, Ruling] = field(default_factory=dict)  # accepted, not yet tried
    merges: list[tuple[float, Merged]] = field(default_factory=list)
    since: dict[NodeId, float] = field(default_factory=dict)  # when a peer's state last changed

    def take(self, event: Event, at: float) -> list[Verdict]:
        """Let one event happen; the verdicts of a round."""
        verdicts: list[Verdict] = []
        before = self.book.peers
        if isinstance(event, Judged):
            self.book, verdicts = judge(self.book, event.round)
            for verdict, one in zip(verdicts, event.round.batch, strict=True):
                self._note(verdict, one, at)
        else:
            self.book = ledger.apply(self.book, event)
        if isinstance(event, Merged):
            self._merge(event, at)
        for peer, standing in self.book.peers.items():
            if peer not in before or before[peer].state != standing.state:
                self.since[peer] = at
        return verdicts

    def _note(self, verdict: Verdict, one: Measured, at: float) -> None:
        found = Ruling(
            number=self.book.rounds, line=self.lines + 1, at=at, verdict=verdict, measured=one
        )
        self.judged.setdefault(verdict.update, []).append(found)
        if len(self.judged) > MAX_SHOWN:
            kept = self.taken.keys() | self.open.keys()
            del self.judged[next(name for name in self.judged if name not in kept)]
        self.open.pop(verdict.update, None)
        if verdict.decision == "accept" and verdict.update not in self.taken:
            self.open[verdict.update] = found

    def _merge(self, event: Merged, at: float) -> None:
        self.merges.append((at, event))
        for update in event.taken:
            found = self.open.pop(update, None) or self.judged[update][-1]
            self.taken[update] = Taken(
                update=update,
                peer=found.verdict.peer,
                number=found.number,
                scale=found.verdict.scale,
                odd=found.odd,
            )
        for unfit in event.unfit:
            self.open.pop(unfit.update, None)
        for update in event.dropped:
            self.taken.pop(update, None)
            self.open.pop(update, None)


class Books:
    """The books of all places of this node."""

    def __init__(
        self, db: TrustDb, identity: Identity, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._identity = identity
        self._clock = clock
        self._places = {place: _replayed(place, db.ledger(place)) for place in db.places()}

    def places(self) -> list[PlaceBook]:
        """Every place where something was judged."""
        return [self._places[place] for place in sorted(self._places)]

    def place(self, place: Place) -> PlaceBook:
        """One place; empty if nothing happened there."""
        return self._places.get(place) or PlaceBook(place)

    def standing(self, peer: NodeId, place: Place) -> Standing:
        """A peer at a place; probation if it is new."""
        known = self._places.get(place)
        return known.book.peers.get(peer, Standing()) if known else Standing()

    def standings(self, peer: NodeId) -> Mapping[Place, Standing]:
        """A peer at every place where it is known."""
        found = self._places.items()
        return {place: p.book.peers[peer] for place, p in found if peer in p.book.peers}

    def judge(
        self, place: Place, now: Round, summaries: Mapping[str, UpdateSummary], also: Beside = _no
    ) -> list[Verdict]:
        """Judge a round; ledger, numbers and signed observations are on disk when this returns.

        summaries  by update; also OWN and LAST, what the updates were compared with
        also       writes more into the same transaction
        """

        def beside(verdicts: Sequence[Verdict]) -> None:
            also(verdicts)
            self._db.prune(place, self.place(place).book.rounds)
            number = self.place(place).book.rounds
            for update, summary in summaries.items():
                self._db.keep_summary(place, number, update, codec.encode(summary))
            for verdict, one in zip(verdicts, now.batch, strict=True):
                if verdict.peer != self._identity.node:
                    self._observe(place, number, verdict, (one, summaries.get(verdict.update)))

        return self.record(place, Judged(now), beside)

    def record(
        self,
        place: Place,
        event: Event,
        beside: Beside = _no,
    ) -> list[Verdict]:
        """Let an event happen at a place; it is on disk, with what `beside` writes, or did not.

        Raises PeerError if the event is a proof that proves nothing.
        """
        known = self._places[place] = self.place(place)
        at = self._clock()
        tip, raw = ledger.append(known.tip, event)
        try:
            with self._db.together():
                self._db.append(place, Line(known.lines + 1, at, raw))
                verdicts = known.take(event, at)
                known.tip, known.lines = tip, known.lines + 1
                beside(verdicts)
        except BaseException:
            # What memory holds must be what the disk holds.
            self._places[place] = _replayed(place, self._db.ledger(place))
            raise
        return verdicts

    def _observe(
        self,
        place: Place,
        number: int,
        verdict: Verdict,
        found: tuple[Measured, UpdateSummary | None],
    ) -> None:
        seq, before = self._db.tip(self._identity.node)
        measured, summary = found
        secret = self._db.fact("secret") or b""
        probe = summary.probe if summary else FIRST
        observation = Observation(
            by=self._identity.node,
            seq=seq + 1,
            before=content_id(before) if seq else FIRST,
            subject=verdict.peer,
            update=verdict.update,
            place=place,
            epoch=number,
            verdict=verdict.decision,
            features=content_id(codec.encode(measured.features)),
            probe=content_id(secret + bytes.fromhex(probe)),
            reasons=tuple(map(_shown, verdict.reasons[:MAX_REASONS])),
            observed_at=self._clock(),
        )
        raw = evidence.seal(self._identity, observation)
        self._db.observe(observed(observation, raw))


def observed(one: Observation, raw: bytes) -> Observed:
    """The row of a signed observation."""
    return Observed(
        observer=one.by,
        seq=one.seq,
        place=one.place,
        subject=one.subject,
        manifest=one.update,
        verdict=one.verdict,
        raw=raw,
    )


def _shown(reason: object) -> Shown:
    bounded = partial(_bounded, reason)
    return Shown(getattr(reason, "code", ""), bounded("value"), bounded("limit"))


def _bounded(reason: object, name: str) -> float:
    return max(-LIMIT, min(LIMIT, float(getattr(reason, name))))


def _replayed(place: Place, lines: Sequence[Line]) -> PlaceBook:
    known = PlaceBook(place)
    for line, event in zip(lines, ledger.read(line.raw for line in lines), strict=True):
        known.take(event, line.at)
        known.tip, known.lines = content_id(line.raw), line.number
    return known
