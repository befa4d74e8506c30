"""Bytes kept by their hash: crash-safe, each once, within a hard quota.

One process owns a store. Everything here blocks and is thread-safe. Layout and guarantees:
docs/specs/store.md.
"""

import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial as bind
from pathlib import Path

import msgspec

from p2pllm.digest import (
    CHUNK_HASH_BYTES,
    Digest,
    Progress,
    check_chunk_hashes,
    chunk_count,
    digest,
    opened,
)
from p2pllm.durable import write_at
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId, content_id
from p2pllm.keep import Keep
from p2pllm.manifest import MAX_MANIFEST_BYTES
from p2pllm.partial import Map, Partial, empty_map, footprint, open_partial, read_map
from p2pllm.space import Promise, Space
from p2pllm.store_blobs import Blobs
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
            self._blobs = Blobs(self._files, self._space, self._lock)
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
                self._blobs.index.close()
                os.close(owner)

    # What is here

    def has(self, blob: ContentId) -> bool:
        """Is this blob here, whole? If so, an open `hold` keeps it."""
        self._keep.note(blob)  # first, so that no collection comes between the answer and its use
        return self._blobs.is_here(blob)

    def path(self, blob: ContentId) -> Path:
        """The read-only file of a blob; Unavailable E0401 if it is not here."""
        return self._blobs.path(blob)

    def size(self, blob: ContentId) -> int:
        """Bytes of a blob; Unavailable E0401 if it is not here."""
        return self._blobs.path(blob).stat().st_size

    def read(self, blob: ContentId, max_bytes: int) -> bytes:
        """The bytes of a small blob, checked against its name.

        Raises Unavailable E0401 if it is not here or its file is damaged (which is then set
        aside), PeerError E0603 if it is larger than `max_bytes`.
        """
        return self._blobs.read(blob, max_bytes)

    def usage(self) -> Usage:
        """How full the store is now."""
        with self._lock:
            return Usage(
                used_bytes=self._space.used,
                reserved_bytes=self._space.promised,
                quota_bytes=self._space.quota,
                free_bytes=self._space.free_on_disk(),
                blobs=self._blobs.index.totals()[0],
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
            if self._blobs.index.holds_size(size):
                found = digest(fd, size, _ignore, tell)
                if self._noted_here(found.blake3):
                    return _stored(found, self.put_bytes(found.chunk_hashes))
            room = size + chunk_count(size) * CHUNK_HASH_BYTES
            with self._space.promise(room, source.name) as promise:
                with self._blobs.temporary(size, source.name) as (copy, path):
                    found = digest(fd, size, bind(write_at, copy), tell)
                    os.fsync(copy)
                    chunks = self._write(found.chunk_hashes, promise)
                    self._place(path, found.blake3, size, promise)
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
        finish, ended = bind(self._place_partial, blob, size), bind(self._ended, blob)
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
        """Keep `gc` from what comes in, or is asked for and here, until the block ends.

        By then something that `gc` is told of as a root has to name it.
        """
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
            self._blobs.delete(blob)

    def gc(self, roots: Iterable[ContentId], dry_run: bool) -> list[tuple[ContentId, int]]:
        """Delete what no root, pin or hold reaches; each blob with the bytes it gave back.

        A root that is a manifest reaches its files and their chunk lists. `roots` is read while
        nothing can come into the store. Interrupted fetches and damaged blobs go too.
        """
        with self._lock:
            keep = self._keep.spared(roots, self._read_if_small)
            blobs = [(blob, size) for blob, size in self._blobs.index.all() if blob not in keep]
            partials = [
                (blob, promise.left)
                for blob, promise in self._promises.items()
                if blob not in self._open and (blob not in keep or self._blobs.is_here(blob))
            ]
            damaged = self._blobs.damaged()
            if not dry_run:
                for blob, _ in blobs:
                    self._blobs.delete(blob)
                for blob, _ in partials:
                    self._drop_partial(blob)
                for blob, size in damaged:
                    self._blobs.delete_damaged(blob, size)
            return blobs + partials + damaged

    # Looking after it

    def verify(self, progress: Progress | None = None) -> list[ContentId]:
        """Read every blob; those that no longer have their name are set aside and returned."""
        return self._blobs.verify(progress or _ignore)

    def rebuild(self) -> None:
        """Make the index and the count of used bytes anew from the files."""
        self._blobs.rebuild()

    # Inside

    def _write(self, data: bytes, promise: Promise) -> ContentId:
        blob = content_id(data)
        if not self._noted_here(blob):
            with self._blobs.temporary(len(data), f"blob {blob}") as (fd, path):
                write_at(fd, memoryview(data), 0)
                os.fsync(fd)
                self._place(path, blob, len(data), promise)
        return blob

    def _place(self, file: Path, blob: ContentId, size: int, promise: Promise) -> None:
        self._keep.note(blob)  # first, so that no collection comes between
        self._blobs.place(file, blob, size, promise)

    def _place_partial(self, blob: ContentId, size: int, data: Path) -> None:
        self._place(data, blob, size, self._promises[blob])

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
        with self._lock:  # not while another thread has moved it in, but not yet its folder to disk
            return self.has(blob)

    def _read_if_small(self, blob: ContentId) -> bytes:
        small = self._blobs.is_here(blob) and self.size(blob) <= MAX_MANIFEST_BYTES
        return self.path(blob).read_bytes() if small else b""


def _stored(found: Digest, chunks: ContentId) -> Stored:
    return Stored(found.size, found.blake3, chunks, found.sha256)


def _ignore(*_: object) -> None:
    pass
