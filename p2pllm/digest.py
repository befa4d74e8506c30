"""One pass over a file: its BLAKE3, its SHA-256 and the hashes of its 1 MiB chunks."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from blake3 import blake3

from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId
from p2pllm.manifest import CHUNK_BYTES, MAX_FILE_BYTES

CHUNK_HASH_BYTES = 32

Progress = Callable[[int], None]  # bytes done so far
Sink = Callable[[memoryview, int], None]  # bytes, and the offset where they stand


class Digest(msgspec.Struct, frozen=True):
    """What one pass over a file finds."""

    size: int  # bytes
    blake3: ContentId
    sha256: str
    chunk_hashes: bytes  # 32 bytes for each 1 MiB chunk; the last chunk may be shorter


def chunk_count(size: int) -> int:
    """How many chunks a file of so many bytes has."""
    return -(-size // CHUNK_BYTES)


def check_chunk_hashes(size: int, chunk_hashes: bytes) -> None:
    """Return if a chunk list of this length fits a file of this size; else PeerError E0603."""
    if not 0 <= size <= MAX_FILE_BYTES:
        raise PeerError("E0603", f"a blob of {size} bytes, at most {MAX_FILE_BYTES}")
    wanted = chunk_count(size) * CHUNK_HASH_BYTES
    if len(chunk_hashes) != wanted:
        got = len(chunk_hashes)
        raise PeerError("E0603", f"chunk list of {got} bytes for {size} bytes, wanted {wanted}")


@contextmanager
def opened(source: Path) -> Iterator[tuple[int, int]]:
    """A descriptor of a file and its size; LocalError E0204 if it cannot be kept as a blob."""
    try:
        # Not blocking, since a pipe by that name would have us wait for a writer.
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as fault:
        raise LocalError("E0204", f"cannot read {source}", why=[fault.strerror or ""]) from fault
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            raise LocalError("E0204", f"{source} is not a file of at most {MAX_FILE_BYTES} bytes")
        yield fd, found.st_size
    finally:
        os.close(fd)


def digest(source: int, size: int, sink: Sink, progress: Progress) -> Digest:
    """Hash `size` bytes of an open file and hand each piece to `sink` as it passes.

    Raises LocalError E0204 if the file is not of that size, as when it changes meanwhile.
    """
    whole, sha, chunks = blake3(), hashlib.sha256(), bytearray()
    buffer, done = memoryview(bytearray(CHUNK_BYTES)), 0
    while done < size:
        piece = buffer[: read_at(source, buffer[: size - done], done)]
        if len(piece) < min(CHUNK_BYTES, size - done):
            raise _changed(size)
        sink(piece, done)
        whole.update(piece)
        sha.update(piece)
        chunks += blake3(piece).digest()
        done += len(piece)
        progress(done)
    if os.pread(source, 1, size):
        raise _changed(size)
    return Digest(size, ContentId(whole.hexdigest()), sha.hexdigest(), bytes(chunks))


def blake3_of(source: int, progress: Progress) -> ContentId:
    """The content id of all bytes of an open file."""
    whole, buffer, done = blake3(), memoryview(bytearray(CHUNK_BYTES)), 0
    while got := read_at(source, buffer, done):
        whole.update(buffer[:got])
        done += got
        progress(done)
    return ContentId(whole.hexdigest())


def read_at(source: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` from `offset` on; how many bytes were there (less only at the end)."""
    filled = 0
    while filled < len(buffer):
        got = os.preadv(source, [buffer[filled:]], offset + filled)
        if not got:
            break
        filled += got
    return filled


def _changed(size: int) -> LocalError:
    return LocalError(
        "E0204",
        f"the file is no longer {size} bytes long",
        why=["it was written to while it was being read"],
        fix=["wait until the program that writes it is done, then try again"],
    )
