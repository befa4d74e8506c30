"""A blob on its way in: which 1 MiB chunks are here, each checked before it counts.

Two files, `ID.data` (as long as the blob from the start) and `ID.map` (this progress). A chunk's
bit reaches the disk only after its bytes did. Format: docs/specs/store.md, section 3.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
from blake3 import blake3

from p2pllm import codec
from p2pllm.digest import CHUNK_HASH_BYTES, chunk_count, read_at
from p2pllm.durable import allocate, full_disk_is_expected, replace_file, write_at
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import ContentId, ContentIdField, content_id
from p2pllm.manifest import CHUNK_BYTES, MAX_FILE_BYTES
from p2pllm.running_hash import RunningHash

MAX_MAP_BYTES = 256 + MAX_FILE_BYTES // CHUNK_BYTES // 8  # tag, names, two ids, a bit a chunk
_SAVE_EVERY = 64  # chunks: a power cut costs at most 64 MiB, and a fsync is amortized over as much
# Chunks after which the bytes go to the disk and out of memory. A model of gigabytes must not push
# everybody's pages out, and a fetch that uses the same few pages again and again is faster: 0.84
# instead of 0.65 of two bare p2pd in a virtual machine, whose host backs each fresh page first.
_SETTLE_EVERY = 16


class Map(msgspec.Struct, frozen=True, kw_only=True, tag="partial.1"):
    """The progress of one blob, as kept on disk."""

    blob: ContentIdField
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]  # bytes, of the whole blob
    chunks: ContentIdField  # id of the chunk list that the bits were checked against
    bits: bytes  # chunk i is bit i % 8 (1 is the lowest) of byte i // 8


class Files(msgspec.Struct, frozen=True):
    """Where the two files of a partial blob stand."""

    data: Path
    map: Path

    def remove(self) -> None:
        """Forget the blob's progress."""
        self.map.unlink(missing_ok=True)
        self.data.unlink(missing_ok=True)


