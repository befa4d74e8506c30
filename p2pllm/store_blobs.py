"""The blobs that are here: their files, the index and the count of used bytes, in agreement."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial as bind
from pathlib import Path

from p2pllm.digest import Progress, blake3_of
from p2pllm.durable import allocate, full_disk_is_expected, sync_folder
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import ContentId, content_id
from p2pllm.space import Promise, Space
from p2pllm.store_index import Index
from p2pllm.store_layout import Layout


class Blobs:
    """The blobs of one store. `lock` is the store's; whoever changes anything holds it."""

    def __init__(self, files: Layout, space: Space, lock: threading.RLock) -> None:
        self._files, self._space, self._lock = files, space, lock
        self.index = Index(files.index)
        if self.index.trusted:
            self._count_used(self.index.totals()[1])
        else:
            self.rebuild()

    def is_here(self, blob: ContentId) -> bool:
        """Is this blob here, whole?"""
        return self._files.blob(blob).exists()

    def path(self, blob: ContentId) -> Path:
        """The read-only file of a blob; Unavailable E0401 if it is not here."""
        path = self._files.blob(blob)
        if not path.exists():
            raise _not_here(blob)
        return path

    def read(self, blob: ContentId, max_bytes: int) -> bytes:
        """The bytes of a small blob, checked: see `Store.read`."""
        try:
            with self._files.blob(blob).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as gone:
            raise _not_here(blob) from gone
        if len(data) > max_bytes:
            raise PeerError("E0603", f"blob {blob} has more than {max_bytes} bytes")
        if content_id(data) != blob:
            self.set_aside(blob)
            raise Unavailable("E0401", f"blob {blob} was damaged on disk and is set aside")
        return data

    @contextmanager
    def temporary(self, size: int, what: str) -> Iterator[tuple[int, Path]]:
        """An open file of that size that is gone after the block, unless it was placed."""
        path = self._files.temporary()
        with full_disk_is_expected(what):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                allocate(fd, size)
                yield fd, path
            finally:
                os.close(fd)
                path.unlink(missing_ok=True)

    def place(self, file: Path, blob: ContentId, size: int, promise: Promise) -> None:
        """Give a file, already on disk to its last byte, its place among the blobs."""
        with self._lock:
            if self.is_here(blob):
                file.unlink()
                return
            target = self._files.make_room_for(blob)
            # The row first: after a crash a row without a file is noticed, since the index is
            # then made anew, and while we run an index that cannot be written stops the file.
            self.index.add(blob, size)
            try:
                file.chmod(0o444)
                file.rename(target)
            except OSError:
                self.index.drop(blob)
                raise
            promise.spend(size)
            sync_folder(target.parent)

    def delete(self, blob: ContentId) -> None:
        """Remove a blob, or what the index says of one that is gone."""
        with self._lock:
            self._files.blob(blob).unlink(missing_ok=True)
            self._space.freed(self.index.drop(blob) or 0)

    def damaged(self) -> list[tuple[ContentId, int]]:
        """What was set aside, with its bytes."""
        return self._files.set_aside()

    def delete_damaged(self, blob: ContentId, size: int) -> None:
        """Remove what was set aside."""
        with self._lock:
            self._files.damaged(blob).unlink()
            self._space.freed(size)

    def set_aside(self, blob: ContentId) -> bool:
        """Serve a damaged or vanished blob no more; was it listed, and is it damaged indeed?"""
        with self._lock:
            if self._is_sound(blob, _ignore) or self.index.drop(blob) is None:
                return False  # removed, or removed and put again, since it was read
            if self.is_here(blob):
                self._files.blob(blob).rename(self._files.damaged(blob))
            self._count_used(self.index.totals()[1])
            return True

    def verify(self, progress: Progress) -> list[ContentId]:
        """Read every blob; those that no longer have their name are set aside and returned."""
        done, bad = 0, []
        for blob, size in self.index.all():
            if not self._is_sound(blob, bind(_tell_from, progress, done)):
                bad += [blob] if self.set_aside(blob) else []
            done += size
            progress(done)
        return bad

    def rebuild(self) -> None:
        """Make the index and the count of used bytes anew from the files."""
        with self._lock:
            stored = self._files.stored()
            self.index.replace_all(stored)
            self._count_used(sum(size for _, size in stored))

    def _count_used(self, blobs: int) -> None:
        self._space.set_used(blobs + sum(size for _, size in self.damaged()))

    def _is_sound(self, blob: ContentId, progress: Progress) -> bool:
        try:
            fd = os.open(self._files.blob(blob), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return blake3_of(fd, progress) == blob
        except OSError:  # the disk cannot read it back
            return False
        finally:
            os.close(fd)


def _not_here(blob: ContentId) -> Unavailable:
    return Unavailable("E0401", f"blob {blob} is not in the store")


def _tell_from(tell: Progress, start: int, done: int) -> None:
    tell(start + done)


def _ignore(_done: int) -> None:
    pass
