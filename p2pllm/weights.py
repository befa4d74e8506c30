"""What a safetensors file holds, read from its header and proved before anything loads it.

A file is 8 bytes of header length (little endian), the header (a JSON object: tensor name to
dtype, shape and the half-open byte range of its data), and the data. This reader accepts a file
only if the ranges fill the data exactly: no gap, no overlap, no byte to spare, each as long as its
dtype and shape say. So nothing can hide in a file, and no loader can be led out of its buffer.
Source: the format description of the safetensors library.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import msgspec

from p2pllm import model_json
from p2pllm.errors import PeerError, Unavailable

MAX_HEADER_BYTES = 16 * 1024**2  # 65,536 tensors at 250 bytes each
MAX_TENSORS = 65_536
MAX_NAME_CHARS = 256
MAX_DIMENSIONS = 8
MAX_METADATA = 256  # entries

DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
FLOATS = frozenset({"F16", "BF16", "F32"})

# First bytes of what people rename to .safetensors. A pickle starts with its protocol number and
# a zip is how torch saves pickles; both can run code when loaded.
_MAGIC = (
    (b"PK\x03\x04", "a zip archive, as torch.save writes"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)


class Tensor(msgspec.Struct, frozen=True):
    """One entry of a header; `offsets` count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return self.offsets[1] - self.offsets[0]


def read_header(path: Path, max_header: int = MAX_HEADER_BYTES) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, in the order of their data.

    Raises PeerError E0606 (not such a file: a pickle, an archive, …) or E0608 (the header lies).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(32)
        _refuse_other_kinds(path.name, start)
        length = int.from_bytes(start[:8], "little")
        if length > size - 8:
            _lies(path.name, f"a header of {length} bytes in a file of {size}")
        if length > max_header:
            _lies(path.name, f"a header of {length} bytes, at most {max_header}")
        file.seek(8)
        raw = file.read(length)
    return parse_header(path.name, raw, size - 8 - length)


def parse_header(name: str, raw: bytes, data_bytes: int) -> dict[str, Tensor]:
    """The tensors a header names, proved to fill exactly `data_bytes`."""
    try:
        plain = model_json.read_object(raw, MAX_HEADER_BYTES)
    except ValueError as bad:
        raise _not_safetensors(name, f"its header is refused: {str(bad)[:120]}") from bad
    _check_metadata(name, plain.pop("__metadata__", {}))
    if len(plain) > MAX_TENSORS:
        _lies(name, f"{len(plain)} tensors, at most {MAX_TENSORS}")
    tensors = {key: _tensor(name, key, value) for key, value in plain.items()}
    ordered = sorted(tensors.items(), key=lambda item: item[1].offsets)
    end = 0
    for key, tensor in ordered:
        if tensor.offsets[0] != end:
            kind = "overlaps what stands before it" if tensor.offsets[0] < end else "leaves a gap"
            _lies(name, f"{key!r} {kind} at byte {tensor.offsets[0]}, expected {end}")
        end = tensor.offsets[1]
    if end != data_bytes:
        _lies(name, f"its tensors take {end} bytes, the file has {data_bytes}")
    return dict(ordered)


def read_directory(directory: Path) -> dict[str, Tensor]:
    """The tensors of all .safetensors files of a model's directory; E0606 if there is none."""
    found: dict[str, Tensor] = {}
    for path in weight_files(directory):
        header = read_header(path)
        twice = found.keys() & header.keys()
        if twice:
            _lies(path.name, f"{min(twice)!r} stands in another file of the model too")
        found.update(header)
    return found


def weight_files(directory: Path) -> list[Path]:
    """The .safetensors files of a directory by name; Unavailable E0402 or PeerError E0606."""
    if not directory.is_dir():
        raise Unavailable("E0402", f"no model directory at {directory}")
    files = sorted(path for path in directory.glob("*.safetensors") if path.is_file())
    if not files:
        others = sorted(p.name for p in directory.iterdir() if p.suffix in _PICKLES)
        why = [f"found {', '.join(others[:4])}: pickles, which can run code"] if others else []
        if any(directory.glob("*.gguf")):
            why = ["it is a quantised variant: adapters and training need the base it was made of"]
        raise PeerError(
            "E0606",
            f"no .safetensors file in {directory.name}",
            why=why,
            fix=["save the model with safe_serialization=True"],
        )
    return files


def parameters(tensors: Iterable[Tensor]) -> int:
    """How many numbers the tensors hold in all."""
    return sum(tensor.count for tensor in tensors)


_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})


def _tensor(name: str, key: str, value: object) -> Tensor:
    if not 0 < len(key) <= MAX_NAME_CHARS or not key.isprintable():
        _lies(name, f"a tensor name of {len(key)} characters: {key[:80]!r}")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _lies(name, f"{key!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        _lies(name, f"{key!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        _lies(name, f"{key!r} has no shape of at most {MAX_DIMENSIONS} dimensions")
    if not _naturals(offsets) or len(offsets) != 2:
        _lies(name, f"{key!r} has no pair of data offsets")
    tensor = Tensor(dtype, tuple(shape), (offsets[0], offsets[1]))
    wanted = tensor.count * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != wanted:
        _lies(name, f"{key!r} takes {offsets[1] - offsets[0]} bytes, its shape needs {wanted}")
    return tensor


def _naturals(value: object) -> bool:
    # `type is int`, for a bool is an int to isinstance. 2**53 bounds every product below memory.
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**53 for n in value)


def _check_metadata(name: str, metadata: object) -> None:
    if not isinstance(metadata, dict) or len(metadata) > MAX_METADATA:
        _lies(name, f"its metadata is no map of at most {MAX_METADATA} entries")
    if not all(isinstance(text, str) for text in metadata.values()):
        _lies(name, "its metadata holds something that is no text")


def _refuse_other_kinds(name: str, start: bytes) -> None:
    # A header of 640, 896 or 1,152 bytes begins as a pickle does, but its length ends in zeros.
    if start[2:9] == b"\0\0\0\0\0\0{":
        return
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            raise _not_safetensors(name, f"it is {kind}")
    if len(start) < 10:
        raise _not_safetensors(name, f"it has {len(start)} bytes")


def _not_safetensors(name: str, why: str) -> PeerError:
    return PeerError(
        "E0606",
        f"{name} is not a safetensors file: {why}",
        fix=["convert it with the tools of the library that made it, from a source you trust"],
    )


def _lies(name: str, why: str) -> NoReturn:
    raise PeerError("E0608", f"the header of {name} does not hold: {why}")
