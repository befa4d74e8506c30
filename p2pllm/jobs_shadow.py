"""What a change of a set does to text, document by document: asked and answered. docs/specs/gate.md

Text is divided once by a secret of the node, so that no publisher knows which of it decides: the
part that probes turns from round to round, what rests meanwhile is the anchor, and the reserve is
what a change on trial is looked at with.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm.job_fields import Bytes, Directory, LaidSet, Paths, Secret, Threads
from p2pllm.summary import Name, Nats

MAX_DOCUMENTS = 32  # of a text; two parts of so many take 13 s an update at 135 M parameters
EXCERPT = 64  # tokens of a document, somewhere in it
MAX_TEXTS = 16

Part = Literal["probes", "anchors", "live", "all"]


class Text(msgspec.Struct, frozen=True):
    """Documents of one kind, and which part of them."""

    name: Name
    data: Paths
    part: Part = "all"


class Scored(msgspec.Struct, frozen=True):
    """The gain of each document of a text, nats per token: before less after."""

    name: Name
    part: Part
    gains: Annotated[tuple[Nats, ...], msgspec.Meta(max_length=MAX_DOCUMENTS)]


Texts = Annotated[tuple[Text, ...], msgspec.Meta(max_length=MAX_TEXTS)]
Found = Annotated[tuple[Scored, ...], msgspec.Meta(max_length=MAX_TEXTS)]


def own_gains(found: Found) -> list[float]:
    """The gains of all documents of the place's own text, which come first, in two parts."""
    return [gain for one in found[:2] for gain in one.gains]


class ShadowJob(msgspec.Struct, frozen=True, kw_only=True, tag="shadow", tag_field="job"):
    """Lay one set on a base, then another, and score the same documents under both."""

    base_dir: Directory
    texts: Annotated[Texts, msgspec.Meta(min_length=1)]
    before: LaidSet
    after: LaidSet
    secret: Secret
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True, tag="shadow", tag_field="job"):
    """The texts in the order they were given; one without a usable document has no gains."""

    found: Found
    seconds: float
    peak_rss: int
