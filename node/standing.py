"""What a peer's faults on the wire cost it in our eyes: points that fade; verdicts come on top."""

from collections.abc import Callable

from node.events import Events
from p2pllm.ids import NodeId

FAULT = 20.0  # points for bytes that do not match their name
HALF_LIFE_S = 3600.0
WORST = -100.0
MAX_PEERS = 10_000


class Faults:
    """Counts faults by peer; `score` is what the swarm asks for."""

    def __init__(self, events: Events, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: dict[NodeId, tuple[float, float]] = {}
        events.on_refusal = self.blame

    def blame(self, peer: NodeId) -> None:
        """This peer gave us something that breaks a rule."""
        now = self._clock()
        self._points[peer] = (self._left(peer, now) + FAULT, now)
        if len(self._points) > MAX_PEERS:
            del self._points[min(self._points, key=lambda who: self._left(who, now))]

    def score(self, peer: NodeId) -> float:
        """0 for a peer without faults, down to -100."""
        return max(WORST, -self._left(peer, self._clock()))

    def _left(self, peer: NodeId, now: float) -> float:
        points, when = self._points.get(peer, (0.0, now))
        return float(points * 0.5 ** ((now - when) / HALF_LIFE_S))
