"""Puts and gets: each record at the five nodes nearest to its key, and read from the eight nearest.

Runs in the DHT process. Answers of other nodes are merged record by record; one bad record costs
its sender the whole answer, and nobody else anything.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from gossip.lookup import REPLICAS, SILENT_S, Lookup, position
from gossip.pipe import Entry, Held
from gossip.shelf import KEYS_A_CALL, Kept
from gossip.validator import is_alive, key_id
from p2pllm.errors import PeerError

if TYPE_CHECKING:
    from gossip.kademlia import Answer, Wire

MARKS = 2  # nodes that must say `more`: a crowded key has three at least, a liar is one
LIAR_S = 600.0  # for how long a node that offered a record no honest node keeps is not asked
QUIET_S = 1.5  # a search ends when only nodes never met are asked, and none answers for so long
UPKEEP_S = 300.0  # between looks at our own neighbourhood

Take = Callable[[bytes, Kept], Awaitable[None]]


class Replicas:
    """What the daemon asks of the DHT, done with calls to other nodes."""

    def __init__(self, wire: "Wire") -> None:
        self._wire = wire

    @property
    def known(self) -> int:
        """How many nodes the routing table holds."""
        return self._wire.known

    @property
    def refused(self) -> int:
        """How many calls of peers that asked too much this node has refused."""
        return self._wire.refused

    async def join(self, addresses: Iterable[str]) -> list[str]:
        """Meet these nodes and, through them, our neighbours; which of these answered."""
        alone = not self._wire.known
        peers: dict[str, list[str]] = {}
        for address in addresses:
            transport, _, peer = address.rpartition("/p2p/")
            peers.setdefault(peer, []).append(transport)
        dials = (self._wire.dial(peer, where) for peer, where in peers.items())
        met = [peer for peer, ok in zip(peers, await asyncio.gather(*dials), strict=True) if ok]
        await self._look_around()
        if alone and self._wire.known:
            self._wire.spawn(self._spread())
        return met

    async def put(self, entries: Sequence[Entry]) -> list[bool]:
        """Store each record at its replicas; True where no more of them refused it than kept it."""
        return await self._place([(key_id(entry.key), entry.value) for entry in entries])

    async def get(self, keys: Sequence[str]) -> list[Held]:
        """What this node and the nodes nearest to each key keep under it, merged."""
        targets = [key_id(key) for key in keys]
        latest: dict[bytes, dict[str, tuple[float, bytes]]] = {target: {} for target in targets}
        marks: Counter[bytes] = Counter()
        now = time.time()

        async def take(target: bytes, kept: Kept) -> None:
            good = await self._live(target, kept, now)
            marks[target] += kept.more
            best = latest[target]
            for subkey, record in good:
                best[subkey] = max(record, best.get(subkey, record))

        for target in latest:
            await take(target, self._wire.shelf.get(target, now))
            marks[target] *= MARKS  # our own word is enough
        await self._find(list(latest), take)
        return [
            Held(
                values=tuple(value for _, value in latest[target].values()),
                more=marks[target] >= MARKS,
            )
            for target in targets
        ]

    async def keep_up(self) -> None:
        """Look around for ever, so that the routing table follows who comes and goes."""
        while True:
            await asyncio.sleep(UPKEEP_S)
            self._wire.sweep()
            await self._look_around()

    async def _look_around(self) -> None:
        # Our own place, to know our neighbours, and far ones, to know somebody everywhere.
        far = [os.urandom(20) for _ in range(KEYS_A_CALL - 1)]
        await self._find([key_of(self._wire.me), *far])

    async def _live(
        self, key: bytes, kept: Kept, now: float
    ) -> list[tuple[str, tuple[float, bytes]]]:
        # All or nothing: PeerError if one record is such as no honest node keeps.
        live = []
        for count, value in enumerate(kept.records):
            if count % 64 == 63:
                await asyncio.sleep(0)  # 0.1 ms each, the first time a record is seen
            proof = self._wire.validator.prove(value, key)
            if is_alive(proof, now):
                live.append((proof.subkey, (proof.expires_at, value)))
        return live

    async def _find(self, targets: Sequence[bytes], take: Take | None = None) -> Lookup:
        """Ask the nodes nearest to the targets, and hand what they keep to `take`."""
        known = {node for target in targets for node in self._wire.neighbours(target)}
        lookup = Lookup(targets, known)
        pending: dict[asyncio.Task[bool], bytes] = {}
        answered_at = time.monotonic()
        try:
            while True:
                for node, keys in lookup.next().items():
                    task = asyncio.create_task(self._query(lookup, node, keys, take))
                    pending[task] = node
                if not pending:
                    return lookup
                done, _ = await asyncio.wait(
                    pending,
                    timeout=self._patience(pending.values(), answered_at),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    for node in pending.values():
                        self._wire.hush(node, SILENT_S)
                    return lookup
                if any(task.result() for task in done):
                    answered_at = time.monotonic()
                pending = {task: node for task, node in pending.items() if task not in done}
        finally:
            for task in pending:
                task.cancel()

    def _patience(self, nodes: Iterable[bytes], answered_at: float) -> float | None:
        # One lying node can name any number of others that do not exist.
        if any(self._wire.has_met(node) for node in nodes):
            return None
        return max(0.0, answered_at + QUIET_S - time.monotonic())

    async def _query(
        self, lookup: Lookup, node: bytes, keys: Sequence[bytes], take: Take | None
    ) -> bool:
        for start in range(0, len(keys), KEYS_A_CALL):
            answers = await self._wire.find(node, keys[start : start + KEYS_A_CALL])
            if answers is None or not await self._took(node, answers, take):
                lookup.failed(node)
                return False
            lookup.answered(node, {key: answer.near for key, answer in answers.items()})
        return True

    async def _took(self, node: bytes, answers: "dict[bytes, Answer]", take: Take | None) -> bool:
        try:
            for key, answer in answers.items():
                if take is not None and answer.kept is not None:
                    await take(key, answer.kept)
        except PeerError:
            self._wire.hush(node, LIAR_S)
            return False
        return True

    async def _place(self, items: Sequence[tuple[bytes, bytes]]) -> list[bool]:
        """Put records, given with their key ids, at their replicas; True where enough kept them."""
        # Asked for the id beside a key, nodes name their neighbours and send no records.
        beside = {key: key[:-1] + bytes([key[-1] ^ 1]) for key, _ in items}
        lookup = await self._find(list(set(beside.values())))
        queues = [self._by_distance(key, lookup.nearest(beside[key])) for key, _ in items]
        accepted, refused = [0] * len(items), [0] * len(items)
        while True:
            rounds: dict[bytes, list[int]] = {}
            for index, queue in enumerate(queues):
                for _ in range(REPLICAS - accepted[index] - refused[index]):
                    if queue:
                        rounds.setdefault(queue.pop(), []).append(index)
            if not rounds:
                return [yes >= max(no, 1) for yes, no in zip(accepted, refused, strict=True)]
            asked = [
                self._store(node, [items[index] for index in indices])
                for node, indices in rounds.items()
            ]
            for indices, answer in zip(rounds.values(), await asyncio.gather(*asked), strict=True):
                for index, ok in zip(indices, answer or (), strict=False):
                    accepted[index] += ok
                    refused[index] += not ok

    def _by_distance(self, key: bytes, nodes: Iterable[bytes]) -> list[bytes]:
        # The farthest first, so that `pop` gives the nearest; this node is one of them.
        target = int.from_bytes(key, "big")
        return sorted(
            [*nodes, self._wire.me], key=lambda node: position(node) ^ target, reverse=True
        )

    async def _store(self, node: bytes, items: Sequence[tuple[bytes, bytes]]) -> list[bool] | None:
        if node == self._wire.me:
            return self._wire.shelf.keep(items, time.time())
        return await self._wire.store(node, items)

    async def _spread(self) -> None:
        """Put everything kept here where it belongs, now that there are others."""
        for key in self._wire.shelf.key_ids():
            await self._place([(key, value) for value in self._wire.shelf.values(key)])


def key_of(node: bytes) -> bytes:
    """The key id at a node's own position."""
    return position(node).to_bytes(20, "big")
