"""The index of who has what: signed records put under their keys, and searched again.

A key that many records share is a tree: a node that already keeps enough records under a key
refuses the next, which goes one level down, to the shard that the hash of its sub-key names; and
says so to whoever reads. docs/specs/dht.md has the arithmetic. Nothing is taken on trust from the
DHT: every record is verified here, and of two under one sub-key the later counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Generic, TypeVar

import msgspec
import trio

from gossip.dht import Dht
from gossip.pipe import MAX_KEYS, Entry
from gossip.validator import MAX_DEPTH, children, shard_key, shard_path
from p2pllm import advert
from p2pllm.advert import Advert, Presence, Provider, Record
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import ContentId, NodeId, content_id
from p2pllm.keys import Identity
from p2pllm.query import Query, keys_for, matches

MAX_READS = 1024  # keys one search reads; three levels of one tree are 273 keys and 70,000 adverts
MAX_HELD = 20_000  # records that match, about 2 KB each: 40 MB in the daemon
MAX_PROVIDERS = 64  # a fetch uses a few; more of a popular model are left where they are
RENEW_S = 20 * 60.0  # a publisher renews at least so often, or records below full keys are lost
TOMBSTONE_S = 1.0  # a withdrawal outlives what it withdraws
_BREATH = 64  # records verified, 10 ms, before other tasks have a turn

R = TypeVar("R", Advert, Provider, Presence)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search came to."""

    adverts: tuple[Advert, ...]  # of at most `limit` models, the newest model first
    complete: bool  # False: more may match than is here


async def publish(dht: Dht, identity: Identity, record: Record, now: float) -> None:
    """Sign a record and put it under all its keys.

    Raises Unavailable E0904 if it could not be put under every key.
    """
    assert now < record.expires_at
    value, subkey = advert.seal(identity, record), advert.subkey_of(record)
    starts = {
        key: first_level(dht.levels.get((key, subkey), 0), value) for key in advert.keys_of(record)
    }
    await _put(dht, value, subkey, starts)


async def withdraw(dht: Dht, identity: Identity, record: Advert | Provider, now: float) -> None:
    """Put a tombstone in the place of a record that was published."""
    expires_at = max(record.expires_at, now) + TOMBSTONE_S
    tombstone = msgspec.structs.replace(
        record, withdrawn=True, issued_at=now, expires_at=expires_at
    )
    # From the top: wherever the record stands, no search may meet it before its tombstone.
    starts = dict.fromkeys(advert.keys_of(record), 0)
    await _put(dht, advert.seal(identity, tombstone), advert.subkey_of(record), starts)


def first_level(last: int, value: bytes) -> int:
    """Where a renewal begins, if level `last` took the record before: above it, seldom far above.

    Were every renewal to begin at the top, the nodes there would be asked by all publishers. Each
    level further up is tried by one renewal in sixteen, by chance that the record's hash decides.
    """
    zeros = next((at for at, digit in enumerate(content_id(value)) if digit != "0"), 0)
    return max(0, last - 1 - zeros)


async def _put(dht: Dht, value: bytes, subkey: str, starts: dict[str, int]) -> None:
    """Put a record under each key, at the first level from its start on that takes it."""
    path, left = shard_path(subkey), list(starts)
    for level in range(MAX_DEPTH + 1):
        keys = [key for key in left if starts[key] <= level]
        if not keys:
            continue
        entries = [Entry(key=shard_key(key, path[:level]), value=value) for key in keys]
        stored = await dht.put(entries)
        for key, ok in zip(keys, stored, strict=True):
            if ok:
                dht.levels[key, subkey] = level
                left.remove(key)
    if left:
        raise Unavailable(
            "E0904",
            f"no node would keep a record under {len(left)} of its keys",
            why=[f"first of them: {left[0]}", "the keys are full, or this machine's clock is off"],
            fix=["check the clock; it is tried again by itself"],
        )


