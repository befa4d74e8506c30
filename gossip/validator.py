"""Whether a DHT record may stand where somebody wants it: pure, bytes and `now` in, reason out.

A record is its own proof. It carries its signer, its sub-key and its end, so a node needs nothing
but the record to refuse one that is forged, stale, or under a key that is not its own. The rules:
docs/specs/dht.md.
"""

import hashlib
from collections import OrderedDict

import msgspec
from blake3 import blake3

from p2pllm.advert import check_alive, keys_of, subkey_of, verify_record
from p2pllm.errors import PeerError

MAX_DEPTH = 4  # levels of shards below a key: 16**4 leaves
_KEEP = 20_000  # verified records remembered, about 1 KiB each: a signature is checked once


def shard_path(subkey: str) -> str:
    """The hex digits that lead a sub-key down the tree of shards, one a level."""
    return blake3(subkey.encode()).hexdigest()[:MAX_DEPTH]


def shard_key(key: str, path: str) -> str:
    """The DHT key of one shard of a busy key; the key itself for the empty path."""
    return f"{key}/{path}" if path else key


def children(path: str) -> list[str]:
    """The shards one level below the one at `path`."""
    return [path + digit for digit in "0123456789abcdef"]


def key_id(key: str) -> bytes:
    """Where a key lies in the key space: 20 bytes, as Kademlia and hivemind have it."""
    return hashlib.sha1(key.encode(), usedforsecurity=False).digest()


class Verified(msgspec.Struct, frozen=True):
    """What a record proved of itself."""

    subkey: str
    expires_at: float
    places: frozenset[bytes]  # ids of all keys and shards it may stand under


class Validator:
    """Judges records; remembers those whose signature it has checked."""

    def __init__(self) -> None:
        self._verified: OrderedDict[bytes, Verified] = OrderedDict()
        self.refused = 0

    def verify(self, value: bytes, now: float) -> Verified:
        """What a record proves; PeerError E0603, E0602 or E0607 if it proves nothing."""
        verified = self._verified.get(value)
        if verified is None:
            verified = self._verified[value] = _verify(value)
            if len(self._verified) > _KEEP:
                self._verified.popitem(last=False)
        check_alive(verified.expires_at, now)
        return verified

    def accepts(
        self, at: bytes, subkey: object, value: bytes, expires_at: float, now: float
    ) -> bool:
        """Whether `value` may stand at key id `at`, under `subkey`, until `expires_at`."""
        try:
            verified = self.verify(value, now)
        except PeerError:
            self.refused += 1
            return False
        ok = (
            subkey == verified.subkey
            and expires_at == verified.expires_at
            and at in verified.places
        )
        self.refused += not ok
        return ok


def _verify(value: bytes) -> Verified:
    record = verify_record(value)
    subkey = subkey_of(record)
    path = shard_path(subkey)
    places = frozenset(
        key_id(shard_key(key, path[:depth]))
        for key in keys_of(record)
        for depth in range(MAX_DEPTH + 1)
    )
    return Verified(subkey, record.expires_at, places)
