"""Bytes to typed structs and back, within bounds; signed records.

One decoder bounds the bytes (the `msgpack` library with its limits set), one type states the
fields (`msgspec.convert`). A signed record is 64 bytes of signature followed by the body exactly
as it was signed: docs/specs/records.md.
"""

from typing import Any, Protocol, TypeVar

import msgpack
import msgspec

from p2pllm.errors import PeerError
from p2pllm.ids import NodeId
from p2pllm.keys import SIGNATURE_BYTES, Identity, verify

T = TypeVar("T")


class SignedBody(Protocol):
    """What every signed struct carries: who signed it."""

    @property
    def by(self) -> NodeId: ...


S = TypeVar("S", bound=SignedBody)


def encode(value: object) -> bytes:
    """A struct as msgpack: fields in the order of the type, map keys sorted, same bytes always."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,), order="deterministic")
    packed: bytes = msgpack.packb(plain, use_bin_type=True)
    return packed


def decode(data: bytes, kind: type[T], max_bytes: int) -> T:
    """A value of type `kind` out of foreign bytes; PeerError E0603 with the reason if refused.

    Unknown fields are ignored; a missing tag, extension types, timestamps, repeated and non-text
    keys, trailing bytes, and anything longer than `max_bytes` are refused.
    """
    if len(data) > max_bytes:
        raise PeerError("E0603", f"{kind.__name__}: {len(data)} bytes, at most {max_bytes}")
    try:
        plain = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique_map,
            ext_hook=_refuse_ext,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
            max_array_len=max_bytes,
            max_map_len=max_bytes,
        )
        _require_tag(plain, kind)
        return msgspec.convert(plain, kind, builtin_types=(bytes,), strict=True)
    except _DECODE_FAULTS as fault:
        raise PeerError("E0603", f"{kind.__name__}: {fault or type(fault).__name__}") from fault


def sign(identity: Identity, purpose: str, body: SignedBody) -> bytes:
    """A signed record: signature (64 bytes) and body. `body.by` must be the signer."""
    assert body.by == identity.node
    raw = encode(body)
    return identity.sign(purpose, raw) + raw


def open_signed(record: bytes, purpose: str, kind: type[S], max_bytes: int) -> S:
    """The body of a signed record, its signature checked against the key that `by` names.

    Raises PeerError E0603 (malformed) or E0602 (not signed by `by` for this purpose).
    """
    if len(record) <= SIGNATURE_BYTES:
        raise PeerError("E0603", f"{kind.__name__}: {len(record)} bytes hold no signed record")
    signature, raw = record[:SIGNATURE_BYTES], record[SIGNATURE_BYTES:]
    body = decode(raw, kind, max_bytes)
    verify(body.by, purpose, raw, signature)
    return body


def _unique_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise ValueError("a map repeats a key")
    return plain


def _require_tag(plain: object, kind: type) -> None:
    # msgspec takes a struct without its tag for the one it is asked for.
    config: msgspec.structs.StructConfig | None = getattr(kind, "__struct_config__", None)
    if config and config.tag and isinstance(plain, dict) and config.tag_field not in plain:
        raise ValueError(f"no {config.tag_field!r} tells what it is")


def _refuse_ext(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")


# msgpack raises ValueError and its kin for malformed bytes, UnicodeDecodeError (a ValueError) for
# bad text, TypeError for unhashable keys, RecursionError for its own depth bound.
_DECODE_FAULTS = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    msgpack.exceptions.UnpackException,
    msgspec.MsgspecError,
)
