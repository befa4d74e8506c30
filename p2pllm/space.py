"""Who may fill how much of the disk: a hard quota, promised before the first byte is written."""

import os
import threading
from pathlib import Path
from typing import Self

from p2pllm.durable import disk_full
from p2pllm.errors import LocalError

# Kept free on the disk, so that a full store still leaves room for the index, a journal, a log.
_FLOOR_BYTES = 16 * 1024**2
_FLOOR_SHARE = 64  # and never more than this fraction (1/64) of a small disk


class Space:
    """The ledger of one store: bytes used, bytes promised, and their common limit. Thread-safe."""

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self._root = root
        self._lock = threading.Lock()
        self.quota = quota_bytes
        self.used = 0
        self.promised = 0

    def promise(self, size: int, what: str) -> "Promise":
        """Set `size` bytes aside; LocalError E0801 or E0802 if they are not there."""
        with self._lock:
            left = self.quota - self.used - self.promised
            if size > left:
                raise _over_quota(size, max(left, 0), self.quota, what)
            free = self.free_on_disk()
            if size > free:
                raise disk_full(what, f"{size} bytes wanted, {free} free")
            self.promised += size
        return Promise(self, size)

    def adopt(self, size: int) -> "Promise":
        """Set aside what a file from an earlier run already takes, whatever the quota says now."""
        with self._lock:
            self.promised += size
        return Promise(self, size)

    def set_used(self, size: int) -> None:
        """Start from what is on disk."""
        with self._lock:
            self.used = size

    def freed(self, size: int) -> None:
        """A stored file of this size is gone."""
        with self._lock:
            self.used -= size

    def free_on_disk(self) -> int:
        """Bytes the disk can still take from us, the floor left out."""
        disk = os.statvfs(self._root)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        return max(0, free - min(_FLOOR_BYTES, total // _FLOOR_SHARE))

    def move(self, spent: int, returned: int) -> None:
        """Promised bytes become used ones, or nobody's. Called by a Promise."""
        with self._lock:
            self.promised -= spent + returned
            self.used += spent


class Promise:
    """Bytes set aside for one writer until spent or released; leaving it as a block releases."""

    def __init__(self, space: Space, size: int) -> None:
        self._space = space
        self._lock = threading.Lock()
        self.left = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def spend(self, size: int) -> None:
        """So many of the bytes are now in a stored file."""
        with self._lock:
            assert size <= self.left
            self.left -= size
        self._space.move(size, 0)

    def release(self) -> None:
        """Give back what was not spent; a second call does nothing."""
        with self._lock:
            left, self.left = self.left, 0
        self._space.move(0, left)


def _over_quota(size: int, left: int, quota: int, what: str) -> LocalError:
    return LocalError(
        "E0801",
        f"over the store's quota: {what}",
        why=[f"{size} bytes wanted, {left} of {quota} left"],
        fix=["remove models, run the store's garbage collection, or raise the quota"],
        details={"wanted_bytes": size, "left_bytes": left, "quota_bytes": quota},
    )
