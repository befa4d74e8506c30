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
ID_BYTES = 20  # of a key id: SHA-1
_REMEMBERED = 10_000  # proofs, about 2 KiB each with their record


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


class Proof(msgspec.Struct, frozen=True):
    """What a record proved of itself."""

    subkey: str
    expires_at: float
    places: bytes  # ids of all keys and shards it may stand under, one after the other: 800 bytes

    def belongs(self, at: bytes) -> bool:
        """Whether it may stand at a key id."""
        start = self.places.find(at)
        while start > 0 and start % ID_BYTES:
            start = self.places.find(at, start + 1)
        return len(at) == ID_BYTES and start >= 0


class Validator:
    """Judges records, and remembers the proofs of those whose signature it has checked."""

    def __init__(self) -> None:
        self._proofs: OrderedDict[bytes, Proof] = OrderedDict()

    def prove(self, value: bytes, at: bytes) -> Proof:
        """The proof of a record that somebody wants at key id `at`, whether it lives or not.

        Raises PeerError E0603 (malformed), E0602 (forged) or E0611 (not its place). Nodes that
        keep the rules never hold such a record, so who offers it breaks them.
        """
        proof = self._proofs.get(value)
        if proof is None:
            proof = self._proofs[value] = _prove(value)
            if len(self._proofs) > _REMEMBERED:
                self._proofs.popitem(last=False)
        if not proof.belongs(at):
            raise PeerError("E0611", f"the record of {proof.subkey} under a key that is not its")
        return proof


def is_alive(proof: Proof, now: float) -> bool:
    """Whether a record may stand now. Clocks differ, so a dead one blames nobody."""
    try:
        check_alive(proof.expires_at, now)
    except PeerError:
        return False
    return True


def _prove(value: bytes) -> Proof:
    record = verify_record(value)
    subkey = subkey_of(record)
    path = shard_path(subkey)
    places = b"".join(
        key_id(shard_key(key, path[:depth]))
        for key in keys_of(record)
        for depth in range(MAX_DEPTH + 1)
    )
    return Proof(subkey, record.expires_at, places)
