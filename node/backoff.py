"""How long to wait before what failed is tried again: soon at first, then twice as long."""

import random
from collections.abc import Hashable
from typing import Generic, TypeVar

FIRST_S = 0.5
LONGEST_S = 30.0
HEALTHY_S = 60.0  # a child that lived this long starts again from the first wait
SPREAD = (
    0.25  # of a wait, more or less, by chance: those who failed together do not return together
)

K = TypeVar("K", bound=Hashable)


def pause(failed: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after so many failures in a row, the first of them counted."""
    wait = min(longest_s, first_s * 2.0 ** min(failed - 1, 60))
    return wait * random.uniform(1 - SPREAD, 1 + SPREAD)


class Backoff:
    """The waits of a child that dies: they start over after a healthy run."""

    def __init__(self) -> None:
        self._failed = 0
        self.restarts = 0

    def after(self, lived_s: float) -> float:
        """Seconds to wait after a child that lived this long."""
        self._failed = 1 if lived_s >= HEALTHY_S else self._failed + 1
        self.restarts += 1
        return pause(self._failed, FIRST_S, LONGEST_S)


class Retries(Generic[K]):
    """When each of several things that failed may be tried again, on a clock of the caller's."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._of: dict[K, tuple[int, float]] = {}  # failures in a row, and when it is due

    def due(self, key: K, now: float) -> bool:
        """Whether it may be tried."""
        return self._of.get(key, (0, now))[1] <= now

    def failed(self, key: K, now: float) -> None:
        """It failed once more."""
        count = self._of.get(key, (0, 0.0))[0] + 1
        self._of[key] = (count, now + pause(count, self._first_s, self._longest_s))

    def forget(self, key: K) -> None:
        """It worked, or there is a new reason to try it at once."""
        self._of.pop(key, None)

    def keep(self, keys: set[K]) -> None:
        """Remember nothing of any other."""
        self._of = {key: one for key, one in self._of.items() if key in keys}

    def next_at(self) -> float:
        """When the first of them is due; infinity if none waits."""
        return min((at for _, at in self._of.values()), default=float("inf"))
