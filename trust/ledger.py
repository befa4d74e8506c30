"""The append-only ledger of one place: what happened, in bytes, and the book that follows from it.

Nothing but the ledger is kept: replaying it gives the same book, bit for bit. Each entry names
the hash of the one before, so that a changed, lost or moved entry is found.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Literal

import msgspec

from p2pllm import codec
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeId, NodeIdField, content_id
from trust.evidence import FIRST, equivocates
from trust.judge import Book, Round, judge
from trust.standing import Standing, move, quarantine, release

MAX_ENTRY_BYTES = 4 * 1024 * 1024  # a round of 1,000 updates of at most 4,000 bytes
MAX_REASON = 500


class Judged(msgspec.Struct, frozen=True, tag="judged.1"):
    """A round of updates was judged."""

    round: Round


class Operator(msgspec.Struct, frozen=True, tag="operator.1"):
    """The operator put a peer into a state."""

    act: Literal["quarantine", "release", "trust", "probation"]
    peer: NodeIdField
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Proof(msgspec.Struct, frozen=True, tag="proof.1"):
    """Two signed observations of one peer that contradict each other."""

    one: bytes
    other: bytes


class Unfit(msgspec.Struct, frozen=True):
    """An update that was judged well and still not taken: the number, and its limit."""

    update: ContentIdField
    code: Annotated[str, msgspec.Meta(pattern=r"\A[a-z_]{1,24}\Z")]
    value: float
    limit: float


class Merged(msgspec.Struct, frozen=True, kw_only=True, tag="merged.1"):
    """What a place serves changed, or did not, after the candidate was probed."""

    taken: tuple[ContentIdField, ...] = ()
    unfit: tuple[Unfit, ...] = ()
    dropped: tuple[ContentIdField, ...] = ()  # taken before, and out now
    before: float = 0.0  # loss on the probe, nats per token; 0 where nothing was probed
    after: float = 0.0


Event = Judged | Operator | Proof | Merged


class Entry(msgspec.Struct, frozen=True, tag="ledger.1"):
    """One line of a ledger."""

    before: ContentIdField  # of the encoded entry before; FIRST for the first
    event: Event


def append(before: ContentId, event: Event) -> tuple[ContentId, bytes]:
    """The bytes of the next entry, and its content id to give with the one after it."""
    raw = codec.encode(Entry(before, event))
    return content_id(raw), raw


def apply(book: Book, event: Event) -> Book:
    """The book after one event; PeerError if a proof proves nothing."""
    if isinstance(event, Judged):
        return judge(book, event.round)[0]
    if isinstance(event, Merged):
        return book  # it is about updates; what their peers are worth was judged before
    if isinstance(event, Operator):
        standing = book.peers.get(event.peer, Standing())
        return _with(book, event.peer, _ACTS[event.act](standing))
    liar = equivocates(event.one, event.other)
    if liar is None:
        raise PeerError("E0603", "the two observations do not contradict each other")
    return _with(book, liar, move(book.peers.get(liar, Standing()), "equivocation"))


def _put_out(standing: Standing) -> Standing:
    return standing if standing.shut else quarantine(standing)


def _trust(standing: Standing) -> Standing:
    return msgspec.structs.replace(standing, state="trusted", stake=0.0, counter=0.0, damage=0.0)


def _probation(standing: Standing) -> Standing:
    return Standing(rounds=standing.rounds, strikes=standing.strikes)


_ACTS: Mapping[str, Callable[[Standing], Standing]] = {
    "quarantine": _put_out,
    "release": release,
    "trust": _trust,
    "probation": _probation,
}


def read(entries: Iterable[bytes]) -> Iterator[Event]:
    """The events of a ledger in order; LocalError E0306 where its chain breaks."""
    before = FIRST
    for number, raw in enumerate(entries, 1):
        try:
            entry = codec.decode(raw, Entry, MAX_ENTRY_BYTES)
        except PeerError as bad:
            raise _damaged(number, bad.message) from bad
        if entry.before != before:
            raise _damaged(number, "it does not follow the entry before it")
        before = content_id(raw)
        yield entry.event


def replay(entries: Iterable[bytes]) -> Book:
    """The book that a ledger's entries lead to, from nothing."""
    book = Book()
    for event in read(entries):
        book = apply(book, event)
    return book


def _with(book: Book, peer: NodeId, standing: Standing) -> Book:
    return msgspec.structs.replace(book, peers={**book.peers, peer: standing})


def _damaged(number: int, reason: str) -> LocalError:
    return LocalError(
        "E0306",
        f"entry {number} of a trust ledger is damaged",
        why=[reason],
        fix=["restore the ledger from a backup, or remove it: all peers then start on probation"],
    )
