"""Hand out blobs to peers: one stream a peer, a want for each run of chunks, answered in order.

Goals: bytes leave by sendfile, without passing through Python; no peer holds more than its share.
Non-goals: checking what leaves (the receiver does), choosing who may have what (the caller does).
Wire format: docs/specs/exchange.md. The other side is `gossip.fetch`.
"""

import os
from collections.abc import Callable

import trio

from gossip import bulk
from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.messages import EXCHANGE_PROTOCOL, MAX_REQUEST_BYTES, Give, Want
from gossip.standing import Allowances
from p2pllm import codec
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import ContentId, NodeId
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.store import Store

MayServe = Callable[[ContentId, NodeId], bool]

UPLOADS = 16  # at once; each holds a worker thread while its bytes leave
RATE, BURST = 200.0, 2000.0  # wants of one peer: for ever, and at once; most are of many chunks
QUEUE_S = 5.0  # how long a want waits for its turn before the answer is "busy"
IDLE_S = 300.0  # a stream without a want is closed after this


async def serve(endpoint: Endpoint, store: Store, may_serve: MayServe) -> None:
    """Answer wants from now on, for as long as the endpoint is open."""
    await endpoint.handle(EXCHANGE_PROTOCOL, _Uploads(store, may_serve).answer)


class _Uploads:
    """What all streams share: the store, the caller's rule, and the number of uploads at once."""

    def __init__(self, store: Store, may_serve: MayServe) -> None:
        self._store = store
        self._may_serve = may_serve
        self._turns = trio.CapacityLimiter(UPLOADS)
        self._threads = trio.CapacityLimiter(UPLOADS)
        self._allowances = Allowances(RATE, BURST)

    async def answer(self, peer: NodeId, stream: trio.SocketStream) -> None:
        """Answer one stream's wants until the peer closes it, breaks a rule or goes quiet."""
        while True:
            with trio.fail_after(IDLE_S):
                raw = await read_frame(stream, MAX_REQUEST_BYTES)
            want = codec.decode(raw, Want, MAX_REQUEST_BYTES)
            # Who asks too much waits, on all its streams; it holds no turn meanwhile.
            await trio.sleep(self._allowances.spend(peer, 1, trio.current_time()))
            with trio.move_on_after(QUEUE_S) as waiting:
                await self._turns.acquire()
            if waiting.cancelled_caught:
                await _reply(stream, Give(status="busy"))
                continue
            try:
                await self._give(peer, want, stream)
            finally:
                self._turns.release()

    async def _give(self, peer: NodeId, want: Want, stream: trio.SocketStream) -> None:
        if not self._may_serve(want.blob, peer):
            await _reply(stream, Give(status="refused"))
            return
        try:
            path = await trio.to_thread.run_sync(self._store.path, want.blob, limiter=self._threads)
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (Unavailable, FileNotFoundError):
            await _reply(stream, Give(status="unknown"))
            return
        try:
            size = os.fstat(file).st_size
            offset = want.first * CHUNK_BYTES
            length = min(want.count * CHUNK_BYTES, size - offset)
            if length <= 0:
                raise PeerError("E0603", f"chunk {want.first} wanted of a blob of {size} bytes")
            await _reply(stream, Give(status="ok", size=size, length=length))
            await bulk.in_threads(
                stream,
                lambda sock: bulk.send_file(sock, file, offset, length),
                self._threads,
            )
        finally:
            os.close(file)


async def _reply(stream: trio.SocketStream, give: Give) -> None:
    # A peer that asks and does not read must not hold a turn for ever.
    with trio.fail_after(bulk.STALL_S):
        await write_frame(stream, codec.encode(give))
