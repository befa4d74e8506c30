"""The hash of a whole blob, taken while its chunks arrive, so that it is not all read at the end.

Chunks come in any order and from several threads; a hash needs them in order. What arrives in its
turn is hashed from memory, what came before its turn is read back when its turn comes.
"""

import threading
from collections.abc import Callable

from blake3 import blake3

from p2pllm.digest import read_at
from p2pllm.ids import ContentId
from p2pllm.manifest import CHUNK_BYTES

_READ_BACK = 2  # chunks at most at a time, so that no one arrival pays for all the others


class RunningHash:
    """BLAKE3 of the file behind `fd`, up to the first chunk that is not there. Thread-safe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._hash = blake3()
        self._next = 0  # the chunk whose turn it is
        self._buffer = memoryview(bytearray(CHUNK_BYTES))

    def arrived(self, index: int, data: memoryview, is_here: Callable[[int], bool]) -> None:
        """A checked chunk is in the file; `is_here` tells the same of any other."""
        # Whoever finds another thread at it leaves the chunk to be read back: cheaper than waiting.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if index == self._next:
                self._hash.update(data)
                self._next += 1
            for _ in range(_READ_BACK):
                if not is_here(self._next) or not self._read_back():
                    break
        finally:
            self._lock.release()

    def finish(self) -> ContentId:
        """The content id of the file; every chunk must be there."""
        with self._lock:
            while self._read_back():
                pass
            return ContentId(self._hash.hexdigest())

    def _read_back(self) -> int:
        got = read_at(self._fd, self._buffer, self._next * CHUNK_BYTES)
        self._hash.update(self._buffer[:got])
        self._next += 1
        return got
