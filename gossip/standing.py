"""What a peer's conduct on the gossip wire costs it: decaying points, and one score for the router.

score = what node thinks of the peer (its `score` callable, -100 to +10) - points for conduct.
Thresholds and their reasons: docs/specs/announce.md.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from p2pllm.ids import NodeId

logger = logging.getLogger(__name__)

# Points for conduct. One fault may be an accident of versions; five within minutes are not.
REJECTED = 10.0  # relayed a message that no honest node relays
MALFORMED = 20.0  # bytes that are no RPC, or one that GossipSub's own limits forbid
EXCESS = 1.0  # more control messages than an honest router sends
HALF_LIFE_S = 600.0

# A peer whose score is below …
MESH = -15.0  # … is not in our mesh
GOSSIP = -20.0  # … is neither told what we have nor asked for what it has
PUBLISH = -30.0  # … is not listened to
GRAYLIST = -50.0  # … is ignored in everything it sends
LOWEST = -100.0  # a score that cannot be computed counts as this: no score is no trust
HIGHEST = 10.0  # so that no trust earned elsewhere buys more than one rejected message

COMPLAIN_S = 60.0  # the router asks every second; the log needs it less often
_MAX_COUNTED = 10_000  # peers; about 2 MB
_FORGIVEN = 0.5  # points; fewer are none


class Standing:
    """Scores of peers: conduct remembered across reconnects, and node's opinion made total."""

    def __init__(self, opinion: Callable[[NodeId], float]) -> None:
        self._opinion = opinion
        self._points: OrderedDict[NodeId, tuple[float, float]] = OrderedDict()  # points, when
        self._complained_at = -math.inf

    def charge(self, peer: NodeId, points: float, now: float) -> None:
        """Count a fault against a peer. `now` is seconds on any clock that only goes forward."""
        total = self.points(peer, now) + points
        self._points.pop(peer, None)
        self._points[peer] = (total, now)
        while len(self._points) > _MAX_COUNTED:
            self._points.popitem(last=False)

    def points(self, peer: NodeId, now: float) -> float:
        """What is left of this peer's faults; half of it goes every ten minutes."""
        if peer not in self._points:
            return 0.0
        points, when = self._points[peer]
        left: float = points * 0.5 ** ((now - when) / HALF_LIFE_S)
        if left < _FORGIVEN:
            del self._points[peer]
            return 0.0
        return left

    def score(self, peer: NodeId, now: float) -> float:
        """This peer's score, always a finite number; higher is better, 0 is unknown."""
        return self._opinion_of(peer, now) - self.points(peer, now)

    def _opinion_of(self, peer: NodeId, now: float) -> float:
        # The callable is node's, fed by trust: a fault in it must not pass for a neutral opinion,
        # which is what py-libp2p makes of one, nor end the swarm.
        try:
            opinion = float(self._opinion(peer))
        except Exception:  # noqa: BLE001  total by contract, whatever the callable does
            self._complain(peer, "raised", now)
            return LOWEST
        if math.isnan(opinion):
            self._complain(peer, "is not a number", now)
            return LOWEST
        return min(max(opinion, LOWEST), HIGHEST)

    def _complain(self, peer: NodeId, what: str, now: float) -> None:
        if now - self._complained_at < COMPLAIN_S:
            return
        self._complained_at = now
        fault = what == "raised"
        logger.error("the score of %s %s; it counts as %.0f", peer, what, LOWEST, exc_info=fault)


class Allowance(msgspec.Struct):
    """A token bucket: how much a peer may send now, and how long it must wait for more."""

    rate: float  # units a second, for ever
    burst: float  # units at once
    left: float
    at: float  # seconds, when `left` was true

    def spend(self, units: float, now: float) -> float:
        """Take units; the seconds to wait before the next are 0 unless the bucket is overdrawn."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate) - units
        self.at = now
        return max(0.0, -self.left / self.rate)


class Allowances:
    """What each peer may still ask of us; bounded, the one that asked longest ago forgotten."""

    def __init__(self, rate: float, burst: float, most: int = 4096) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._of: OrderedDict[NodeId, Allowance] = OrderedDict()

    def spend(self, peer: NodeId, units: float, now: float) -> float:
        """Take units of a peer's; the seconds it must wait are 0 unless it asks too much."""
        new = Allowance(self._rate, self._burst, self._burst, now)
        allowance = self._of.pop(peer, new)
        self._of[peer] = allowance
        while len(self._of) > self._most:
            self._of.popitem(last=False)
        return allowance.spend(units, now)

    def admit(self, peer: NodeId, units: float, patience: float, now: float) -> float | None:
        """Take units of a peer's; the seconds it must wait for them.

        None, and nothing is taken, if that is longer than `patience`, so that who asks much too
        much is answered again as soon as it stops.
        """
        wait = self.spend(peer, units, now)
        if wait <= patience:
            return wait
        self.spend(peer, -units, now)
        return None
