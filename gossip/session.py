"""One peer's part of a download: wants out, chunks in, in the order they were asked.

Two wants are always under way, so that the peer never waits for us. Two threads take turns at the
socket; whoever received a chunk checks and writes it, while it is in the cache of its core and the
other receives the next. So the peer does not wait for the disk either.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import trio

from gossip import bulk
from gossip.asking import ask, read_answer, wait_a_turn
from gossip.ledger import Ledger
from gossip.messages import Want
from gossip.runs import Runs
from p2pllm.errors import PeerError
from p2pllm.ids import NodeId
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Partial

AHEAD = 2  # wants under way
THREADS = 2  # a peer; each has a buffer of 1 MiB
RUN_S = 0.5  # what a run should take: long enough to be rare, short enough to share out
MAX_RUN = 64  # chunks


class Shared:
    """What the sessions of one download share. `on_complete` is called from a thread."""

    def __init__(
        self, partial: Partial, ledger: Ledger, peers: int, on_complete: Callable[[], None]
    ) -> None:
        self.partial, self.ledger = partial, ledger
        self.runs = Runs(partial.missing())
        self.threads = trio.CapacityLimiter(THREADS * peers)
        self._on_complete = on_complete
        self._given_back = trio.Event()

    def keep(self, peer: NodeId, chunk: int, piece: memoryview) -> None:
        """Check and write a chunk. Raises PeerError E0604, LocalError E0802 or E1001."""
        try:
            self.partial.accept(chunk, piece)
        except PeerError:
            self.ledger.bad(peer)
            raise
        if self.runs.done(peer, chunk):
            self.ledger.good(peer, len(piece))
        if not self.runs.left():
            self._on_complete()

    def give_back(self, peer: NodeId) -> None:
        """What this peer owes is to be had by others."""
        self.runs.drop(peer)
        self._given_back.set()
        self._given_back = trio.Event()

    async def given_back(self) -> None:
        """Wait until something is given back."""
        await self._given_back.wait()


class Session:
    """The conversation with one peer over one stream."""

    def __init__(self, shared: Shared, peer: NodeId, stream: trio.SocketStream) -> None:
        self._shared, self._peer, self._stream = shared, peer, stream
        self._asked: deque[range] = deque()
        self._pace = 1  # chunks a run; follows the peer's speed
        self._busy = 0
        self._buffers = [memoryview(bytearray(CHUNK_BYTES)) for _ in range(THREADS)]

    async def run(self) -> None:
        """Fetch until nothing is left; raises what the peer, or our disk, does wrong."""
        runs = self._shared.runs
        while runs.left():
            while len(self._asked) < AHEAD and (run := runs.take(self._peer, self._pace)):
                await self._want(run)
            if self._asked:
                await self._answer(self._asked.popleft())
            else:
                await self._shared.given_back()

    async def _want(self, run: range) -> None:
        want = Want(blob=self._shared.partial.id, first=run.start, count=len(run))
        await ask(self._stream, want)
        self._asked.append(run)

    async def _answer(self, run: range) -> None:
        give = await read_answer(self._stream)
        if give.status == "busy":
            await wait_a_turn(self._busy)
            self._busy += 1
            await self._want(run)
            return
        self._busy = 0
        partial = self._shared.partial
        offset, _ = partial.chunk_range(run.start)
        length = min(len(run) * CHUNK_BYTES, partial.size - offset)
        if (give.size, give.length) != (partial.size, length):
            raise PeerError(
                "E0603",
                f"{give.length} bytes of a blob of {give.size} offered, "
                f"wanted {length} of {partial.size}",
            )
        started = time.monotonic()
        turns = _Turns(run)
        await bulk.in_threads(
            self._stream, lambda sock: self._receive(sock, turns), self._shared.threads, THREADS
        )
        speed = len(run) / max(time.monotonic() - started, 1e-3)  # chunks a second
        self._pace = max(1, min(int(speed * RUN_S), 2 * self._pace, MAX_RUN))

    def _receive(self, sock: socket.socket, turns: "_Turns") -> None:
        buffer = self._buffers.pop()
        try:
            while piece := turns.receive(sock, buffer, self._shared.partial):
                self._shared.keep(self._peer, *piece)
        finally:
            self._buffers.append(buffer)


class _Turns:
    """The chunks of one run, each received by one of several threads."""

    def __init__(self, run: range) -> None:
        self._chunks = iter(run)
        self._lock = threading.Lock()

    def receive(
        self, sock: socket.socket, buffer: memoryview, partial: Partial
    ) -> tuple[int, memoryview] | None:
        """The next chunk and its bytes, once it is this thread's turn; None after the last."""
        with self._lock:
            chunk = next(self._chunks, None)
            if chunk is None:
                return None
            piece = buffer[: partial.chunk_range(chunk)[1]]
            bulk.receive(sock, piece)
            return chunk, piece
