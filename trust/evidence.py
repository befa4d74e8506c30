"""Observations: what a node saw of an update, signed, and chained to what it said before.

One observation an observer, update and epoch. Each names the one before it by content id, so an
observer that tells different nodes different things has signed two that cannot both be in one
chain, and those two are a proof that needs no trust. Format: docs/specs/evidence.md.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec

from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeId, NodeIdField, content_id
from p2pllm.keys import Identity
from p2pllm.names import Place

PURPOSE = "observation.1"
MAX_OBSERVATION_BYTES = 2048  # relayed to nodes that did not ask for it
MAX_REASONS = 16
FIRST = ContentId("0" * 64)  # what the first observation of a chain names as the one before

Code = Annotated[str, msgspec.Meta(pattern=r"\A[a-z_]{1,24}\Z")]
Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class Shown(msgspec.Struct, frozen=True):
    """A number that decided, beside the limit it was held against."""

    code: Code
    value: Number
    limit: Number


class Observation(msgspec.Struct, frozen=True, kw_only=True, tag="observation.1"):
    """What one node decided about one update, and on which numbers. Signed as `observation.1`."""

    by: NodeIdField  # the observer
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # 1, 2, 3, … of this observer
    before: ContentIdField  # the whole signed record with seq - 1; FIRST for seq 1
    subject: NodeIdField  # who signed the update
    update: ContentIdField  # content id of its manifest
    place: Place
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    verdict: Literal["accept", "hold", "reject"]
    features: ContentIdField  # of the encoded features, which stay with the observer
    probe: ContentIdField  # commitment: BLAKE3 of a secret and the ids of the probe's documents
    reasons: Annotated[tuple[Shown, ...], msgspec.Meta(max_length=MAX_REASONS)] = ()
    observed_at: Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds, observer's clock

    def __post_init__(self) -> None:
        if (self.seq == 1) != (self.before == FIRST):
            raise ValueError("only the first observation of a chain has none before it")


def seal(identity: Identity, observation: Observation) -> bytes:
    """The signed bytes of an observation."""
    return codec.sign(identity, PURPOSE, observation)


def open_observation(record: bytes) -> Observation:
    """An observation out of signed bytes; PeerError E0602 or E0603 if forged or malformed."""
    return codec.open_signed(record, PURPOSE, Observation, MAX_OBSERVATION_BYTES)


def check_chain(records: Sequence[bytes], before: ContentId = FIRST) -> list[Observation]:
    """One observer's observations in order, each checked and linked to the last.

    before  content id of the record that the first of these must follow
    Raises PeerError E0602 or E0603, also for a gap, a fork, or a second observer.
    """
    chain: list[Observation] = []
    for record in records:
        one = open_observation(record)
        last = chain[-1] if chain else one
        in_order = not chain or (one.by == last.by and one.seq == last.seq + 1)
        if one.before != before or not in_order:
            raise PeerError("E0603", f"observation {one.seq} of {one.by} breaks its chain")
        chain.append(one)
        before = content_id(record)
    return chain


def equivocates(one: bytes, other: bytes) -> NodeId | None:
    """Who signed two different observations that cannot both be true of one chain; else None.

    That is: one observer and two records with one `seq`, or two different verdicts on one
    update and epoch. Raises PeerError if a record is forged or malformed: then it proves nothing.
    """
    a, b = open_observation(one), open_observation(other)
    if a.by != b.by or one == other:
        return None
    twice = (a.subject, a.update, a.place, a.epoch) == (b.subject, b.update, b.place, b.epoch)
    return a.by if a.seq == b.seq or (twice and a.verdict != b.verdict) else None


def latest(observations: Iterable[Observation]) -> list[Observation]:
    """Of each observer's observations of each update the one with the highest `seq`."""
    newest: dict[tuple[NodeId, NodeId, ContentId], Observation] = {}
    for one in sorted(observations, key=lambda one: (one.seq, codec.encode(one))):
        newest[one.by, one.subject, one.update] = one
    return [newest[key] for key in sorted(newest)]
