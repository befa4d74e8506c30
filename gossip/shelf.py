"""The records a node keeps for others, within bounds and until they end. No I/O, no clock.

Of two records under one sub-key the one that ends later stays. A key that is full refuses records
under new sub-keys and remembers it: for as long as such a record would have lived, and MARK_S more,
readers are told to look one level of shards below as well. docs/specs/dht.md says why so long.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from gossip.validator import Proof, Validator, is_alive
from p2pllm.advert import MAX_RECORD_BYTES, MAX_TTL_S
from p2pllm.errors import PeerError

FULL = 256  # records a key: 264 KiB at most in an answer, so that eight keys fit a 4 MiB message
MAX_RECORDS = 100_000  # in all: 100 MB at most, 50 MB as adverts are
MAX_KEPT_BYTES = 300 * 1024
KEYS_A_CALL = 8  # so 2.1 MiB at most in an answer, where p2pd carries 4 MiB
RECORDS_A_CALL = 512  # of at most 1 KiB each
MARK_S = MAX_TTL_S  # while records below climb one level at each renewal
_MAX_REFUSED = 10_000  # keys whose refusals are remembered
_SLACK = 1024


class Kept(msgspec.Struct, frozen=True, kw_only=True, tag="kept.1"):
    """What one node keeps under one key, as it answers. Wire format: docs/specs/dht.md."""

    records: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD_BYTES)], ...],
        msgspec.Meta(max_length=FULL),
    ] = ()
    more: bool = False  # records were refused here that may still live


class _Item(msgspec.Struct, frozen=True):
    value: bytes
    expires_at: float  # Unix seconds


class Shelf:
    """Proven records by key id and sub-key. `now` is the caller's, Unix seconds."""

    def __init__(
        self, validator: Validator, full: int = FULL, max_records: int = MAX_RECORDS
    ) -> None:
        self._validator = validator
        self._full = full
        self._max_records = max_records
        self._keys: dict[bytes, dict[str, _Item]] = {}
        self._refused: dict[bytes, float] = {}  # key id -> until when readers are told
        self._ends: list[tuple[float, bytes, str]] = []  # a heap; '' as sub-key: of `_refused`
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, entries: Iterable[tuple[bytes, bytes]], now: float) -> list[bool]:
        """Keep records, given with their key ids, that prove they belong there.

        False: dead, forged, or the key is full. After a forgery nothing more is looked at.
        """
        kept, forged = [], False
        for key, value in entries:
            ok = False
            if not forged:
                try:
                    proof = self._validator.prove(value, key)
                    ok = is_alive(proof, now) and self._put(key, proof, value, now)
                except PeerError:
                    forged = True
            kept.append(ok)
        return kept

    def get(self, key: bytes, now: float) -> Kept:
        """What is kept under a key."""
        self._drop_ended(now)
        held = self._keys.get(key, {})
        return Kept(records=tuple(item.value for item in held.values()), more=key in self._refused)

    def key_ids(self) -> list[bytes]:
        """Every key id that holds a record."""
        return list(self._keys)

    def values(self, key: bytes) -> Iterator[bytes]:
        """The records under a key."""
        return (item.value for item in list(self._keys.get(key, {}).values()))

    def _put(self, key: bytes, proof: Proof, value: bytes, now: float) -> bool:
        # True also if it is kept already, or a later one in its place.
        self._drop_ended(now)
        held = self._keys.get(key, {})
        old = held.get(proof.subkey)
        if old is not None and old.expires_at >= proof.expires_at:
            return True
        if old is None and (len(held) >= self._full or self._count >= self._max_records):
            self._refuse(key, proof.expires_at + MARK_S)
            return False
        self._count += old is None
        self._keys.setdefault(key, held)[proof.subkey] = _Item(value, proof.expires_at)
        self._push(proof.expires_at, key, proof.subkey)
        return True

    def _refuse(self, key: bytes, until: float) -> None:
        known = key in self._refused
        if until > self._refused.get(key, 0.0) and (known or len(self._refused) < _MAX_REFUSED):
            self._refused[key] = until
            self._push(until, key, "")

    def _push(self, end: float, key: bytes, subkey: str) -> None:
        heapq.heappush(self._ends, (end, key, subkey))
        if len(self._ends) > 4 * (self._count + len(self._refused)) + _SLACK:
            # Records that were renewed leave ends behind; a busy signer could fill memory.
            self._ends = [
                (item.expires_at, held_key, held_subkey)
                for held_key, held in self._keys.items()
                for held_subkey, item in held.items()
            ]
            self._ends += [(until, refused, "") for refused, until in self._refused.items()]
            heapq.heapify(self._ends)

    def _drop_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            end, key, subkey = heapq.heappop(self._ends)
            if not subkey:
                if self._refused.get(key) == end:
                    del self._refused[key]
                continue
            held = self._keys.get(key, {})
            if subkey in held and held[subkey].expires_at == end:
                del held[subkey]
                self._count -= 1
                if not held:
                    del self._keys[key]
