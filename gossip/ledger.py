"""What a fetch brought from whom: counted while it runs, told as events, closed as a report."""

import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from p2pllm.errors import P2pllmError
from p2pllm.ids import NodeId


class Refusal(msgspec.Struct, frozen=True):
    """Why a peer was dropped for the rest of a fetch."""

    peer: NodeId
    code: str
    reason: str


class FetchEvent(msgspec.Struct, frozen=True):
    """How far a fetch is. `refused` is set when a peer was just dropped."""

    done: int  # bytes here, those of an earlier fetch included
    total: int  # bytes
    refused: Refusal | None = None


class PeerTally(msgspec.Struct, frozen=True):
    """What one peer gave."""

    chunks: int = 0  # that were good and new
    bytes: int = 0  # in those
    bad_chunks: int = 0


class FetchReport(msgspec.Struct, frozen=True):
    """What a fetch moved; blobs and chunks that were here before do not count."""

    bytes: int
    chunks: int
    seconds: float
    by_peer: dict[NodeId, PeerTally]
    refused: tuple[Refusal, ...]


class Ledger:
    """The running account of one fetch. Counted from worker threads, told and read under trio."""

    def __init__(self, on_event: Callable[[FetchEvent], None]) -> None:
        self._on_event = on_event
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._done = self._told = self._total = 0
        self._by_peer: dict[NodeId, PeerTally] = {}
        self._refused: list[Refusal] = []

    def expect(self, total: int) -> None:
        """It is known how many bytes the whole has."""
        self._total = total

    def have(self, count: int) -> None:
        """So many bytes need not be fetched, for they are here."""
        with self._lock:
            self._done += count
        self.tell()

    def good(self, peer: NodeId, count: int) -> None:
        """A chunk of `count` bytes arrived."""
        with self._lock:
            was = self._by_peer.get(peer, PeerTally())
            self._by_peer[peer] = PeerTally(was.chunks + 1, was.bytes + count, was.bad_chunks)
            self._done += count

    def bad(self, peer: NodeId) -> None:
        """A chunk arrived that is not what its hash says."""
        with self._lock:
            was = self._by_peer.get(peer, PeerTally())
            self._by_peer[peer] = PeerTally(was.chunks, was.bytes, was.bad_chunks + 1)

    def refuse(self, peer: NodeId, fault: P2pllmError) -> None:
        """`peer` is not asked again in this fetch."""
        reason = "; ".join((fault.message, *fault.why))[:500]
        refusal = Refusal(peer, fault.code, reason)
        self._refused.append(refusal)
        self.tell(refusal)

    def usable(self, providers: Sequence[NodeId]) -> list[NodeId]:
        """The providers that were not refused so far, each once."""
        dropped = {refusal.peer for refusal in self._refused}
        return [peer for peer in dict.fromkeys(providers) if peer not in dropped]

    def reasons(self) -> list[str]:
        """The refusals in words, for an error message."""
        return [f"{r.peer}: [{r.code}] {r.reason}" for r in self._refused]

    def tell(self, refused: Refusal | None = None) -> None:
        """Hand the caller an event, if there is news."""
        if refused or self._done != self._told:
            self._told = self._done
            self._on_event(FetchEvent(self._done, self._total, refused))

    def report(self) -> FetchReport:
        """The account as it stands."""
        tallies = dict(self._by_peer)
        return FetchReport(
            bytes=sum(tally.bytes for tally in tallies.values()),
            chunks=sum(tally.chunks for tally in tallies.values()),
            seconds=time.monotonic() - self._started,
            by_peer=tallies,
            refused=tuple(self._refused),
        )
