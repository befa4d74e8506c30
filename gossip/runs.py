"""Which chunks of a blob to ask of whom next. No I/O, no clock; thread-safe.

Every missing chunk is handed out once, in runs of neighbours. When none is left, a peer that has
nothing to do is given chunks that another still owes, so that the slowest peer does not set the
end of a transfer; a chunk is asked of two peers at most.
"""

import threading
from collections import Counter, deque
from collections.abc import Hashable, Sequence

MOST_DOUBLED = 4  # chunks asked of a second peer at a time


class Runs:
    """The chunks still to come: waiting, or owed by a peer."""

    def __init__(self, missing: Sequence[int]) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(_neighbours(missing))
        self._left = set(missing)
        self._owed: dict[Hashable, list[int]] = {}  # by holder, in the order they will arrive

    def take(self, holder: Hashable, count: int) -> range | None:
        """A run of at most `count` chunks for `holder` to fetch; None if nothing is to be had."""
        with self._lock:
            run = self._next(holder, count) or self._double(holder, count)
            if run:
                self._owed.setdefault(holder, []).extend(run)
            return run

    def done(self, holder: Hashable, chunk: int) -> bool:
        """A chunk arrived from `holder`; False if it was here already."""
        with self._lock:
            self._owed[holder].remove(chunk)
            fresh = chunk in self._left
            self._left.discard(chunk)
            return fresh

    def drop(self, holder: Hashable) -> None:
        """`holder` gives nothing more: what it owed is for others."""
        with self._lock:
            owed = self._owed.pop(holder, [])
            others = {chunk for chunks in self._owed.values() for chunk in chunks}
            back = sorted(chunk for chunk in owed if chunk in self._left and chunk not in others)
            self._waiting.extendleft(reversed(_neighbours(back)))

    def left(self) -> int:
        """How many chunks have not arrived."""
        with self._lock:
            return len(self._left)

    def _next(self, holder: Hashable, count: int) -> range | None:
        if not self._waiting:
            return None
        sharing = len(self._owed.keys() | {holder})
        if sharing > 1:  # towards the end runs get shorter, so that all end together
            count = min(count, 1 + sum(map(len, self._waiting)) // (2 * sharing))
        run = self._waiting.popleft()
        if len(run) > count:
            self._waiting.appendleft(run[count:])
        return run[:count]

    def _double(self, holder: Hashable, count: int) -> range | None:
        """A run that one other peer owes and `holder` does not: the far half of the longest."""
        owed_by = Counter(chunk for chunks in self._owed.values() for chunk in chunks)
        mine = set(self._owed.get(holder, ()))
        best: list[int] = []
        for chunks in self._owed.values():
            free = [c for c in chunks if c in self._left and owed_by[c] == 1 and c not in mine]
            best = max(best, free, key=len)
        if not best:
            return None
        far = -(-len(best) // 2)  # who owes them comes from the near end
        return _neighbours(sorted(best)[-min(count, far, MOST_DOUBLED) :])[-1]


def _neighbours(chunks: Sequence[int]) -> list[range]:
    """The same chunks as ranges of consecutive numbers; `chunks` is in order."""
    runs: list[range] = []
    for chunk in chunks:
        if runs and runs[-1].stop == chunk:
            runs[-1] = range(runs[-1].start, chunk + 1)
        else:
            runs.append(range(chunk, chunk + 1))
    return runs
