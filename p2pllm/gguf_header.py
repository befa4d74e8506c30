"""What a GGUF file holds, read from its head and proved before anything loads it. No torch.

A file is `GGUF`, a version, two counts, named settings, the tensors' names, sizes, kinds and
offsets, and the data, aligned. Accepted are files whose tensors fill the data exactly: each as long
as its kind and shape say, each beginning where the one before it ends, but for the alignment.
Source: docs/gguf.md of ggml, version 3.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from p2pllm.errors import PeerError

MAX_TENSORS = 65_536
MAX_SETTINGS = 4096
MAX_ITEMS = 1 << 20  # of a list: a vocabulary of a million
MAX_TEXT = 1 << 20  # bytes: a chat template
MAX_NAME = 64  # ggml's own bound
ALIGNMENT = 32

# Kind of number -> its name, numbers a block, bytes a block.
KINDS: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    30: ("BF16", 1, 2),
}
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: its kind, its shape (rows first), where its data begins after the head."""

    kind: str
    shape: tuple[int, ...]
    start: int
    size: int  # bytes

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a GGUF file by name; PeerError E0606 (no such file) or E0608 (it lies)."""
    if path.stat().st_size < 24:
        raise _no_gguf(path.name, "it has less than a head's bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(path.name, data)
        try:
            tensors = reader.tensors()
        except (struct.error, UnicodeDecodeError) as bad:
            raise _lie(path.name, f"its head breaks off: {bad}") from bad
        _check_places(path.name, tensors, len(data) - reader.data_start())
    return tensors


class _Reader:
    def __init__(self, name: str, data: mmap.mmap) -> None:
        self._name, self._data, self._at = name, data, 0
        self._alignment = ALIGNMENT

    def tensors(self) -> dict[str, Tensor]:
        if self._data[:4] != b"GGUF":
            raise _no_gguf(self._name, "it does not begin with GGUF")
        self._at = 4
        (version,) = self._numbers("<I")
        if version != 3:
            raise _no_gguf(self._name, f"it is of version {version}, and read is version 3")
        count, settings = self._numbers("<QQ")
        if count > MAX_TENSORS or settings > MAX_SETTINGS:
            self._lies(f"{count} tensors and {settings} settings")
        for _ in range(settings):
            key = self._text()
            (kind,) = self._numbers("<I")
            value = self._value(kind)
            if key == b"general.alignment":
                self._align(value)
        found = {}
        for _ in range(count):
            name, tensor = self._tensor()
            if name in found:
                self._lies(f"{name!r} stands there twice")
            found[name] = tensor
        return found

    def data_start(self) -> int:
        """Where the data begins, the head having been read."""
        return -(-self._at // self._alignment) * self._alignment

    def _align(self, value: bytes) -> None:
        self._alignment = int.from_bytes(value, "little")
        if self._alignment not in (32, 64, 128, 4096):
            self._lies(f"an alignment of {self._alignment}")

    def _numbers(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return found

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            self._lies("its head is longer than the file")
        self._at += size
        return self._data[self._at - size : self._at]

    def _text(self) -> bytes:
        (size,) = self._numbers("<Q")
        if size > MAX_TEXT:
            self._lies(f"a text of {size} bytes")
        return self._bytes(size)

    def _value(self, kind: int) -> bytes:
        if kind == _TEXT:
            return self._text()
        if kind != _LIST:
            return self._bytes(self._size(kind))
        inner, count = self._numbers("<IQ")
        if count > MAX_ITEMS:
            self._lies(f"a list of {count}")
        if inner == _TEXT:
            for _ in range(count):
                self._text()
            return b""
        return self._bytes(self._size(inner) * count)

    def _size(self, kind: int) -> int:
        if kind not in _SIZES:
            self._lies(f"a setting of the unknown kind {kind}")
        return _SIZES[kind]

    def _tensor(self) -> tuple[str, Tensor]:
        name = self._text().decode("ascii")
        (dimensions,) = self._numbers("<I")
        if len(name) > MAX_NAME or not 1 <= dimensions <= 4:
            self._lies(f"{name[:MAX_NAME]!r} has {dimensions} dimensions")
        shape = self._numbers(f"<{dimensions}Q")[::-1]
        kind, start = self._numbers("<IQ")
        if kind not in KINDS:
            self._lies(f"{name!r} holds numbers of the unknown kind {kind}")
        label, numbers, size = KINDS[kind]
        count = math.prod(shape)
        if not 0 < count < 2**53 or shape[-1] % numbers:
            self._lies(f"{name!r} has the shape {list(shape)} of {label}")
        return name, Tensor(label, shape, start, count // numbers * size)

    def _lies(self, why: str) -> NoReturn:
        raise _lie(self._name, why)


def _check_places(name: str, tensors: Mapping[str, Tensor], size: int) -> None:
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        # Any alignment passes that leaves less than 4 KiB unused, so nothing can hide there.
        if not end <= tensor.start < end + 4096 or (end == 0 and tensor.start):
            raise _lie(
                name, f"{key!r} begins at {tensor.start}, what stands before it ends at {end}"
            )
        end = tensor.start + tensor.size
    if not end <= size < end + 4096:
        raise _lie(name, f"its tensors take {end} bytes, the file has {size}")


def _no_gguf(name: str, why: str) -> PeerError:
    return PeerError("E0606", f"{name} is not a GGUF file: {why}", fix=["take it from its maker"])


def _lie(name: str, why: str) -> PeerError:
    return PeerError("E0608", f"the head of {name} does not hold: {why}")
