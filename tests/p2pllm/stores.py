"""What the tests of the store share: bytes to keep, and a look at the disk."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pllm.errors import P2pllmError
from p2pllm.ids import ContentId, content_id
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Partial
from p2pllm.store import Store, Usage

MIB = 1024 * 1024
QUOTA = 64 * MIB


class Blob:
    """Some bytes with all that a fetch knows of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id: ContentId = content_id(data)
        self.count = -(-len(data) // CHUNK_BYTES)
        self.hashes = b"".join(blake3(self.chunk(i)).digest() for i in range(self.count))

    def __repr__(self) -> str:
        return f"Blob({len(self.data)} bytes, {self.id[:8]})"

    def chunk(self, index: int) -> memoryview:
        return memoryview(self.data)[index * CHUNK_BYTES :][:CHUNK_BYTES]

    def begin(self, store: Store) -> Partial:
        return store.begin(self.id, len(self.data), self.hashes)


def a_blob(chunks: float, seed: int = 0) -> Blob:
    return Blob(blake3(b"%d" % seed).digest(int(chunks * CHUNK_BYTES)))


def random_file(path: Path, size: int, seed: int = 0) -> bytes:
    data = blake3(b"%d" % seed).digest(size)
    path.write_bytes(data)
    return data


def bytes_on_disk(root: Path) -> int:
    """All that the quota is for. Blobs first: a file that moves meanwhile is not counted twice."""
    total = 0
    for path in (
        path for name in ("blobs", "partial", "damaged") for path in (root / name).rglob("*")
    ):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def usage_of(store: Store) -> Usage:
    """Without what others do on this disk."""
    return msgspec.structs.replace(store.usage(), free_bytes=0)


def refused(code: str, action: Callable[[], object]) -> P2pllmError:
    with pytest.raises(P2pllmError) as caught:
        action()
    assert caught.value.code == code
    return caught.value
