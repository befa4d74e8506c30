"""The codec: any bytes give a value or a PeerError, and a value gives the same bytes always."""

from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pllm import advert, codec, manifest
from p2pllm.errors import PeerError
from p2pllm.keys import generate
from p2pllm.manifest import Manifest
from tests.strategies import manifests, records
from tests.vectors.hexdump import read_hex
from tests.vectors.values import ADVERT, IDENTITY, NOW, VECTORS, Vector

BOB = generate()
SMALL = 1024


class Note(msgspec.Struct, frozen=True, tag="note.1"):
    """A record for these tests."""

    text: str = ""
    raw: bytes = b""
    number: int | None = None


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def code_of(data: bytes, kind: Any = Note, limit: int = SMALL) -> str:
    with pytest.raises(PeerError) as refused:
        codec.decode(data, kind, limit)
    return refused.value.code


def outcome(action: Callable[[], object]) -> str | None:
    """The code of the PeerError that an action ends with, None if it gives a value."""
    try:
        action()
    except PeerError as error:
        return error.code
    return None


@given(st.binary(max_size=200))
@example(b"\xc1")
@example(b"\xdf\xff\xff\xff\xff")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xc6\xff\xff\xff\xff")
@example(b"\xdb\xff\xff\xff\xff")
@example(b"\x91" * 200)
@example(b"\x81\xa4type" * 40)
@example(b"\x82\x90\x01\x90\x02")
@example(b"\x81\xa1\xff\x01")
@example(b"\xd6\xff\x00\x00\x00\x00")
def test_any_bytes_give_a_value_or_a_peer_error(data: bytes) -> None:
    for vector in VECTORS:
        assert outcome(lambda vector=vector: vector.decode(data)) in {None, "E0602", "E0603"}


@given(plain)
def test_any_msgpack_value_gives_a_value_or_a_peer_error(value: object) -> None:
    data = msgpack.packb(value)
    for vector in VECTORS:
        kind, limit = type(vector.value), vector.limit
        found = outcome(lambda kind=kind, limit=limit: codec.decode(data, kind, limit))
        assert found in {None, "E0603"}


@given(st.sampled_from(VECTORS), st.data())
def test_a_golden_record_with_any_field_exchanged_gives_a_value_or_a_peer_error(
    vector: Vector, data: st.DataObject
) -> None:
    fields = msgpack.unpackb(read_hex(vector.name)[64 if vector.purpose else 0 :])
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = msgpack.packb(fields | {name: data.draw(plain)})
    kind, limit = type(vector.value), vector.limit
    found = outcome(lambda: codec.encode(codec.decode(changed, kind, limit)))
    assert found in {None, "E0603"}


@given(st.text(), st.binary(), st.none() | st.integers(-(2**63), 2**64 - 1))
def test_a_value_comes_back_and_its_bytes_are_the_same_always(
    text: str, raw: bytes, number: int | None
) -> None:
    note = Note(text, raw, number)
    data = codec.encode(note)
    assert codec.encode(note) == data
    assert codec.decode(data, Note, len(data)) == note


@given(manifests(IDENTITY.node))
def test_every_manifest_signs_and_opens_to_itself(value: Manifest) -> None:
    blob, record = manifest.seal(IDENTITY, value)
    assert manifest.open_manifest(record) == value
    assert manifest.seal(IDENTITY, value) == (blob, record)


@given(records(IDENTITY.node))
def test_every_dht_record_fits_its_limit_and_opens_to_itself(record: advert.Record) -> None:
    raw = advert.seal(IDENTITY, record)
    assert len(raw) <= advert.MAX_RECORD_BYTES
    now = max(0.0, record.expires_at - 1)
    if record.expires_at > now:
        assert advert.open_record(raw, now) == record


def test_a_record_longer_than_its_limit_is_not_even_parsed() -> None:
    data = codec.encode(Note("x" * 100))
    assert code_of(data, limit=len(data) - 1) == "E0603"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "nothing"),
        (msgpack.packb({"type": "note.1"}) + b"\0", "trailing bytes"),
        (msgpack.packb({"type": "note.1", "text": msgpack.ExtType(5, b"x")}), "extension"),
        (msgpack.packb({"type": "note.1", "text": msgpack.Timestamp(1)}), "timestamp"),
        (msgpack.packb({"type": "note.1", 7: 1}), "a key that is no text"),
        (b"\x82\xa4type\xa6note.1\xa4type\xa6note.1", "a key twice"),
        (msgpack.packb({"type": "note.2"}), "another tag"),
        (msgpack.packb({"text": "no tag"}), "no tag"),
        (msgpack.packb(["note.1"]), "no map"),
        (msgpack.packb({"type": "note.1", "text": b"raw"}), "bytes for text"),
        (msgpack.packb({"type": "note.1", "raw": "text"}), "text for bytes"),
        (msgpack.packb({"type": "note.1", "number": 1.5}), "a fraction for a number"),
        (msgpack.packb({"type": "note.1", "number": "1"}), "digits for a number"),
        (msgpack.packb({"type": "note.1", "number": True}), "true for a number"),
        (b"\x82\xa4type\xa6note.1\xa4text\xa2\xff\xfe", "no UTF-8"),
    ],
)
def test_what_is_not_the_record_is_refused(data: bytes, reason: str) -> None:
    assert code_of(data) == "E0603", reason


def test_deep_nesting_is_refused_without_using_up_the_stack() -> None:
    deep = b"\x81\xa1a" * 100_000 + b"\xc0"
    assert code_of(deep, limit=len(deep)) == "E0603"


@given(st.sampled_from(["manifest.1", "advert.1"]), st.sampled_from(["advert.1", "announce.1"]))
def test_a_signature_speaks_for_one_purpose(purpose: str, other: str) -> None:
    record = codec.sign(IDENTITY, purpose, ADVERT)
    kind = type(ADVERT)
    if purpose == other:
        assert codec.open_signed(record, other, kind, SMALL).by == IDENTITY.node
    else:
        with pytest.raises(PeerError, match="signature"):
            codec.open_signed(record, other, kind, SMALL)


def test_nobody_can_sign_in_another_name() -> None:
    body = codec.encode(ADVERT)  # by IDENTITY
    with pytest.raises(PeerError) as refused:
        advert.open_record(BOB.sign("advert.1", body) + body, NOW)
    assert refused.value.code == "E0602"
