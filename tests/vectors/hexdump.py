"""Msgpack bytes as lines of hex with a comment each, and back.

`python -m tests.vectors.hexdump` writes the files of vectors that have none yet; it never
changes one that is there.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from tests.vectors.values import IDENTITY, VECTORS, Vector

HERE = Path(__file__).parent
_WIDTH = 32  # bytes of payload a line
_COMMENT_AT = 72
# How many bytes of big-endian number follow these markers: lengths, then values.
_LENGTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_COUNTS = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xCB: ">d", 0xD0: ">b", 0xD1: ">h"}
_FIXED = {0xC0: "none", 0xC2: "false", 0xC3: "true"}


def read_hex(name: str) -> bytes:
    """The golden bytes of a vector."""
    lines = (HERE / f"{name}.hex").read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines))


def hexdump(vector: Vector) -> str:
    """A vector's file: what it is, then its bytes, a field a line."""
    data = vector.encode()
    lines = [f"# {vector.name}: {type(vector.value).__name__}, {len(data)} bytes"]
    if vector.purpose:
        lines += _payload(data[:64], f"signature of {IDENTITY.node[:16]}… as {vector.purpose}")
        data = data[64:]
    position = 0
    while position < len(data):
        position, more = _item(data, position)
        lines += more
    return "\n".join(lines) + "\n"


def _item(data: bytes, at: int) -> tuple[int, list[str]]:
    """One msgpack item that starts at `at`: where the next one starts, and its lines."""
    marker = data[at]
    if marker in _FIXED or marker <= 0x7F:
        return at + 1, [_line(data[at : at + 1], _FIXED.get(marker, str(marker)))]
    if marker in _NUMBERS:
        end = at + 1 + struct.calcsize(_NUMBERS[marker])
        [number] = struct.unpack(_NUMBERS[marker], data[at + 1 : end])
        return end, [_line(data[at:end], str(number))]
    if marker in _COUNTS or 0x80 <= marker <= 0x9F:
        end = at + 1 + _COUNTS.get(marker, 0)
        count = int.from_bytes(data[at + 1 : end]) if marker in _COUNTS else marker & 0x0F
        is_map = marker in (0xDE, 0xDF) or marker <= 0x8F
        return end, [_line(data[at:end], f"{'map' if is_map else 'array'} of {count}")]
    return _text(data, at)


def _text(data: bytes, at: int) -> tuple[int, list[str]]:
    marker = data[at]
    start = at + 1 + _LENGTHS.get(marker, 0)
    length = int.from_bytes(data[at + 1 : start]) if marker in _LENGTHS else marker & 0x1F
    payload = data[start : start + length]
    comment = f"{length} bytes" if marker in (0xC4, 0xC5, 0xC6) else _quoted(payload.decode())
    head = data[at:start]
    if len(payload) + len(head) <= _WIDTH:
        return start + length, [_line(head + payload, comment)]
    return start + length, [_line(head, f"text of {length}"), *_payload(payload, comment)]


def _payload(payload: bytes, comment: str) -> Iterator[str]:
    for offset in range(0, len(payload), _WIDTH):
        last = offset + _WIDTH >= len(payload)
        yield "  " + _line(payload[offset : offset + _WIDTH], comment if last else "")


def _line(data: bytes, comment: str) -> str:
    return f"{data.hex():{_COMMENT_AT}}# {comment}" if comment else data.hex()


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 24 else text[:23] + "...")


def main() -> None:
    """Write the files that are missing."""
    for vector in VECTORS:
        path = HERE / f"{vector.name}.hex"
        if not path.exists():
            path.write_text(hexdump(vector))


if __name__ == "__main__":
    main()
