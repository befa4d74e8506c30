"""Signed, expiring DHT records: adverts, providers, presence; and the keys they stand under.

Wire format, keys and the sharding arithmetic: docs/specs/dht.md.
"""

from collections.abc import Iterator
from itertools import product
from typing import Annotated

import msgspec

from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeIdField
from p2pllm.keys import Identity
from p2pllm.manifest import MAX_TOTAL_BYTES, Kind
from p2pllm.names import NameField, Place

MAX_RECORD_BYTES = 1024
MAX_TTL_S = 2 * 3600.0  # a record dies at most two hours after it is stored
CLOCK_SLACK_S = 120.0  # how far another node's clock may run ahead of ours
KINDS: tuple[Kind, ...] = ("base", "adapter")

# Size class k holds models of up to 4**k MiB on disk (base and adapter together); the last takes
# all the rest. Seven classes, so a search without a size filter asks for seven keys a kind.
SIZE_CLASSES = tuple(f"s{k}" for k in range(1, 8))
_CLASS_LIMITS = tuple(4**k * 1024 * 1024 for k in range(1, 7))

Address = Annotated[str, msgspec.Meta(pattern=r"\A/[a-zA-Z0-9./:-]{1,127}\Z")]
"""A multiaddr to dial, without the /p2p/ID at its end."""

Time = Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds


class Advert(msgspec.Struct, frozen=True, kw_only=True, tag="advert.1"):
    """A node holds this manifest, and this is where the model sits in the hierarchy."""

    by: NodeIdField  # who advertises; the publisher is in the manifest
    manifest: ContentIdField
    kind: Kind
    place: Place
    name: NameField
    model: ContentIdField
    size: Annotated[int, msgspec.Meta(ge=1, le=2 * MAX_TOTAL_BYTES)]  # bytes, with the base
    download: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOTAL_BYTES)]  # bytes, without the base
    params: Annotated[int, msgspec.Meta(ge=1, le=10**13)]
    licence: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9.+ ()-]{1,100}\Z")]
    gain: Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)] | None = None  # nats/token, as claimed
    created_at: Time  # of the manifest
    issued_at: Time
    expires_at: Time
    withdrawn: bool = False  # the same sub-key, later expiry: takes the advert's place


class Provider(msgspec.Struct, frozen=True, kw_only=True, tag="provider.1"):
    """A node hands out `manifest`. `what` is that id, or for a base also its model id."""

    by: NodeIdField
    what: ContentIdField
    manifest: ContentIdField
    issued_at: Time
    expires_at: Time
    withdrawn: bool = False


class Presence(msgspec.Struct, frozen=True, kw_only=True, tag="presence.1"):
    """A node is up; `instance` differs for every start, so a copied key shows itself."""

    by: NodeIdField
    instance: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=4)] = ()
    issued_at: Time
    expires_at: Time


Record = Advert | Provider | Presence
_PURPOSES: dict[type[Record], str] = {
    Advert: "advert.1",
    Provider: "provider.1",
    Presence: "presence.1",
}


def size_class(size: int) -> str:
    """The class of a model of so many bytes: 's1' up to 4 MiB … 's7' above 4 GiB."""
    for name, limit in zip(SIZE_CLASSES, _CLASS_LIMITS, strict=False):
        if size <= limit:
            return name
    return SIZE_CLASSES[-1]


def size_classes_within(low: int, high: int) -> list[str]:
    """The classes that hold any size in [low, high] bytes."""
    first, last = SIZE_CLASSES.index(size_class(low)), SIZE_CLASSES.index(size_class(high))
    return list(SIZE_CLASSES[first : last + 1])


def index_key(lang: str, domain: str, sub: str, size: str, kind: str) -> str:
    """One DHT key of the index; '*' stands for any language, domain or sub-domain.

    '-' stands for 'none': a model of a language has the domain '-'.
    """
    return f"p2pllm/1/ad/{lang}/{domain or '-'}/{sub or '-'}/{size}/{kind}"


def index_keys(advert: Advert) -> list[str]:
    """The eight keys an advert is stored under: language, domain and sub-domain, each or any."""
    place, size = advert.place, size_class(advert.size)
    combinations = product((place.lang, "*"), (place.domain, "*"), (place.sub, "*"))
    return [index_key(a, b, c, size, advert.kind) for a, b, c in combinations]


def provider_key(what: ContentId) -> str:
    """The DHT key under which nodes say that they hand out a manifest or a base."""
    return f"p2pllm/1/have/{what}"


def presence_key(node: str) -> str:
    """The DHT key under which a node says that it is up."""
    return f"p2pllm/1/node/{node}"


def keys_of(record: Record) -> list[str]:
    """Every unsharded key a record may stand under."""
    if isinstance(record, Advert):
        return index_keys(record)
    if isinstance(record, Provider):
        return [provider_key(record.what)]
    return [presence_key(record.by)]


def subkey_of(record: Record) -> str:
    """The sub-key of a record: its signer, and for an advert or provider the manifest's start."""
    if isinstance(record, Presence):
        return record.by
    return f"{record.by}/{record.manifest[:16]}"


def seal(identity: Identity, record: Record) -> bytes:
    """The signed bytes of a DHT record, at most 1,024."""
    raw = codec.sign(identity, _PURPOSES[type(record)], record)
    assert len(raw) <= MAX_RECORD_BYTES
    return raw


def open_record(raw: bytes, now: float) -> Record:
    """A DHT record out of signed bytes, alive at `now` (Unix seconds).

    Raises PeerError E0603 (malformed), E0602 (forged) or E0607 (expired, or dated too far ahead).
    """
    record = verify_record(raw)
    check_alive(record.expires_at, now)
    return record


def verify_record(raw: bytes) -> Record:
    """A DHT record out of signed bytes, dead or alive; PeerError E0603 or E0602."""
    for kind in _kinds_by_tag(raw):
        return codec.open_signed(raw, _PURPOSES[kind], kind, MAX_RECORD_BYTES)
    raise PeerError("E0603", "no known kind of DHT record")


def check_alive(expires_at: float, now: float) -> None:
    """Return if a record that ends then may stand now; else PeerError E0607."""
    if expires_at <= now:
        raise PeerError("E0607", f"a DHT record expired {now - expires_at:.0f} s ago")
    if expires_at > now + MAX_TTL_S + CLOCK_SLACK_S:
        raise PeerError("E0607", f"a DHT record lives past {MAX_TTL_S:.0f} s from now")


def _kinds_by_tag(raw: bytes) -> Iterator[type[Record]]:
    # The tag stands within the first bytes of the body: map header, "type", tag.
    head = raw[64:96]
    for kind, purpose in _PURPOSES.items():
        if purpose.encode() in head:
            yield kind
