"""Many bytes over a stream at once, in worker threads: sendfile out, recv_into in.

A stream is a unix socket to p2pd. While threads work on it, it blocks; each wait is bounded by
the kernel's own socket timeouts, and cancelling shuts the stream down, so that they end.
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import trio

from p2pllm.errors import P2pllmError, Unavailable

STALL_S = 20  # a peer that moves less than STALL_BYTES in this time has stopped
STALL_BYTES = 64 * 1024  # 3 KB/s: slower than any link worth fetching a model over
_SEND_BYTES = 16 * 1024 * 1024  # one sendfile call, after which progress is looked at


async def in_threads(
    stream: trio.SocketStream,
    work: Callable[[socket.socket], None],
    limiter: trio.CapacityLimiter,
    count: int = 1,
) -> None:
    """Run `work(socket)`, which blocks on this stream's socket, in `count` worker threads at once.

    Nothing else may use the stream meanwhile. Raises the first P2pllmError that a thread met; the
    stream is shut then, so that the others end.
    """
    faults: list[P2pllmError] = []
    over = trio.Event()
    with socket.socket(fileno=os.dup(stream.socket.fileno())) as sock:
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", STALL_S, 0))

        def job() -> None:
            try:
                work(sock)
            except P2pllmError as fault:
                faults.append(fault)
                _shut(sock)

        sock.setblocking(True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_shut_if_cancelled, sock, over)
                async with trio.open_nursery() as threads:
                    for _ in range(count):
                        threads.start_soon(_run, job, limiter)
                over.set()
        finally:
            sock.setblocking(False)  # the mode is shared with trio's own descriptor
    if faults:
        raise faults[0]


def receive(sock: socket.socket, into: memoryview) -> None:
    """Fill `into`; Unavailable E0501 when the peer stops, E0902 when the stream ends before."""
    while into:
        started = time.monotonic()
        try:
            got = sock.recv_into(into, 0, socket.MSG_WAITALL)
        except BlockingIOError:
            raise _stalled(0, "arrived") from None
        except OSError as broken:
            raise Unavailable("E0902", f"the stream broke: {broken}") from broken
        if not got:
            raise Unavailable("E0902", f"the stream ended {len(into)} bytes early")
        if got < min(STALL_BYTES, len(into)) and time.monotonic() - started >= STALL_S - 1:
            raise _stalled(got, "arrived")
        into = into[got:]


def send_file(sock: socket.socket, file: int, offset: int, length: int) -> None:
    """Send a part of an open file; Unavailable E0501 when the peer stops taking, E0902 if gone."""
    end = offset + length
    while offset < end:
        started = time.monotonic()
        try:
            sent = os.sendfile(sock.fileno(), file, offset, min(_SEND_BYTES, end - offset))
        except BlockingIOError:
            raise _stalled(0, "were taken") from None
        except OSError as broken:
            raise Unavailable("E0902", f"the stream broke: {broken}") from broken
        if not sent:
            raise Unavailable("E0401", f"the file ended {end - offset} bytes early")
        offset += sent
        if sent < STALL_BYTES and offset < end and time.monotonic() - started >= STALL_S - 1:
            raise _stalled(sent, "were taken")


def _stalled(count: int, what: str) -> Unavailable:
    return Unavailable("E0501", f"no progress: {count} bytes {what} in {STALL_S} s")


async def _run(job: Callable[[], None], limiter: trio.CapacityLimiter) -> None:
    await trio.to_thread.run_sync(job, limiter=limiter)


async def _shut_if_cancelled(sock: socket.socket, over: trio.Event) -> None:
    try:
        await over.wait()
    except trio.Cancelled:
        _shut(sock)
        raise


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it may be broken already
        sock.shutdown(socket.SHUT_RDWR)
