"""How far a job of equal steps is, and how long the rest will take if it goes on so."""

import time
from collections.abc import Callable

from p2pllm.jobs import Progress

Step = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


def silent(_name: str, _done: int, _total: int) -> None:
    """Nobody is told."""


def stepping(stage: str, unit: str, say: Callable[[Progress], None]) -> Step:
    """Says each step of a stage that begins now, with the time left."""
    started = time.monotonic()

    def step(name: str, done: int, total: int) -> None:
        left = (time.monotonic() - started) / done * (total - done) if done else None
        say(Progress(stage=stage, message=name, done=done, total=total, unit=unit, eta_s=left))

    return step
