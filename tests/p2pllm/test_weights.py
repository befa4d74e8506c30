"""safetensors headers: what is well formed is read, what lies or is something else is refused."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import weights
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.weights import Tensor

GOOD = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
DATA = bytes(24)


def packed(header: object, data: bytes = DATA, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(PeerError) as caught:
        weights.read_header(path)
    return caught.value.code


def code_of(read: Callable[[], object]) -> str:
    try:
        read()
    except P2pllmError as refused:
        return refused.code
    return ""


def one(**changes: object) -> dict[str, object]:
    return {"a": {**GOOD["a"], **changes}}


def test_tensors_are_named_in_the_order_of_their_data(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        **GOOD,
        "empty": {"dtype": "I8", "shape": [0, 9], "data_offsets": [24, 24]},
    }
    found = weights.read_header(written(tmp_path / "m.safetensors", packed(header, bytes(26))))
    assert list(found) == ["a", "empty", "b"]
    assert found["a"] == Tensor("F32", (2, 3), (0, 24))
    assert weights.parameters(found.values()) == 7


def test_the_header_may_end_in_spaces_as_the_format_allows(tmp_path: Path) -> None:
    raw = json.dumps(GOOD).encode() + b"   "
    assert list(weights.read_header(written(tmp_path / "m.safetensors", packed(raw)))) == ["a"]


LIES: dict[str, bytes] = {
    "header longer than the file": packed(GOOD, length=10_000),
    "header of 2**63 bytes": packed(GOOD, length=2**63),
    "data cut short": packed(GOOD, DATA[:-1]),
    "data to spare": packed(GOOD, DATA + b"x"),
    "shape larger than its bytes": packed(one(shape=[2, 4])),
    "shape whose product overflows 64 bits": packed(one(shape=[2**33, 2**33])),
    "negative size": packed(one(shape=[-2, -3])),
    "size that is no integer": packed(one(shape=[2.0, 3])),
    "size that is a truth value": packed(one(shape=[True, 6])),
    "nine dimensions": packed(one(shape=[1] * 7 + [2, 3])),
    "unknown dtype": packed(one(dtype="F99")),
    "dtype that is a list": packed(one(dtype=["F32"])),
    "backward offsets": packed(one(data_offsets=[24, 0])),
    "one offset": packed(one(data_offsets=[24])),
    "a gap": packed(one(data_offsets=[1, 25]), bytes(25)),
    "an overlap": packed({**GOOD, "b": {**GOOD["a"], "data_offsets": [12, 36]}}, bytes(36)),
    "the same range twice": packed({**GOOD, "b": GOOD["a"]}),
    "an unknown field": packed(one(code="x")),
    "a missing field": packed({"a": {"dtype": "F32", "shape": [2, 3]}}),
    "a tensor that is a number": packed({"a": 1}),
    "a name without letters": packed({"": GOOD["a"]}),
    "a name with a line end": packed({"a\n": GOOD["a"]}),
    "a name without end": packed({"a" * 300: GOOD["a"]}),
    "metadata that is a list": packed({"__metadata__": [], **GOOD}),
    "metadata with a number": packed({"__metadata__": {"a": 1}, **GOOD}),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: bytes) -> None:
    assert refusal(written(tmp_path / "m.safetensors", lie)) == "E0608"


OTHERS: dict[str, bytes] = {
    "pickle": pickle.dumps({"a": [1.0, 2.0]}),
    "old pickle": pickle.dumps({"a": 1}, protocol=2),
    "zip": b"PK\x03\x04" + bytes(40),
    "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(40),
    "pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "nothing": b"",
    "nine bytes": struct.pack("<Q", 1) + b"{",
    "a JSON list": packed([1, 2]),
    "broken JSON": packed(b"{'a': 1}"),
    "a name that stands twice": packed(b'{"a": 1, "a": 2}'),
    "NaN": packed(b'{"a": NaN}'),
    "endless nesting": packed(b'{"a":' + b"[" * 100_000),
    "no text": packed(b"{\xff\xfe}"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, other: bytes) -> None:
    assert refusal(written(tmp_path / "m.safetensors", other)) == "E0606"


def test_a_torch_archive_with_another_name_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(PeerError, match=r"zip archive, as torch\.save"):
        weights.read_header(path)


def test_a_long_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", packed(GOOD))
    with pytest.raises(PeerError, match="at most 10"):
        weights.read_header(path, max_header=10)


def test_a_directory_of_two_files_is_read_as_one(tmp_path: Path) -> None:
    written(tmp_path / "model-1.safetensors", packed(GOOD))
    written(tmp_path / "model-2.safetensors", packed({"b": GOOD["a"]}))
    assert sorted(weights.read_directory(tmp_path)) == ["a", "b"]


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "model-1.safetensors", packed(GOOD))
    written(tmp_path / "model-2.safetensors", packed(GOOD))
    with pytest.raises(PeerError, match="another file") as caught:
        weights.read_directory(tmp_path)
    assert caught.value.code == "E0608"


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    raw = json.dumps(GOOD).encode().ljust(length)
    header = weights.read_header(written(tmp_path / "m.safetensors", packed(raw)))
    assert header["a"].shape == (2, 3)


def test_a_directory_with_only_pickles_says_so(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(PeerError) as caught:
        weights.weight_files(tmp_path)
    assert caught.value.code == "E0606"
    assert "pytorch_model.bin" in caught.value.why[0]


def test_a_directory_that_is_not_there_is_nobodys_fault(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        weights.weight_files(tmp_path / "gone")
    assert caught.value.code == "E0402"


@given(raw=st.binary(max_size=200), size=st.integers(0, 100))
def test_any_header_is_read_or_refused(raw: bytes, size: int) -> None:
    assert code_of(lambda: weights.parse_header("m", raw, size)) in ("", "E0606", "E0608")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I8", "?"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | JSON,
    }
)


@given(header=st.dictionaries(st.text(max_size=4), ENTRY, max_size=3), size=st.integers(0, 64))
def test_an_accepted_header_fills_its_file_exactly(header: dict[str, object], size: int) -> None:
    try:
        found = weights.parse_header("m", json.dumps(header).encode(), size)
    except P2pllmError:
        return
    spans = [tensor.offsets for tensor in found.values()]
    assert sum(stop - start for start, stop in spans) == size
    assert all(
        stop - start == tensor.count * weights.DTYPE_BYTES[tensor.dtype]
        for tensor, (start, stop) in zip(found.values(), spans, strict=True)
    )


@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    cut=st.integers(1, 30),
)
def test_every_cut_of_a_good_file_is_refused(counts: list[int], cut: int) -> None:
    header, end = {}, 0
    for number, count in enumerate(counts):
        header[str(number)] = {
            "dtype": "F16",
            "shape": [count],
            "data_offsets": [end, end + 2 * count],
        }
        end += 2 * count
    raw = json.dumps(header).encode()
    assert len(weights.parse_header("m", raw, end)) == len(counts)
    with pytest.raises(PeerError):
        weights.parse_header("m", raw, end + cut)
    with pytest.raises(PeerError):
        weights.parse_header("m", raw[:-cut], end)
