"""The evidence bundle: all that a node saw of one peer at one place, in a file that checks itself.

The ledger of the place, whole, since a verdict depends on all that came before it; what observers
signed about the subject; and the measurements. What it proves: `trust.verified`. Format:
docs/specs/evidence.md, section 7.5.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated

import msgspec

from p2pllm import codec
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeIdField, content_id
from p2pllm.keys import Identity
from p2pllm.names import Place
from p2pllm.summary import MAX_SUMMARY_BYTES, UpdateSummary
from trust.evidence import MAX_OBSERVATION_BYTES, Observation, open_observation
from trust.features import Features
from trust.ledger import MAX_ENTRY_BYTES, Event, Judged, read
from trust.reading import Reference, features_of

PURPOSE = "bundle.1"
MAX_BUNDLE_BYTES = 48 * 1024 * 1024  # fits an answer of the control API
MAX_ENTRIES = 10_000
MAX_OBSERVATIONS = 10_000
MAX_SUMMARIES = 512
MAX_BATCH = 1000
MAX_PAIRS = 10_000_000  # updates compared with each other over all rounds: half a minute of work

Entry = Annotated[bytes, msgspec.Meta(max_length=MAX_ENTRY_BYTES)]
Signed = Annotated[bytes, msgspec.Meta(max_length=MAX_OBSERVATION_BYTES)]
Packed = Annotated[bytes, msgspec.Meta(max_length=MAX_SUMMARY_BYTES)]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Which measurements the features of one update came from; content ids of `summaries`."""

    update: ContentIdField
    round: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # of the place, from 1
    summary: ContentIdField
    own: ContentIdField | None = None  # of the observer's own training in that round, if shown
    last: ContentIdField | None = None  # of what the place had accepted last


class Bundle(msgspec.Struct, frozen=True, kw_only=True, tag="bundle.1"):
    """What one node shows of one subject at one place. Signed as `bundle.1`."""

    by: NodeIdField  # whose ledger and judgement this is
    subject: NodeIdField
    place: Place
    made_at: Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds
    ledger: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    observations: Annotated[tuple[Signed, ...], msgspec.Meta(max_length=MAX_OBSERVATIONS)]
    summaries: Annotated[tuple[Packed, ...], msgspec.Meta(max_length=MAX_SUMMARIES)] = ()
    taken: Annotated[tuple[Taken, ...], msgspec.Meta(max_length=MAX_SUMMARIES)] = ()


class Probe(msgspec.Struct, frozen=True):
    """Loss per token on one domain's probe, without and with an update."""

    domain: str
    before: float
    after: float


class Asked(msgspec.Struct, frozen=True):
    """What a bundle is to be about."""

    subject: NodeIdField
    place: Place
    made_at: float


def make(
    identity: Identity,
    asked: Asked,
    ledger: Sequence[bytes],
    observations: Iterable[bytes],
    summaries: Iterable[bytes] = (),
    taken: Iterable[Taken] = (),
) -> bytes:
    """The signed bundle of one subject; observations of others and other places are left out.

    Of more measurements than a bundle holds the latest are shown; the verdicts are all there still.
    Raises LocalError E0801 if it would be longer than a bundle may be.
    """
    kept = []
    for record in observations:
        one = open_observation(record)
        if one.subject == asked.subject and one.place == asked.place:
            kept.append((one.by, one.seq, record))
    packed = {content_id(raw): raw for raw in summaries}
    shown = _latest(taken)
    bundle = Bundle(
        by=identity.node,
        subject=asked.subject,
        place=asked.place,
        made_at=asked.made_at,
        ledger=tuple(ledger),
        observations=tuple(record for _, _, record in sorted(kept)),
        summaries=tuple(sorted(packed[name] for name in _named(shown) if name in packed)),
        taken=tuple(sorted(shown, key=codec.encode)),
    )
    raw = codec.sign(identity, PURPOSE, bundle)
    try:
        open_bundle(raw)
    except PeerError as refused:
        raise LocalError("E0801", "the evidence is too long", why=[refused.message]) from refused
    return raw


