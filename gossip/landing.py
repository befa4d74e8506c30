"""Chunks on their way from a socket to a blob: one thread receives while two others keep them.

So the peer is not made to wait while a chunk is hashed and written. The second keeper goes on while
the first waits for the disk to sync. A few buffers go round between the threads; when all are full,
the receiver waits.
"""

import queue
import socket
from collections.abc import Callable

from gossip import bulk
from p2pllm.errors import P2pllmError
from p2pllm.manifest import CHUNK_BYTES

KEEPERS = 2  # threads that run `keep_all`
_BUFFERS = 8  # 1 MiB each: what arrives while the disk syncs, and 64 MiB for eight peers


class Landing:
    """The way of one peer's chunks. `keep` checks and writes one; `on_fault` hears of a failure."""

    def __init__(
        self, keep: Callable[[int, memoryview], None], on_fault: Callable[[], None]
    ) -> None:
        self.fault: P2pllmError | None = None  # the first that `keep` met
        self._keep, self._on_fault = keep, on_fault
        self._full = queue.SimpleQueue[tuple[int, int, memoryview] | None]()
        # Last in, first out: while the keepers keep up, the same few stay in the CPU's cache.
        self._free = queue.LifoQueue[memoryview]()
        for _ in range(_BUFFERS):
            self._free.put(memoryview(bytearray(CHUNK_BYTES)))

    def receive(self, sock: socket.socket, chunk: int, length: int) -> None:
        """Take a chunk of so many bytes off the socket. Raises as `bulk.receive` does."""
        buffer = self._free.get()
        bulk.receive(sock, buffer[:length])
        self._full.put((chunk, length, buffer))

    def close(self) -> None:
        """Nothing more is received: `keep_all` returns once the rest is kept."""
        for _ in range(KEEPERS):
            self._full.put(None)

    def keep_all(self) -> None:
        """Keep the chunks that arrive until `close`; after a fault, drop them."""
        while (item := self._full.get()) is not None:
            chunk, length, buffer = item
            if self.fault is None:
                try:
                    self._keep(chunk, buffer[:length])
                except P2pllmError as fault:
                    self.fault = fault
                    self._on_fault()
            self._free.put(buffer)
