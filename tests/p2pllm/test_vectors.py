"""Every wire and disk record: golden bytes, and what a reader refuses."""

import msgpack
import msgspec
import pytest
from blake3 import blake3
from nacl.signing import VerifyKey

from gossip import messages
from p2pllm import advert, blocks, codec, heads, manifest, partial, summary
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId
from p2pllm.keys import SIGNATURE_BYTES
from tests.vectors.hexdump import HERE, hexdump, read_hex
from tests.vectors.values import ADAPTER, BASE, BASE_FILES, IDENTITY, NOW, VECTORS, Vector

each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
signed = pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector.purpose], ids=lambda vector: vector.name
)


def body_of(vector: Vector) -> bytes:
    data = read_hex(vector.name)
    return data[SIGNATURE_BYTES:] if vector.purpose else data


def with_body(vector: Vector, plain: dict[str, object]) -> bytes:
    """The vector's record with another body, signed again if it is a signed one."""
    raw: bytes = msgpack.packb(plain)
    return IDENTITY.sign(vector.purpose, raw) + raw if vector.purpose else raw


def test_every_file_has_a_value_and_every_value_a_file() -> None:
    assert {path.stem for path in HERE.glob("*.hex")} == {vector.name for vector in VECTORS}


def test_every_tag_on_the_wire_has_a_vector() -> None:
    tags = {
        kind.__struct_config__.tag
        for module in (blocks, manifest, advert, messages, heads, partial, summary)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    } - {None, "weights.1"}  # weights.1 is only hashed, never sent: see the test of the model id
    assert tags <= {".".join(vector.name.split(".")[:2]) for vector in VECTORS}


@each
def test_the_value_encodes_to_the_golden_bytes(vector: Vector) -> None:
    assert vector.encode() == read_hex(vector.name)


@each
def test_the_golden_bytes_decode_to_the_value(vector: Vector) -> None:
    assert vector.decode(read_hex(vector.name)) == vector.value


@each
def test_the_comments_are_those_of_the_bytes(vector: Vector) -> None:
    assert (HERE / f"{vector.name}.hex").read_text() == hexdump(vector)


@each
def test_every_truncation_is_refused(vector: Vector) -> None:
    data = read_hex(vector.name)
    for length in range(len(data)):
        with pytest.raises(PeerError) as refused:
            vector.decode(data[:length])
        assert refused.value.code in {"E0602", "E0603"}


@each
def test_trailing_bytes_are_refused(vector: Vector) -> None:
    with pytest.raises(PeerError):
        vector.decode(read_hex(vector.name) + b"\0")


@each
def test_more_bytes_than_the_limit_are_refused(vector: Vector) -> None:
    plain = msgpack.unpackb(body_of(vector)) | {"padding": b"\0" * vector.limit}
    with pytest.raises(PeerError, match="at most"):
        vector.decode(with_body(vector, plain))


@each
def test_an_unknown_field_is_ignored(vector: Vector) -> None:
    plain = msgpack.unpackb(body_of(vector)) | {"later": [1, {"any": "thing"}]}
    assert vector.decode(with_body(vector, plain)) == vector.value


@each
def test_another_tag_is_refused(vector: Vector) -> None:
    plain = msgpack.unpackb(body_of(vector)) | {"type": "other.1"}
    with pytest.raises(PeerError) as refused:
        vector.decode(with_body(vector, plain))
    assert refused.value.code == "E0603"


@each
def test_a_field_of_another_type_is_refused(vector: Vector) -> None:
    plain = msgpack.unpackb(body_of(vector))
    for field in plain:
        with pytest.raises(PeerError):
            vector.decode(with_body(vector, plain | {field: {"no": "such"}}))


@each
def test_a_repeated_field_is_refused(vector: Vector) -> None:
    raw = body_of(vector)
    assert 0x80 <= raw[0] < 0x8F or raw[0] == 0xDE
    skip = 1 if raw[0] != 0xDE else 3
    pairs = len(msgpack.unpackb(raw)) + 1
    first = msgpack.packb("type") + msgpack.packb(msgpack.unpackb(raw)["type"])
    twice = b"\xde" + pairs.to_bytes(2) + first + raw[skip:]
    with pytest.raises(PeerError) as refused:
        codec.decode(twice, type(vector.value), len(twice))
    assert refused.value.code == "E0603"


@signed
def test_the_signature_is_over_the_prefixed_body(vector: Vector) -> None:
    """Checked with the bare library, as another implementation would."""
    data = read_hex(vector.name)
    signature, body = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
    key = VerifyKey(bytes(IDENTITY._key.verify_key))
    key.verify(b"p2pllm:" + vector.purpose.encode() + b"\0" + body, signature)


@signed
def test_a_flipped_bit_anywhere_is_refused(vector: Vector) -> None:
    data = read_hex(vector.name)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(PeerError):
            vector.decode(bytes(flipped))


@signed
def test_a_signature_for_another_purpose_is_refused(vector: Vector) -> None:
    raw = body_of(vector)
    with pytest.raises(PeerError) as refused:
        vector.decode(IDENTITY.sign("other.1", raw) + raw)
    assert refused.value.code == "E0602"


def test_manifests_open_and_records_open_at_their_time() -> None:
    assert manifest.open_manifest(read_hex("manifest.1.base")) == BASE
    assert manifest.open_manifest(read_hex("manifest.1.adapter")) == ADAPTER
    for name in ("advert.1", "provider.1", "presence.1"):
        assert advert.open_record(read_hex(name), NOW + 1).by == IDENTITY.node


def test_the_model_id_hashes_exactly_what_the_spec_says() -> None:
    """docs/specs/manifest.md, section 4: made here without the code under test."""
    pairs = sorted([file.path, str(file.blake3)] for file in BASE_FILES)
    raw = msgpack.packb({"type": "weights.1", "files": pairs})
    assert manifest.model_id(BASE_FILES) == ContentId(blake3(raw).hexdigest())
