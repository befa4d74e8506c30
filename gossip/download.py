"""One blob from several peers at once: who fetches which chunks, until all are here.

A session a peer, each with one stream: two wants are always under way, so that the peer never
waits for us, and the bytes are received, hashed and written by one worker thread.
"""

import socket
import time
from collections import deque
from collections.abc import Sequence

import trio

from gossip import bulk
from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.ledger import Ledger
from gossip.messages import EXCHANGE_PROTOCOL, MAX_REQUEST_BYTES, Give, Want
from gossip.runs import Runs
from p2pllm import codec
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Partial

PEERS_AT_ONCE = 8  # each costs a thread and 1 MiB; more do not fill a home line better
OPEN_S = 15.0  # a dial through a relay takes several seconds
ANSWER_S = 20.0  # of which the peer may queue our want for a few
TELL_EVERY_S = 0.1  # more often is of no use to a person or a log
AHEAD = 2  # wants under way
RUN_S = 0.5  # what a run should take: long enough to be rare, short enough to share out
MAX_RUN = 64  # chunks
BUSY_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)  # after each "busy" in a row; then no more


class Download:
    """The rest of one partial blob. `run` returns when every chunk is here."""

    def __init__(self, endpoint: Endpoint, partial: Partial, ledger: Ledger) -> None:
        self.partial = partial
        self.ledger = ledger
        self.runs = Runs(partial.missing())
        self.threads = trio.CapacityLimiter(PEERS_AT_ONCE)
        self._endpoint = endpoint
        self._spare: deque[NodeId] = deque()
        self._given_back = trio.Event()
        self._workers = trio.CancelScope()
        self._fault: LocalError | None = None

    async def run(self, providers: Sequence[NodeId]) -> None:
        """Fetch all that is missing.

        Raises Unavailable E0906 when no provider is left, LocalError E0802 when the disk is full.
        """
        self._spare.extend(providers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            with self._workers:
                async with trio.open_nursery() as workers:
                    for _ in range(min(PEERS_AT_ONCE, len(self._spare), self.runs.left())):
                        workers.start_soon(self._work)
            nursery.cancel_scope.cancel()
        self.ledger.tell()
        if self._fault:
            raise self._fault
        if left := self.runs.left():
            raise Unavailable(
                "E0906",
                f"no provider left for {left} of {self.partial.chunk_count} chunks "
                f"of {self.partial.id}",
                why=self.ledger.reasons(),
            )

    def end(self) -> None:
        """Every chunk is here: end the sessions, whatever they still wait for."""
        self._workers.cancel()

    async def given_back(self) -> None:
        """Wait until a peer was dropped, so that what it owed is to be had."""
        await self._given_back.wait()

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_EVERY_S)
            self.ledger.tell()

    async def _work(self) -> None:
        while self._spare:
            peer = self._spare.popleft()
            try:
                await self._fetch_from(peer)
                return
            except (PeerError, Unavailable) as fault:
                self.runs.drop(peer)
                self.ledger.refuse(peer, fault)
                self._given_back.set()
                self._given_back = trio.Event()
            except LocalError as fault:
                self._fault = fault
                self._workers.cancel()

    async def _fetch_from(self, peer: NodeId) -> None:
        async with await open_exchange(self._endpoint, peer) as stream:
            await _Session(self, peer, stream).run()


class _Session:
    """One peer's part of a download: wants out, chunks in, in the order they were asked."""

    def __init__(self, download: Download, peer: NodeId, stream: trio.SocketStream) -> None:
        self._download, self._peer, self._stream = download, peer, stream
        self._asked: deque[range] = deque()
        self._pace = 1  # chunks a run; follows the peer's speed
        self._busy = 0
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    async def run(self) -> None:
        """Ask and receive until nothing is left; raises what the peer does wrong."""
        runs = self._download.runs
        while runs.left():
            while len(self._asked) < AHEAD and (run := runs.take(self._peer, self._pace)):
                await self._want(run)
            if self._asked:
                await self._answer(self._asked.popleft())
            else:
                await self._download.given_back()

    async def _want(self, run: range) -> None:
        want = Want(blob=self._download.partial.id, first=run.start, count=len(run))
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
        partial = self._download.partial
        offset, _ = partial.chunk_range(run.start)
        length = min(len(run) * CHUNK_BYTES, partial.size - offset)
        if (give.size, give.length) != (partial.size, length):
            raise PeerError(
                "E0603",
                f"{give.length} bytes of a blob of {give.size} offered, "
                f"wanted {length} of {partial.size}",
            )
        started = time.monotonic()
        await bulk.in_thread(
            self._stream, lambda sock: self._receive(sock, run), self._download.threads
        )
        speed = len(run) / max(time.monotonic() - started, 1e-3)
        self._pace = max(1, min(int(speed * RUN_S), 2 * self._pace, MAX_RUN))

    def _receive(self, sock: socket.socket, run: range) -> None:
        # In a worker thread: receive, check and write each chunk out of one buffer.
        download, peer = self._download, self._peer
        for chunk in run:
            _, length = download.partial.chunk_range(chunk)
            piece = self._buffer[:length]
            bulk.receive(sock, piece)
            try:
                download.partial.accept(chunk, piece)
            except PeerError:
                download.ledger.bad(peer)
                raise
            if download.runs.done(peer, chunk):
                download.ledger.good(peer, length)
            if not download.runs.left():
                trio.from_thread.run_sync(download.end)
                return


async def open_exchange(endpoint: Endpoint, peer: NodeId) -> trio.SocketStream:
    """A stream for wants; Unavailable E0902 if the peer gives none in time."""
    with trio.move_on_after(OPEN_S):
        return await endpoint.open_stream(peer, EXCHANGE_PROTOCOL)
    raise Unavailable("E0902", f"no stream to the peer within {OPEN_S:.0f} s")


async def ask(stream: trio.SocketStream, want: Want) -> None:
    """Send a want; Unavailable E0501 if the peer does not take it."""
    with trio.move_on_after(ANSWER_S):
        return await write_frame(stream, codec.encode(want))
    raise Unavailable("E0501", f"the peer took no want for {ANSWER_S:.0f} s")


async def read_answer(stream: trio.SocketStream) -> Give:
    """The peer's answer if it is "ok" or "busy"; Unavailable E0401, E0710 or E0501 if not."""
    with trio.move_on_after(ANSWER_S):
        raw = await read_frame(stream, MAX_REQUEST_BYTES)
        give = codec.decode(raw, Give, MAX_REQUEST_BYTES)
        if give.status == "unknown":
            raise Unavailable("E0401", "the peer does not have the blob")
        if give.status == "refused":
            raise Unavailable("E0710", "the peer does not offer the blob")
        return give
    raise Unavailable("E0501", f"no answer for {ANSWER_S:.0f} s")


async def wait_a_turn(refused: int) -> None:
    """Wait before a peer that said "busy" is asked again; Unavailable E0906 after enough of it.

    refused  how often it had said so before, in a row
    """
    if refused >= len(BUSY_WAITS_S):
        raise Unavailable("E0906", f'the peer said "busy" {refused + 1} times')
    await trio.sleep(BUSY_WAITS_S[refused])
