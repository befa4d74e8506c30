"""A little disk set aside, so that a full one can be made room on: to remove is to write, too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pllm.durable import allocate

SIZES = tuple(1024 * 1024 >> halvings for halvings in range(5))  # bytes; the most that there is


def reserve_of(home: Path) -> "Reserve":
    """The one of a home."""
    return Reserve(home / "reserve")


class Reserve:
    """A file that holds nothing, gone while something is removed. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lent = 0

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Its room is free for what happens inside, and taken again after."""
        self._lent += 1
        self.give_up()
        try:
            yield
        finally:
            self._lent -= 1
            if not self._lent:
                self.set_aside()

    def give_up(self) -> None:
        """Free the room; a folder that is read-only tells itself of what comes next."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Take as much room as there is, up to a MiB, unless it is taken."""
        for size in SIZES:
            try:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError:  # it is there, or nothing can be written: all the same here
                return
            try:
                allocate(fd, size)
                return
            except OSError:
                self.give_up()
            finally:
                os.close(fd)
