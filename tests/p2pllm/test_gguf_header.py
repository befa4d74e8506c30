"""A GGUF file's head: read as ggml describes it, and refused wherever it does not hold."""

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pllm.errors import PeerError
from p2pllm.gguf_header import read_header

F32, Q8_0 = 0, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int, start: int) -> bytes:
    head = text(name) + struct.pack("<I", len(shape))
    return head + struct.pack(f"<{len(shape)}Q", *shape[::-1]) + struct.pack("<IQ", kind, start)


def write(path: Path, tensors: list[bytes], data: int, *, head: bytes = b"GGUF") -> Path:
    items = text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    named = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    count = text("llama.block_count") + struct.pack("<II", 4, 7)
    whole = head + struct.pack("<IQQ", 3, len(tensors), 3) + named + count + items
    whole += b"".join(tensors)
    path.write_bytes(whole + bytes(-len(whole) % 32) + bytes(data))
    return path


GOOD = [tensor("a", (3,), F32, 0), tensor("b", (2, 64), Q8_0, 32)]


def test_kinds_shapes_and_sizes_are_read(tmp_path: Path) -> None:
    found = read_header(write(tmp_path / "m.gguf", GOOD, 32 + 136))
    assert found["a"].shape == (3,)
    assert (found["b"].kind, found["b"].shape, found["b"].size) == ("Q8_0", (2, 64), 136)
    assert found["b"].count == 128


@pytest.mark.parametrize(
    ("tensors", "data", "code"),
    [
        (GOOD, 32 + 135, "E0608"),  # cut short
        (GOOD, 32 + 136 + 5000, "E0608"),  # something hidden behind
        ([*GOOD, tensor("a", (3,), F32, 192)], 204, "E0608"),  # twice
        ([GOOD[0], tensor("b", (2, 64), Q8_0, 8)], 168, "E0608"),  # overlaps
        ([GOOD[0], tensor("b", (2, 64), Q8_0, 32 + 8192)], 9000, "E0608"),  # a gap
        ([tensor("a", (3, 33), Q8_0, 0)], 200, "E0608"),  # no whole blocks
        ([tensor("a", (3,), 99, 0)], 12, "E0608"),  # a kind nobody knows
        ([tensor("a", (0,), F32, 0)], 0, "E0608"),
        ([tensor("a", (2**40, 2**40), F32, 0)], 12, "E0608"),
        ([tensor("a" * 70, (3,), F32, 0)], 12, "E0608"),
        ([tensor("a", (1,) * 5, F32, 0)], 12, "E0608"),
    ],
)
def test_a_head_that_lies_is_refused(
    tmp_path: Path, tensors: list[bytes], data: int, code: str
) -> None:
    with pytest.raises(PeerError) as refused:
        read_header(write(tmp_path / "m.gguf", tensors, data))
    assert refused.value.code == code


def test_other_files_are_refused(tmp_path: Path) -> None:
    for head in (b"PK\x03\x04", b"GGML"):
        with pytest.raises(PeerError) as refused:
            read_header(write(tmp_path / "m.gguf", GOOD, 168, head=head))
        assert refused.value.code == "E0606"
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    with pytest.raises(PeerError):
        read_header(tmp_path / "short.gguf")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("d") / "m.gguf", GOOD, 168)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    with suppress(PeerError):
        assert sum(one.size for one in read_header(path).values()) <= len(raw)
