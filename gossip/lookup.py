"""Which nodes to ask next for which keys: Kademlia's search for a batch of keys, without I/O.

Every node has a position, the hash of its id, which nobody can choose. A key is found once the
`WIDTH` nodes nearest to it that answer have answered. A node is asked once for all the keys it is
near to; one that fails gives up its place, so that dead or invented nodes hide nothing.
"""

import hashlib
from bisect import insort
from collections.abc import Iterable, Mapping
from functools import lru_cache

REPLICAS = 5  # nodes that keep a record
WIDTH = 8  # answers wanted a key: three more than there are replicas, for nodes that came or went
SILENT_S = 10.0  # for how long a node that failed is not asked again
PARALLEL = 4  # nodes asked at once a key, as nearer ones may turn up meanwhile
_KEEP = 64  # nearest nodes remembered a key, so that an answer cannot fill our memory


@lru_cache(maxsize=8192)
def position(node: bytes) -> int:
    """Where a node sits in the key space: SHA-1 of its binary peer id."""
    return int.from_bytes(hashlib.sha1(node, usedforsecurity=False).digest(), "big")


class Lookup:
    """One search. `next` says whom to ask what; `answered` and `failed` say what came of it."""

    def __init__(self, targets: Iterable[bytes], known: Iterable[bytes]) -> None:
        self._failed: set[bytes] = set()
        self._searches = {target: _Search(target) for target in targets}
        nodes = list(known)
        for search in self._searches.values():
            search.add(nodes)

    def next(self) -> dict[bytes, list[bytes]]:
        """The nodes to ask now, each with the keys to ask for. Empty: wait, or it is over."""
        fronts = {target: search.front() for target, search in self._searches.items()}
        asks: dict[bytes, list[bytes]] = {}
        for target, front in fronts.items():
            for node in self._searches[target].choose(front):
                asks[node] = []
        for target, front in fronts.items():
            search = self._searches[target]
            for node in asks.keys() & set(front) - search.asked:
                search.asked.add(node)
                asks[node].append(target)
        return asks

    def answered(self, node: bytes, near: Mapping[bytes, Iterable[bytes]]) -> None:
        """A node answered; for each key it was asked for, nodes it knows that are nearer."""
        for target, nodes in near.items():
            search = self._searches[target]
            search.answered.add(node)
            search.add(each for each in nodes if each not in self._failed)

    def failed(self, node: bytes) -> None:
        """A node did not answer, or not with sense."""
        self._failed.add(node)
        for search in self._searches.values():
            search.drop(node)

    def nearest(self, target: bytes) -> list[bytes]:
        """The nodes that answered for a key, the nearest first."""
        search = self._searches[target]
        return [node for _, node in search.near if node in search.answered]


class _Search:
    """The search for one key."""

    def __init__(self, target: bytes) -> None:
        self._target = int.from_bytes(target, "big")
        self._known: set[bytes] = set()
        self.near: list[tuple[int, bytes]] = []  # (distance, node), the nearest first
        self.asked: set[bytes] = set()
        self.answered: set[bytes] = set()

    def add(self, nodes: Iterable[bytes]) -> None:
        for node in nodes:
            if node not in self._known:
                self._known.add(node)
                insort(self.near, (position(node) ^ self._target, node))
        del self.near[_KEEP:]

    def drop(self, node: bytes) -> None:
        entry = (position(node) ^ self._target, node)
        if entry in self.near:
            self.near.remove(entry)

    def front(self) -> list[bytes]:
        return [node for _, node in self.near[:WIDTH]]

    def choose(self, front: list[bytes]) -> list[bytes]:
        waiting = sum(node in self.asked and node not in self.answered for node in front)
        fresh = [node for node in front if node not in self.asked]
        return fresh[: max(0, PARALLEL - waiting)]