def _latest(taken: Iterable[Taken]) -> list[Taken]:
    """As many of the latest as fit with the summaries that they name."""
    kept: list[Taken] = []
    names: set[ContentId] = set()
    for one in sorted(set(taken), key=lambda one: (-one.round, one.update)):
        names |= _named([one])
        if len(names) > MAX_SUMMARIES or len(kept) == MAX_SUMMARIES:
            break
        kept.append(one)
    return kept


def _named(taken: Iterable[Taken]) -> set[ContentId]:
    named = (name for one in taken for name in (one.summary, one.own, one.last))
    return {name for name in named if name is not None}


def open_bundle(raw: bytes) -> Bundle:
    """A bundle out of signed bytes; PeerError E0602 or E0603 if it is forged or malformed."""
    return codec.open_signed(raw, PURPOSE, Bundle, MAX_BUNDLE_BYTES)


class Reading(msgspec.Struct, frozen=True):
    """What a summary says again of one update in one round."""

    features: Features | None  # None: it gives none
    whole: bool  # the observer's own training is there too, without which there are no features
    probe: tuple[Probe, ...]


def readings_of(bundle: Bundle) -> dict[tuple[ContentId, int], Reading]:
    """What the summaries say of each update and round."""
    packed = {content_id(raw): raw for raw in bundle.summaries}
    return {(taken.update, taken.round): _read(taken, packed) for taken in bundle.taken}


def _read(taken: Taken, packed: Mapping[ContentId, bytes]) -> Reading:
    summary, own, last = (_summary(name, packed) for name in (taken.summary, taken.own, taken.last))
    assert summary is not None
    effect = summary.merged or summary.alone
    probe = tuple(Probe(one.domain, one.before, one.after) for one in effect.influences)
    if own is None:
        return Reading(None, False, probe)
    try:
        return Reading(features_of(summary, Reference(own=own, last=last)), True, probe)
    except ArithmeticError:  # numbers within their ranges whose product is in none
        return Reading(None, True, probe)


def _summary(name: ContentId | None, packed: Mapping[ContentId, bytes]) -> UpdateSummary | None:
    if name is None:
        return None
    if name not in packed:
        raise PeerError("E0603", f"the summary {name} is not in the bundle")
    return codec.decode(packed[name], UpdateSummary, MAX_SUMMARY_BYTES)


def events_of(bundle: Bundle) -> list[Event]:
    """The ledger's events, all within the bounds that keep replaying them affordable."""
    try:
        events = list(read(bundle.ledger))
    except LocalError as broken:
        raise PeerError("E0603", broken.message, why=broken.why) from broken
    rounds = [event.round for event in events if isinstance(event, Judged)]
    for number, now in enumerate(rounds, 1):
        named = {(one.peer, one.update) for one in now.batch}
        if len(now.batch) > MAX_BATCH or len(named) < len(now.batch):
            raise PeerError("E0603", f"round {number}: over {MAX_BATCH} updates, or one twice")
        if len({len(one.features.sketch) for one in now.batch}) > 1:
            raise PeerError("E0603", f"round {number}: sketches of different lengths")
    pairs = sum(len(now.batch) ** 2 for now in rounds)
    if pairs > MAX_PAIRS:
        raise PeerError("E0603", f"{pairs} pairs of updates to compare, at most {MAX_PAIRS}")
    return events


def reports_of(bundle: Bundle) -> list[Observation]:
    """The observations, each signed, of the subject, and linked to the one before if that is here.

    What an observer said of others is left out, so its numbers may skip.
    """
    reports = [open_observation(record) for record in bundle.observations]
    for one in reports:
        if one.subject != bundle.subject or one.place != bundle.place:
            raise PeerError("E0603", f"observation {one.seq} of {one.by} is of something else")
    for (one, record), (after, _) in pairwise(zip(reports, bundle.observations, strict=True)):
        if (one.by, one.seq) > (after.by, after.seq):
            raise PeerError("E0603", "the observations are not in order")
        linked = one.by == after.by and one.seq + 1 == after.seq
        if linked and after.before != content_id(record):
            raise PeerError("E0603", f"observation {after.seq} of {after.by} breaks its chain")
    return reports
