"""What nodes say to each other, apart from DHT records: the registry of tags and their limits.

| tag          | where                                | spec                   |
|--------------|--------------------------------------|------------------------|
| announce.1   | GossipSub topic of a place; catch-up | docs/specs/announce.md |
| news.1       | stream /p2pllm/news/1, asked         | docs/specs/announce.md |
| newslist.1   | stream /p2pllm/news/1, answered      | docs/specs/announce.md |
| heads.1      | stream /p2pllm/heads/1, asked        | docs/specs/heads.md    |
| headlist.1   | stream /p2pllm/heads/1, answered     | docs/specs/heads.md    |
| testimony.1  | stream /p2pllm/testimony/1, asked    | docs/specs/witness.md  |
| told.1       | stream /p2pllm/testimony/1, answered | docs/specs/witness.md  |
| sketchof.1   | stream /p2pllm/sketch/1, asked       | docs/specs/witness.md  |
| sketched.1   | stream /p2pllm/sketch/1, answered    | docs/specs/witness.md  |
| gains.1      | stream /p2pllm/gains/1, asked        | docs/specs/gate.md     |
| gainlist.1   | stream /p2pllm/gains/1, answered     | docs/specs/gate.md     |
| want.1       | stream /p2pllm/exchange/1, asked     | docs/specs/exchange.md |
| give.1       | stream /p2pllm/exchange/1, answered  | docs/specs/exchange.md |

A tag is never reused; a retired one stays here with the version that dropped it.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm.gains import MAX_GAIN_BYTES
from p2pllm.heads import MAX_HEAD_BYTES
from p2pllm.ids import ContentIdField, NodeIdField
from p2pllm.manifest import MAX_FILE_BYTES, MAX_TOTAL_BYTES, Kind
from p2pllm.names import NameField, Place

Time = Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds

ANNOUNCE_PURPOSE = "announce.1"
MAX_ANNOUNCE_BYTES = 1024
MAX_ANNOUNCE_TTL_S = 30 * 86400.0  # catch-up reaches back this far

EXCHANGE_PROTOCOL = "/p2pllm/exchange/1"
NEWS_PROTOCOL = "/p2pllm/news/1"
HEADS_PROTOCOL = "/p2pllm/heads/1"
TESTIMONY_PROTOCOL = "/p2pllm/testimony/1"
SKETCH_PROTOCOL = "/p2pllm/sketch/1"
GAINS_PROTOCOL = "/p2pllm/gains/1"
MAX_REQUEST_BYTES = 1024
MAX_TOLD = 64  # observations in one answer
MAX_RECORD_BYTES = 2048  # of one of them
MAX_TOLD_BYTES = MAX_TOLD * (MAX_RECORD_BYTES + 8) + 64
MAX_SKETCHED_BYTES = 2048
MAX_NEWS = 500  # announcements in one answer
MAX_NEWS_BYTES = 1024 * 1024
MAX_KEEPERS = 64  # nodes whose heads of one place are kept and told
MAX_HEADS_BYTES = 8 * 1024  # a question: 64 ids of at most 66 bytes, and a place
MAX_HEADLIST_BYTES = MAX_KEEPERS * (MAX_HEAD_BYTES + 8) + 64
MAX_GAINS = 16  # updates in one question: as many as a round judges
MAX_GAINS_BYTES = 2048  # 16 ids of at most 66 bytes, and a place
MAX_GAINLIST_BYTES = MAX_GAINS * (MAX_GAIN_BYTES + 8) + 64


class Announce(msgspec.Struct, frozen=True, kw_only=True, tag="announce.1"):
    """A publisher offers an update to a place. Signed as `announce.1`."""

    by: NodeIdField  # who made and signed the manifest, and this
    place: Place
    manifest: ContentIdField
    kind: Kind
    name: NameField
    model: ContentIdField
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOTAL_BYTES)]  # bytes to fetch, base apart
    created_at: Time
    expires_at: Time


class News(msgspec.Struct, frozen=True, kw_only=True, tag="news.1"):
    """What did you hear on this place's topic since then (answerer's clock)?"""

    place: Place
    since: Time


class NewsList(msgspec.Struct, frozen=True, kw_only=True, tag="newslist.1"):
    """Signed announcements as they were heard, oldest first; ask on from `until` while `more`."""

    announces: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_ANNOUNCE_BYTES)], ...],
        msgspec.Meta(max_length=MAX_NEWS),
    ]
    until: Time  # answerer's clock: up to here all was given
    more: bool = False


class HeadsAsked(msgspec.Struct, frozen=True, kw_only=True, tag="heads.1"):
    """Which heads of this place do you hold, but for these records, which I hold as well?"""

    place: Place
    known: Annotated[tuple[ContentIdField, ...], msgspec.Meta(max_length=MAX_KEEPERS)] = ()


class HeadList(msgspec.Struct, frozen=True, kw_only=True, tag="headlist.1"):
    """Signed heads as their keepers signed them, one a keeper."""

    heads: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_HEAD_BYTES)], ...],
        msgspec.Meta(max_length=MAX_KEEPERS),
    ]


class TestimonyAsked(msgspec.Struct, frozen=True, kw_only=True, tag="testimony.1"):
    """What did you yourself observe after this number of yours?"""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Told(msgspec.Struct, frozen=True, kw_only=True, tag="told.1"):
    """The answerer's own signed observations, in the order of their numbers."""

    records: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD_BYTES)], ...],
        msgspec.Meta(max_length=MAX_TOLD),
    ]


class SketchAsked(msgspec.Struct, frozen=True, kw_only=True, tag="sketchof.1"):
    """Which sketch did the publisher of this manifest sign?"""

    manifest: ContentIdField


class Sketched(msgspec.Struct, frozen=True, kw_only=True, tag="sketched.1"):
    """A signed sketch, as its publisher signed it; empty: none is here."""

    record: Annotated[bytes, msgspec.Meta(max_length=1024)] = b""


class GainsAsked(msgspec.Struct, frozen=True, kw_only=True, tag="gains.1"):
    """Do you keep this place, and what did these updates give text of yours?"""

    place: Place
    updates: Annotated[tuple[ContentIdField, ...], msgspec.Meta(max_length=MAX_GAINS)]


class GainList(msgspec.Struct, frozen=True, kw_only=True, tag="gainlist.1"):
    """The answerer's own signed numbers of the updates that it has measured."""

    keeps: bool  # it judges updates of the place on text of its own
    records: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=MAX_GAIN_BYTES)], ...],
        msgspec.Meta(max_length=MAX_GAINS),
    ] = ()


class Want(msgspec.Struct, frozen=True, kw_only=True, tag="want.1"):
    """Hand me `count` chunks of 1 MiB of this blob, from chunk `first` on (the last is shorter)."""

    blob: ContentIdField
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES // 2**20)]
    count: Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Give(msgspec.Struct, frozen=True, kw_only=True, tag="give.1"):
    """The answer to a want: `length` bytes follow at once, or none and why."""

    status: Literal["ok", "unknown", "refused", "busy"]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)] = 0  # of the whole blob
    length: Annotated[int, msgspec.Meta(ge=0, le=1024 * 2**20)] = 0  # bytes that follow