def footprint(size: int) -> int:
    """Bytes that a partial blob takes at most: its data, its map, and the map's successor."""
    return size + 2 * (256 + chunk_count(size) // 8 + 1)


def read_map(files: Files) -> Map | None:
    """The progress on disk, or None where there is none that can be used."""
    try:
        found = codec.decode(files.map.read_bytes(), Map, MAX_MAP_BYTES)
        fits = files.data.stat().st_size == found.size
    except (FileNotFoundError, PeerError):
        return None
    return found if fits and len(found.bits) == -(-chunk_count(found.size) // 8) else None


class Partial:
    """One blob being put together. Thread-safe. Made by `Store.begin`; close it when done.

    `on_finish` moves the data file into the store; `on_end` hears whether progress was kept.
    """

    def __init__(
        self,
        files: Files,
        want: Map,
        chunk_hashes: bytes,
        on_finish: Callable[[Path], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self.id = want.blob
        self.size = want.size  # bytes
        self.chunk_count = chunk_count(want.size)
        self._files, self._hashes, self._chunks = files, chunk_hashes, want.chunks
        self._on_finish, self._on_end = on_finish, on_end
        self._state = threading.Condition()  # guards the five below
        self._bits = bytearray(want.bits)
        self._unsaved = 0
        self._writers = 0
        self._open = True
        self._finished = False
        self._saving = threading.Lock()
        with suppress(FileNotFoundError):  # read-only if a kill came while it was finished
            files.data.chmod(0o600)
        with full_disk_is_expected(f"blob {self.id}"):
            self.fd = os.open(files.data, os.O_RDWR | os.O_CREAT, 0o600)
        self._whole = RunningHash(self.fd)

    def missing(self) -> list[int]:
        """The chunks that are not here yet, in order."""
        with self._state:
            bits = bytes(self._bits)
        return [i for i in range(self.chunk_count) if not bits[i // 8] >> i % 8 & 1]

    def chunk_range(self, index: int) -> tuple[int, int]:
        """Offset and length in bytes of one chunk."""
        assert 0 <= index < self.chunk_count
        offset = index * CHUNK_BYTES
        return offset, min(CHUNK_BYTES, self.size - offset)

    def accept(self, index: int, data: memoryview) -> None:
        """Check a chunk and keep it; a chunk that is here already is left alone.

        Raises PeerError E0604 if it is not what the chunk list names, LocalError E0802 if the
        disk is full, E1001 if the partial was closed meanwhile.
        """
        offset, length = self.chunk_range(index)
        if not self._is_chunk(index, data):
            raise PeerError(
                "E0604",
                f"chunk {index} of {self.id} does not match its hash",
                why=[f"got {len(data)} bytes, wanted {length}"] if len(data) != length else [],
            )
        with self._writing():
            if self._has(index):
                return
            with full_disk_is_expected(f"chunk {index} of {self.id}"):
                write_at(self.fd, data, offset)
            unsaved = self._mark(index)
            self._whole.arrived(index, data, self._has)
            if unsaved % _SETTLE_EVERY == 0:
                with full_disk_is_expected(f"chunk {index} of {self.id}"):
                    self._settle()
        if unsaved >= _SAVE_EVERY:
            self._save()

    def finish(self) -> ContentId:
        """Check the whole blob and move it into the store.

        Raises Unavailable E0401 while chunks are missing, and PeerError E0605 if the chunks do not
        make up the blob; then whoever wrote the chunk list lied, and the progress is dropped.
        """
        with self._writing():
            if gone := len(self.missing()):
                raise Unavailable("E0401", f"{gone} of {self.chunk_count} chunks of {self.id} lack")
            found = self._whole.finish()
            if found == self.id:
                with full_disk_is_expected(f"blob {self.id}"):
                    os.fsync(self.fd)
                    self._on_finish(self._files.data)
                self._files.map.unlink(missing_ok=True)
                self._finished = True
        if found != self.id:
            self.discard()
            raise PeerError(
                "E0605", f"the chunks of {self.id} make up another file", why=[f"it is {found}"]
            )
        self._end(kept=False)
        return self.id

    def close(self) -> None:
        """Keep the progress for a later `begin`; a second call does nothing."""
        if not self._open or self._finished:
            return
        try:
            self._save()
        finally:
            self._end(kept=True)

    def discard(self) -> None:
        """Give up the blob and what is here of it; void after `finish` or `close`."""
        self._end(kept=False)

    def prepare(self) -> None:
        """Take the disk space, and count chunks that were written but not yet marked in the map."""
        with full_disk_is_expected(f"{self.size} bytes for blob {self.id}"):
            allocate(self.fd, self.size)
            self._save_now()
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for index in self.missing():
            offset, length = self.chunk_range(index)
            if self._is_written(offset):
                piece = buffer[: read_at(self.fd, buffer[:length], offset)]
                if self._is_chunk(index, piece):
                    self._mark(index)

    def _is_chunk(self, index: int, data: memoryview) -> bool:
        start = index * CHUNK_HASH_BYTES
        return blake3(data).digest() == self._hashes[start : start + CHUNK_HASH_BYTES]

    def _is_written(self, offset: int) -> bool:
        # Space that was only set aside is a hole, so an almost empty file costs no reading.
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA) == offset
        except OSError as fault:
            if fault.errno == errno.ENXIO:  # no data from here to the end
                return False
            raise

    def _has(self, index: int) -> bool:
        with self._state:
            return index < self.chunk_count and bool(self._bits[index // 8] >> index % 8 & 1)

    def _mark(self, index: int) -> int:
        with self._state:
            self._bits[index // 8] |= 1 << index % 8
            self._unsaved += 1
            return self._unsaved

    def _save(self) -> None:
        with self._writing(), full_disk_is_expected(f"progress of {self.id}"):
            self._save_now()

    def _save_now(self) -> None:
        with self._saving:
            with self._state:
                bits, self._unsaved = bytes(self._bits), 0
            self._settle()  # the bytes first, then the bits that speak of them
            progress = Map(blob=self.id, size=self.size, chunks=self._chunks, bits=bits)
            replace_file(self._files.map, codec.encode(progress))

    def _settle(self) -> None:
        os.fdatasync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # While anyone is in here the descriptor stays ours: a number reused after close would
        # send a late chunk into another file.
        with self._state:
            if not self._open:
                raise LocalError("E1001", f"the fetch of {self.id} has ended")
            self._writers += 1
        try:
            yield
        finally:
            with self._state:
                self._writers -= 1
                self._state.notify_all()

    def _end(self, *, kept: bool) -> None:
        with self._state:
            if not self._open:
                return
            self._open = False
            self._state.wait_for(lambda: not self._writers)
        os.close(self.fd)
        if not kept and not self._finished:
            self._files.remove()
        self._on_end(kept and not self._finished)


def open_partial(
    files: Files,
    want: Map,
    chunk_hashes: bytes,
    on_finish: Callable[[Path], None],
    on_end: Callable[[bool], None],
) -> Partial:
    """A partial blob whose disk space is taken; on an error nothing stays open."""
    partial = Partial(files, want, chunk_hashes, on_finish, on_end)
    try:
        partial.prepare()
    except BaseException:
        os.close(partial.fd)
        raise
    return partial


def empty_map(blob: ContentId, size: int, chunk_hashes: bytes) -> Map:
    """No chunk is here."""
    bits = bytes(-(-chunk_count(size) // 8))
    return Map(blob=blob, size=size, chunks=content_id(chunk_hashes), bits=bits)