async def find(dht: Dht, query: Query, now: float) -> Found:
    """The live adverts that match, exactly, and whether they are all there are."""

    def enough(live: list[Advert]) -> bool:
        return len({each.manifest for each in live}) >= query.limit

    wanted = Wanted(Advert, partial(matches, query), enough)
    live, complete = await _read(dht, keys_for(query), wanted, now)
    best = sorted(live, key=lambda each: (-each.created_at, each.manifest, each.by))
    models = list(dict.fromkeys(each.manifest for each in best))
    kept = set(models[: query.limit])
    return Found(
        adverts=tuple(each for each in best if each.manifest in kept),
        complete=complete and len(kept) == len(models),
    )


async def search(dht: Dht, query: Query, now: float) -> list[Advert]:
    """The live adverts that match a query, of at most `query.limit` models."""
    return list((await find(dht, query, now)).adverts)


async def providers(dht: Dht, what: ContentId, now: float) -> list[Provider]:
    """Nodes that say they hand out a manifest, or a base by its model id."""
    wanted = Wanted(
        Provider, lambda each: each.what == what, lambda live: len(live) >= MAX_PROVIDERS
    )
    live, _ = await _read(dht, [advert.provider_key(what)], wanted, now)
    return sorted(live, key=lambda each: (-each.issued_at, each.by))


async def presence(dht: Dht, node: NodeId, now: float) -> Presence | None:
    """The latest that a node said of its being up, if it is."""
    wanted = Wanted(Presence, lambda each: each.by == node, bool)
    live, _ = await _read(dht, [advert.presence_key(node)], wanted, now)
    return live[0] if live else None


@dataclass(frozen=True)
class Wanted(Generic[R]):
    """What a reader looks for, and when it has enough."""

    kind: type[R]
    matches: Callable[[R], bool]
    enough: Callable[[list[R]], bool]


async def _read(
    dht: Dht, keys: Sequence[str], wanted: Wanted[R], now: float
) -> tuple[list[R], bool]:
    """The latest live record under each sub-key, read level by level until there are enough.

    Also says whether nothing was left unread.
    """
    latest: dict[str, R] = {}
    level, reads, full = [(key, "") for key in keys], 0, False
    while level and reads < MAX_READS and not full:
        batch, level = level[:MAX_KEYS], level[MAX_KEYS:]
        reads += len(batch)
        found = await dht.get([shard_key(key, path) for key, path in batch])
        for key, path in batch:
            held = found[shard_key(key, path)]
            await _take(latest, held.values, wanted, now)
            if held.more and len(path) < MAX_DEPTH:
                level.extend((key, child) for child in children(path))
        full = len(latest) >= MAX_HELD or (bool(level) and wanted.enough(_live(latest)))
    return _live(latest), not level


async def _take(
    latest: dict[str, R], values: Iterable[bytes], wanted: Wanted[R], now: float
) -> None:
    for count, value in enumerate(values):
        if count % _BREATH == _BREATH - 1:
            await trio.lowlevel.checkpoint()
        record = _opened(value, now)
        if not isinstance(record, wanted.kind) or not wanted.matches(record):
            continue
        subkey = advert.subkey_of(record)
        rival = latest.get(subkey)
        if rival is None or _age(record) > _age(rival):
            latest[subkey] = record


def _live(latest: dict[str, R]) -> list[R]:
    return [each for each in latest.values() if not getattr(each, "withdrawn", False)]


def _age(record: Record) -> tuple[float, bool]:
    # Of two that end together the tombstone counts.
    return record.expires_at, getattr(record, "withdrawn", False)


def _opened(value: bytes, now: float) -> Record | None:
    try:
        record = _verified(value)
        advert.check_alive(record.expires_at, now)
    except PeerError:
        return None
    return record


@lru_cache(maxsize=4096)  # 8 MB; a signature costs 0.1 ms, and the same records come again
def _verified(value: bytes) -> Record:
    return advert.verify_record(value)
