"""What happened, kept for a while and followed live: the one source of logs and event streams."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

from p2pllm.errors import P2pllmError, PeerError
from p2pllm.ids import NodeId

KEPT = 2000  # events remembered; a job's first and last are also in the database
Event = dict[str, Any]


class Events:
    """A bounded log of JSON-ready events, numbered from 1."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._last = 0
        self._more = trio.Event()
        self.refusals: Counter[str] = Counter()
        self.on_refusal: Callable[[NodeId], None] | None = None  # who gave us what we refused

    def emit(self, event: str, **fields: object) -> Event:
        """Record one event and wake whoever follows."""
        self._last += 1
        entry: Event = {"seq": self._last, "at": self._clock(), "event": event, **fields}
        self._events.append(entry)
        self._more.set()
        self._more = trio.Event()
        return entry

    def refuse(self, error: P2pllmError, peer: NodeId | None = None, **fields: object) -> None:
        """Record that something from outside was refused, and why; `peer` gave it to us."""
        self.refusals[error.code] += 1
        self.emit("refused", code=error.code, message=error.message, peer=peer, **fields)
        if peer is not None and isinstance(error, PeerError) and self.on_refusal is not None:
            self.on_refusal(peer)

    async def follow(self, after: int, beat_s: float) -> AsyncIterator[Event | None]:
        """Events numbered above `after`, as they come; None after every quiet `beat_s`."""
        while True:
            more = self._more
            for entry in [e for e in self._events if e["seq"] > after]:
                after = entry["seq"]
                yield entry
            with trio.move_on_after(beat_s) as quiet:
                await more.wait()
            if quiet.cancelled_caught:
                yield None
