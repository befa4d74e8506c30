"""What an evidence bundle proves: each verdict recomputed, beside the one that was written down.

Nothing but the bundle is needed, and nothing in it is believed: the ledger is replayed, features
are read out of the summaries again, signatures and chains are checked. The same bytes give the same
answer anywhere.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from p2pllm import codec
from p2pllm.ids import ContentId, NodeId, NodeIdField, content_id
from trust.bundle import Bundle, Probe, events_of, open_bundle, readings_of, reports_of
from trust.evidence import Observation, equivocates, open_observation
from trust.features import Features
from trust.judge import Book, Verdict, judge
from trust.ledger import Judged, Operator, apply
from trust.standing import Standing

NEAR = 1e-9  # relative; two machines' logarithms may differ in the last digit

Found = Literal["equal", "differs", "absent"]


class Recomputed(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict on the subject, from the ledger alone, beside what was written down."""

    round: int  # of the place, 1 for the first that was judged
    verdict: Verdict
    features: Features
    probe: tuple[Probe, ...]  # out of the summary; () where none is in the bundle
    recorded: Found  # the signed observation of it
    measured: Found  # the features, against those of the summary
    differences: tuple[str, ...]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle proves."""

    by: NodeIdField
    subject: NodeIdField
    place: str
    made_at: float
    rounds: int
    state: str  # of the subject at the end of the ledger
    score: float
    strikes: int
    verdicts: tuple[Recomputed, ...]
    operator: tuple[Operator, ...]
    reports: tuple[Observation, ...]
    liars: tuple[NodeIdField, ...]  # who signed two observations that contradict each other
    faults: tuple[str, ...]  # all that does not fit; () if the bundle holds

    @property
    def sound(self) -> bool:
        """Every verdict is the recorded one, and nothing contradicts."""
        return not self.faults


def verify(raw: bytes) -> Verified:
    """What a bundle says, recomputed. Pure: the same bytes give the same answer anywhere.

    Raises PeerError E0602 or E0603 for what cannot be replayed at all: a forged signature, a broken
    chain, a round that breaks a bound. What merely differs is named in `faults`.
    """
    bundle = open_bundle(raw)
    events = events_of(bundle)
    reports = reports_of(bundle)
    written = _Written(bundle, [one for one in reports if one.by == bundle.by])
    book, rounds = Book(), 0
    found: list[Recomputed] = []
    for event in events:
        if not isinstance(event, Judged):
            book = apply(book, event)
            continue
        rounds += 1
        book, verdicts = judge(book, event.round)
        for measured, verdict in zip(event.round.batch, verdicts, strict=True):
            if measured.peer == bundle.subject:
                found.append(written.beside(rounds, verdict, measured.features))
    standing = book.peers.get(bundle.subject, Standing())
    liars = _liars(bundle.observations)
    return Verified(
        by=bundle.by,
        subject=bundle.subject,
        place=str(bundle.place),
        made_at=bundle.made_at,
        rounds=rounds,
        state=standing.state,
        score=standing.reputation.mean,
        strikes=standing.strikes,
        verdicts=tuple(found),
        operator=tuple(e for e in events if isinstance(e, Operator) and e.peer == bundle.subject),
        reports=tuple(reports),
        liars=liars,
        faults=(*_faults(found, liars), *written.left()),
    )


class _Written:
    """What was written down at the time: observations, each used up by one verdict; summaries."""

    def __init__(self, bundle: Bundle, own: Sequence[Observation]) -> None:
        self._seq = 0
        self._open: dict[tuple[ContentId, ContentId], list[Observation]] = {}
        for one in own:
            self._open.setdefault((one.update, one.features), []).append(one)
        self._readings = readings_of(bundle)

    def beside(self, number: int, verdict: Verdict, features: Features) -> Recomputed:
        """A verdict beside its record and its measurement."""
        waiting = self._open.get((verdict.update, content_id(codec.encode(features))))
        record = waiting.pop(0) if waiting else None
        differences = _differences(verdict, record) if record else []
        if record and record.seq < self._seq:
            differences.append(f"observation {record.seq} was signed out of order")
        self._seq = record.seq if record else self._seq
        recorded: Found = "absent" if record is None else "differs" if differences else "equal"
        read = self._readings.get((verdict.update, number))
        measured: Found = "absent"
        if read is not None and read.whole:
            measured = "equal" if read.features == features else "differs"
        if measured == "differs":
            differences.append("the features are not those of the summary")
        return Recomputed(
            round=number,
            verdict=verdict,
            features=features,
            probe=read.probe if read else (),
            recorded=recorded,
            measured=measured,
            differences=tuple(differences),
        )

    def left(self) -> list[str]:
        """The observations that no round of the ledger accounts for."""
        return [
            f"observation {one.seq}: the ledger holds no such round"
            for waiting in self._open.values()
            for one in waiting
        ]


def _liars(records: Sequence[bytes]) -> tuple[NodeId, ...]:
    """Who signed two observations of the subject that cannot both be true."""
    groups: dict[object, list[bytes]] = {}
    for record in dict.fromkeys(records):
        one = open_observation(record)
        groups.setdefault((one.by, "seq", one.seq), []).append(record)
        groups.setdefault((one.by, one.update, one.epoch), []).append(record)
    found = {equivocates(*two) for group in groups.values() for two in pairwise(group)}
    return tuple(sorted(liar for liar in found if liar is not None))


def _differences(verdict: Verdict, record: Observation) -> list[str]:
    differences = []
    if record.verdict != verdict.decision:
        differences.append(f"recorded {record.verdict}, recomputed {verdict.decision}")
    reasons = {reason.code: reason for reason in verdict.reasons}
    for shown in record.reasons:
        again = reasons.get(shown.code)
        if again is None:
            differences.append(f"{shown.code} is no number of the judge")
        elif not (_near(shown.value, again.value) and _near(shown.limit, again.limit)):
            differences.append(
                f"{shown.code}: recorded {shown.value:g} of {shown.limit:g}, "
                f"recomputed {again.value:g} of {again.limit:g}"
            )
    return differences


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= NEAR * max(1.0, abs(one), abs(other))


def _faults(found: Sequence[Recomputed], liars: Sequence[NodeId]) -> list[str]:
    faults = [f"{liar} signed two observations that contradict each other" for liar in liars]
    return faults + [
        f"round {one.round}, update {one.verdict.update[:16]}: {difference}"
        for one in found
        for difference in one.differences
    ]
