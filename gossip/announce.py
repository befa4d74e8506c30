"""Which announcements may pass: pure rules, bytes and a time in, a verdict out.

Wire format, the rules and their reasons: docs/specs/announce.md.
"""

from collections import OrderedDict
from typing import Literal

import msgspec

from gossip.messages import (
    ANNOUNCE_PURPOSE,
    MAX_ANNOUNCE_BYTES,
    MAX_ANNOUNCE_TTL_S,
    Announce,
)
from p2pllm import codec
from p2pllm.advert import CLOCK_SLACK_S
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, NodeId
from p2pllm.keys import Identity
from p2pllm.names import Place, parse_place

Verdict = Literal["accept", "reject", "ignore"]
Why = Literal[
    "new", "size", "malformed", "forged", "place", "lifetime", "clock", "expired", "known", "rate"
]

TOPIC_PREFIX = "p2pllm/1/"
RENEW_S = 86400.0  # the same manifest may be announced again this much later, not earlier
MAX_PER_PUBLISHER_HOUR = 60  # a publisher that tunes all day announces far less
MAX_REMEMBERED = 100_000  # announcements; about 30 MB
MAX_PUBLISHERS = 10_000  # whose rate is counted

_Key = tuple[NodeId, Place, ContentId]


class Judged(msgspec.Struct, frozen=True):
    """A verdict on one announcement, why, and what it says if it was well formed."""

    verdict: Verdict
    why: Why
    announce: Announce | None = None


def topic_of(place: Place) -> str:
    """The GossipSub topic of a place: 'p2pllm/1/en/medical'."""
    return TOPIC_PREFIX + str(place)


def place_of(topic: str) -> Place:
    """The place whose topic this is; PeerError E0611 if it is the topic of none."""
    if topic.startswith(TOPIC_PREFIX) and len(topic) <= len(TOPIC_PREFIX) + 80:
        try:
            place = parse_place(topic[len(TOPIC_PREFIX) :])
        except LocalError as bad:
            raise PeerError("E0611", f"not the topic of a place: {topic[:120]!r}") from bad
        if topic_of(place) == topic:
            return place
    raise PeerError("E0611", f"not the topic of a place: {topic[:120]!r}")


def seal(identity: Identity, announce: Announce) -> bytes:
    """The signed bytes of an announcement, at most 1,024."""
    raw = codec.sign(identity, ANNOUNCE_PURPOSE, announce)
    assert len(raw) <= MAX_ANNOUNCE_BYTES
    return raw


def open_announce(raw: bytes) -> Announce:
    """An announcement out of signed bytes, whatever its times.

    Raises PeerError E0603 (malformed), E0602 (forged) or E0611 (too long, or a lifetime that
    breaks the rules).
    """
    if len(raw) > MAX_ANNOUNCE_BYTES:
        raise PeerError("E0611", f"announce.1 of {len(raw)} bytes, at most {MAX_ANNOUNCE_BYTES}")
    announce = codec.open_signed(raw, ANNOUNCE_PURPOSE, Announce, MAX_ANNOUNCE_BYTES)
    if not 0 < announce.expires_at - announce.created_at <= MAX_ANNOUNCE_TTL_S:
        raise PeerError("E0611", f"announce.1 lives 0 to {MAX_ANNOUNCE_TTL_S:.0f} s, not this one")
    return announce


class AnnounceRules:
    """What was announced already, and so what is new. No I/O, no clock."""

    def __init__(self) -> None:
        # Oldest first; a renewal moves to the end.
        self._known: OrderedDict[_Key, Announce] = OrderedDict()
        # Publisher -> (start of the hour that is counted, announcements in it).
        self._rates: OrderedDict[NodeId, tuple[float, int]] = OrderedDict()

    def judge(self, raw: bytes, topic: str, now: float) -> Judged:
        """Accept what is new and sound; reject what no honest node relays; ignore the rest.

        An accepted announcement is remembered, so the same bytes are ignored from then on. What
        depends on a clock, or on what happened to reach us, is ignored and never rejected: a node
        whose clock is wrong must not bring down those who relay for it.
        """
        if len(raw) > MAX_ANNOUNCE_BYTES:
            return Judged("reject", "size")
        try:
            announce = open_announce(raw)
        except PeerError as bad:
            return Judged("reject", _WHY[bad.code])
        if topic != topic_of(announce.place):
            return Judged("reject", "place", announce)
        if announce.expires_at <= now:
            return Judged("ignore", "expired", announce)
        if announce.created_at > now + CLOCK_SLACK_S:
            return Judged("ignore", "clock", announce)
        known = self._known.get(_key(announce))
        if known is not None and announce.created_at < known.created_at + RENEW_S:
            return Judged("ignore", "known", announce)
        if not self._within_rate(announce.by, now):
            return Judged("ignore", "rate", announce)
        self.remember(announce)
        return Judged("accept", "new", announce)

    def remember(self, announce: Announce) -> None:
        """Take this announcement as known, such as one read back from disk after a restart."""
        key = _key(announce)
        self._known.pop(key, None)
        self._known[key] = announce
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def _within_rate(self, publisher: NodeId, now: float) -> bool:
        start, count = self._rates.pop(publisher, (now, 0))
        if not start <= now < start + 3600:
            start, count = now, 0
        self._rates[publisher] = (start, min(count + 1, MAX_PER_PUBLISHER_HOUR + 1))
        while len(self._rates) > MAX_PUBLISHERS:
            self._rates.popitem(last=False)
        return count < MAX_PER_PUBLISHER_HOUR


_WHY: dict[str, Why] = {"E0602": "forged", "E0603": "malformed", "E0611": "lifetime"}


def _key(announce: Announce) -> _Key:
    return announce.by, announce.place, announce.manifest
