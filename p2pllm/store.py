"""Bytes kept by their hash: crash-safe, each once, within a hard quota.

One process owns a store. Everything here blocks and is thread-safe. Layout and guarantees:
docs/specs/store.md.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial as bind
from pathlib import Path

import msgspec

from p2pllm.digest import (
    CHUNK_HASH_BYTES,
    Digest,
    Progress,
    blake3_of,
    check_chunk_hashes,
    chunk_count,
    digest,
    opened,
)
from p2pllm.durable import allocate, full_disk_is_expected, sync_folder, write_at
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import ContentId, content_id
from p2pllm.keep import Keep
from p2pllm.manifest import MAX_MANIFEST_BYTES
from p2pllm.partial import Map, Partial, empty_map, footprint, open_partial, read_map
from p2pllm.space import Promise, Space
from p2pllm.store_index import Index
from p2pllm.store_layout import Layout


class Stored(msgspec.Struct, frozen=True):
    """A file that is now in the store, with all that a manifest says of it."""

    size: int  # bytes
    blake3: ContentId
    chunks: ContentId  # its chunk list, which is in the store too
    sha256: str


class Usage(msgspec.Struct, frozen=True):
    """How full the store is."""

    used_bytes: int  # blobs, and damaged ones set aside
    reserved_bytes: int  # promised to blobs on their way in
    quota_bytes: int
    free_bytes: int  # on the disk
    blobs: int
    partials: int
    pinned: int


class Store:
    """The blobs of one folder. Close it (`contextlib.closing`) so that the next start is quick."""

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self._files = Layout(root)
        self._owner = self._files.take()
        try:
            self._lock = threading.RLock()  # guards what follows, and the names in the folders
            self._space = Space(root, quota_bytes)
            self._open: dict[ContentId, Partial | None] = {}
            self._keep = Keep(self._files.pins, self._lock)
            self._promises: dict[ContentId, Promise] = {  # one for each partial blob
                left.blob: self._space.adopt(footprint(left.size)) for left in self._files.sweep()
            }
            self._index = Index(self._files.index)
            if self._index.trusted:
                self._count_used(self._index.totals()[1])
            else:
                self.rebuild()
        except BaseException:
            os.close(self._owner)
            raise

    def close(self) -> None:
        """Keep the progress of open partials and let another process have the folder."""
        with self._lock:
            left = [partial for partial in self._open.values() if partial]
        for partial in left:
            partial.close()
        with self._lock:
            owner, self._owner = self._owner, -1
            if owner >= 0:
                self._index.close()
                os.close(owner)

    # What is here

    def has(self, blob: ContentId) -> bool:
        """Is this blob here, whole?"""
        return self._files.blob(blob).exists()

    def path(self, blob: ContentId) -> Path:
        """The read-only file of a blob; Unavailable E0401 if it is not here."""
        path = self._files.blob(blob)
        if not path.exists():
            raise _not_here(blob)
        return path

    def size(self, blob: ContentId) -> int:
        """Bytes of a blob; Unavailable E0401 if it is not here."""
        return self.path(blob).stat().st_size

    def read(self, blob: ContentId, max_bytes: int) -> bytes:
        """The bytes of a small blob, checked against its name.

        Raises Unavailable E0401 if it is not here or its file is damaged (which is then set
        aside), PeerError E0603 if it is larger than `max_bytes`.
        """
        try:
            with self._files.blob(blob).open("rb") as file:
                data = file.read(max_bytes + 1)
        except FileNotFoundError as gone:
            raise _not_here(blob) from gone
        if len(data) > max_bytes:
            raise PeerError("E0603", f"blob {blob} has more than {max_bytes} bytes")
        if content_id(data) != blob:
            self._set_aside(blob)
            raise Unavailable("E0401", f"blob {blob} was damaged on disk and is set aside")
        return data

    def usage(self) -> Usage:
        """How full the store is now."""
        with self._lock:
            return Usage(
                used_bytes=self._space.used,
                reserved_bytes=self._space.promised,
                quota_bytes=self._space.quota,
                free_bytes=self._space.free_on_disk(),
                blobs=self._index.totals()[0],
                partials=len(self._promises),
                pinned=len(self._keep.pins()),
            )

    # Putting in

    def put_bytes(self, data: bytes) -> ContentId:
        """Keep these bytes; LocalError E0801 or E0802 if there is no room."""
        blob = content_id(data)
        if not self._noted_here(blob):
            with self._space.promise(len(data), f"blob {blob}") as promise:
                self._write(data, promise)
        return blob

    def put_file(self, source: Path, progress: Progress | None = None) -> Stored:
        """Keep a copy of a file and its chunk list; room for both is set aside first.

        `progress` hears the bytes done so far; what it raises stops the copy. A file whose bytes
        are here already takes no room. Raises LocalError E0204 (not a file, or it changes
        meanwhile), E0801, E0802.
        """
        tell = progress or _ignore
        with opened(source) as (fd, size):
            if self._index.holds_size(size):
                found = digest(fd, size, _ignore, tell)
                if self._noted_here(found.blake3):
                    return _stored(found, self.put_bytes(found.chunk_hashes))
            room = size + chunk_count(size) * CHUNK_HASH_BYTES
            with self._space.promise(room, source.name) as promise:
                with self._temporary(size, source.name) as (copy, path):
                    found = digest(fd, size, bind(write_at, copy), tell)
                    os.fsync(copy)
                    chunks = self._write(found.chunk_hashes, promise)
                    self._commit(path, found.blake3, size, promise)
                return _stored(found, chunks)

    def begin(self, blob: ContentId, size: int, chunk_hashes: bytes) -> Partial:
        """Start to fetch a blob, or go on where an earlier fetch ended; room is set aside first.

        chunk_hashes  the chunk list: 32 bytes for each 1 MiB, which every chunk is checked against

        Raises PeerError E0603 if the list does not fit the size; LocalError E0801 or E0802 if
        there is no room; LocalError E0307 if the blob is here, or on its way in by another fetch.
        """
        check_chunk_hashes(size, chunk_hashes)
        files, progress = self._files.partial(blob), empty_map(blob, size, chunk_hashes)
        with self._lock:
            if blob in self._open or self.has(blob):
                state = "on its way in" if blob in self._open else "here"
                raise LocalError("E0307", f"blob {blob} is {state} already")
            earlier = self._resumable(blob, size)
            if earlier is None:
                self._drop_partial(blob)
                self._promises[blob] = self._space.promise(footprint(size), f"blob {blob}")
            elif earlier.chunks == progress.chunks:
                progress = earlier
            self._open[blob] = None
            self._keep.note(blob)
        finish, ended = bind(self._commit_partial, blob, size), bind(self._ended, blob)
        try:
            partial = open_partial(files, progress, chunk_hashes, finish, ended)
        except BaseException:
            self._ended(blob, kept=earlier is not None)
            raise
        with self._lock:
            self._open[blob] = partial
        return partial

    # Keeping and letting go

    def hold(self) -> AbstractContextManager[None]:
        """Keep `gc` from what comes in during the block, until a head or a database names it."""
        return self._keep.hold()

    def pin(self, blob: ContentId) -> None:
        """Never collect this blob, nor, if it is a manifest, its files; E0401 if it is not here."""
        with self._lock:
            self.path(blob)
            self._keep.set_pin(blob, True)

    def unpin(self, blob: ContentId) -> None:
        """Let this blob be collected again; void if it is not pinned."""
        self._keep.set_pin(blob, False)

    def pinned(self) -> set[ContentId]:
        """The pinned blobs."""
        return self._keep.pins()

    def remove(self, blob: ContentId) -> None:
        """Delete a blob; Unavailable E0401 if it is not here, LocalError E0712 if it is pinned."""
        with self._lock:
            self.path(blob)
            if blob in self._keep.pins():
                raise LocalError("E0712", f"blob {blob} is pinned", fix=["unpin it first"])
            self._delete(blob)

    def gc(self, roots: Iterable[ContentId], dry_run: bool) -> list[tuple[ContentId, int]]:
        """Delete what no root, pin or hold reaches; each blob with the bytes it gave back.

        A root that is a manifest reaches its files and their chunk lists. `roots` is read while
        nothing can come into the store. Interrupted fetches and damaged blobs go too.
        """
        with self._lock:
            keep = self._keep.spared(roots, self._read_if_small)
            blobs = [(blob, size) for blob, size in self._index.all() if blob not in keep]
            partials = [
                (blob, promise.left)
                for blob, promise in self._promises.items()
                if blob not in self._open and (blob not in keep or self.has(blob))
            ]
            damaged = self._files.set_aside()
            if not dry_run:
                for blob, _ in blobs:
                    self._delete(blob)
                for blob, _ in partials:
                    self._drop_partial(blob)
                for blob, size in damaged:
                    self._files.damaged(blob).unlink()
                    self._space.freed(size)
            return blobs + partials + damaged

    # Looking after it

    def verify(self, progress: Progress | None = None) -> list[ContentId]:
        """Read every blob; those that no longer have their name are set aside and returned."""
        tell, done, bad = progress or _ignore, 0, []
        for blob, size in self._index.all():
            if not self._is_sound(blob, bind(_tell_from, tell, done)):
                bad += [blob] if self._set_aside(blob) else []
            done += size
            tell(done)
        return bad

    def rebuild(self) -> None:
        """Make the index and the count of used bytes anew from the files."""
        with self._lock:
            stored = self._files.stored()
            self._index.replace_all(stored)
            self._count_used(sum(size for _, size in stored))

    # Inside

    def _write(self, data: bytes, promise: Promise) -> ContentId:
        blob = content_id(data)
        if not self._noted_here(blob):
            with self._temporary(len(data), f"blob {blob}") as (fd, path):
                write_at(fd, memoryview(data), 0)
                os.fsync(fd)
                self._commit(path, blob, len(data), promise)
        return blob

    @contextmanager
    def _temporary(self, size: int, what: str) -> Iterator[tuple[int, Path]]:
        path = self._files.temporary()
        with full_disk_is_expected(what):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                allocate(fd, size)
                yield fd, path
            finally:
                os.close(fd)
                path.unlink(missing_ok=True)  # it is not there any more if it was committed

    def _commit(self, file: Path, blob: ContentId, size: int, promise: Promise) -> None:
        """Give a file, already on disk to its last byte, its place among the blobs."""
        with self._lock:
            if self._noted_here(blob):
                file.unlink()
                return
            target = self._files.make_room_for(blob)
            self._index.add(blob, size)
            try:
                file.chmod(0o444)
                file.rename(target)
            except OSError:
                self._index.drop(blob)
                raise
            promise.spend(size)
            self._keep.note(blob)
            sync_folder(target.parent)

    def _commit_partial(self, blob: ContentId, size: int, data: Path) -> None:
        self._commit(data, blob, size, self._promises[blob])

    def _ended(self, blob: ContentId, kept: bool) -> None:
        with self._lock:
            del self._open[blob]
            if not kept:
                self._drop_partial(blob)

    def _resumable(self, blob: ContentId, size: int) -> Map | None:
        earlier = read_map(self._files.partial(blob)) if blob in self._promises else None
        return earlier if earlier and earlier.size == size else None

    def _drop_partial(self, blob: ContentId) -> None:
        self._files.partial(blob).remove()
        if promise := self._promises.pop(blob, None):
            promise.release()

    def _noted_here(self, blob: ContentId) -> bool:
        with self._lock:
            self._keep.note(blob)
            return self.has(blob)

    def _count_used(self, blobs: int) -> None:
        self._space.set_used(blobs + sum(size for _, size in self._files.set_aside()))

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

    def _set_aside(self, blob: ContentId) -> bool:
        with self._lock:
            if self._is_sound(blob, _ignore) or self._index.drop(blob) is None:
                return False  # removed, or removed and put again, since it was read
            if self.has(blob):
                self._files.blob(blob).rename(self._files.damaged(blob))
            self._count_used(self._index.totals()[1])
            return True

    def _delete(self, blob: ContentId) -> None:
        self._files.blob(blob).unlink(missing_ok=True)
        self._space.freed(self._index.drop(blob) or 0)

    def _read_if_small(self, blob: ContentId) -> bytes:
        small = self.has(blob) and self.size(blob) <= MAX_MANIFEST_BYTES
        return self._files.blob(blob).read_bytes() if small else b""


def _not_here(blob: ContentId) -> Unavailable:
    return Unavailable("E0401", f"blob {blob} is not in the store")


def _stored(found: Digest, chunks: ContentId) -> Stored:
    return Stored(found.size, found.blake3, chunks, found.sha256)


def _tell_from(tell: Progress, start: int, done: int) -> None:
    tell(start + done)


def _ignore(*_: object) -> None:
    pass
