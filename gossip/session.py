"""One peer's part of a download: wants out, chunks in, in the order they were asked.

Two wants are always under way, so that the peer never waits for us. A thread receives the chunks
of a run, two others check and write them.
"""

import socket
import time
from collections import deque
from collections.abc import Callable

import trio

from gossip import bulk
from gossip.asking import ask, read_answer, wait_a_turn
from gossip.landing import KEEPERS, Landing
from gossip.ledger import Ledger
from gossip.messages import Want
from gossip.runs import Runs
from p2pllm.errors import P2pllmError, PeerError
from p2pllm.ids import NodeId
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Partial

AHEAD = 2  # wants under way
RUN_S = 0.5  # what a run should take: long enough to be rare, short enough to share out
MAX_RUN = 64  # chunks


class Shared:
    """What the sessions of one download share. `on_complete` is called from a thread."""

    def __init__(
        self, partial: Partial, ledger: Ledger, peers: int, on_complete: Callable[[], None]
    ) -> None:
        self.partial, self.ledger = partial, ledger
        self.runs = Runs(partial.missing())
        self.threads = trio.CapacityLimiter((1 + KEEPERS) * peers)
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

    async def run(self) -> None:
        """Fetch until nothing is left; raises what the peer, or our disk, does wrong."""
        fault: P2pllmError | None = None
        trio_token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            landing = Landing(self._keep, lambda: trio_token.run_sync_soon(scope.cancel))
            async with trio.open_nursery() as nursery:
                for _ in range(KEEPERS):
                    nursery.start_soon(self._keep_all, landing)
                try:
                    await self._converse(landing)
                except P2pllmError as met:
                    fault = met
                finally:
                    landing.close()
        if fault := landing.fault or fault:
            raise fault

    def _keep(self, chunk: int, piece: memoryview) -> None:
        self._shared.keep(self._peer, chunk, piece)

    async def _keep_all(self, landing: Landing) -> None:
        await trio.to_thread.run_sync(landing.keep_all, limiter=self._shared.threads)

    async def _converse(self, landing: Landing) -> None:
        runs = self._shared.runs
        while runs.left():
            while len(self._asked) < AHEAD and (run := runs.take(self._peer, self._pace)):
                await self._want(run)
            if self._asked:
                await self._answer(self._asked.popleft(), landing)
            else:
                await self._shared.given_back()

    async def _want(self, run: range) -> None:
        want = Want(blob=self._shared.partial.id, first=run.start, count=len(run))
        await ask(self._stream, want)
        self._asked.append(run)

    async def _answer(self, run: range, landing: Landing) -> None:
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
        await self._receive(run, landing)

    async def _receive(self, run: range, landing: Landing) -> None:
        def receive(sock: socket.socket) -> None:
            for chunk in run:
                landing.receive(sock, chunk, self._shared.partial.chunk_range(chunk)[1])

        started = time.monotonic()
        await bulk.in_thread(self._stream, receive, self._shared.threads)
        speed = len(run) / max(time.monotonic() - started, 1e-3)  # chunks a second
        self._pace = max(1, min(int(speed * RUN_S), 2 * self._pace, MAX_RUN))
