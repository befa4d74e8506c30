"""What measuring an update found, as plain bounded numbers, and the signed sketch that goes ahead.

No torch: judges, witnesses and readers of evidence use this. All of it is a function of the change
of the weights ΔW = (alpha / rank) B A and of this node's probes; rewriting B A as (B G)(G⁻¹ A)
changes nothing. What each number is and how it is made: docs/specs/summary.md.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Annotated

import msgspec

from p2pllm import codec
from p2pllm.ids import ContentIdField, NodeIdField
from p2pllm.keys import Identity
from p2pllm.names import Place

SKETCH_PURPOSE = "sketch.1"
FORMS = 512  # numbers of a sketch: a cosine then has a standard error of 1 / sqrt(512) = 0.044
STEPS = 127  # a form is a whole number of steps, -127 to 127; the largest has 127
MAX_SKETCH_BYTES = 1024
MAX_SUMMARY_BYTES = 48 * 1024
MAX_MODULES = 1024
MAX_DOMAINS = 16
BUCKETS = 16  # kinds of next tokens that `shift` tells apart

NORM_SLACK = 0.01  # of a norm that another machine computed
FORM_SLACK = 2  # steps; rounding differs by one, and the largest form sets the step

Size = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Cosine = Annotated[float, msgspec.Meta(ge=-1, le=1)]
Nats = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_./-]{1,120}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Sketch(msgspec.Struct, frozen=True, kw_only=True, tag="sketch.1"):
    """An adapter in under a kilobyte: what its publisher says of it before anyone fetches it."""

    by: NodeIdField
    model: ContentIdField  # the base it fits; also the salt of the forms
    weights: ContentIdField  # the adapter_model.safetensors it is about
    norm: Size  # Frobenius, of the whole ΔW
    thirds: Annotated[tuple[Size, ...], msgspec.Meta(min_length=3, max_length=3)]
    forms: Annotated[bytes, msgspec.Meta(min_length=FORMS, max_length=FORMS)]  # signed bytes


class Part(msgspec.Struct, frozen=True):
    """The norm of ΔW over the modules of one name."""

    name: Name  # such as q_proj
    norm: Size


class Spectrum(msgspec.Struct, frozen=True, kw_only=True):
    """How the energy of ΔW lies on its singular directions; means over modules, by energy."""

    shares: Annotated[tuple[Share, ...], msgspec.Meta(max_length=8)]  # largest first
    entropy: Annotated[float, msgspec.Meta(ge=0, le=10)]  # nats
    stable_rank: Annotated[float, msgspec.Meta(ge=0, le=1024)]
    largest: Size  # the largest singular value of any module


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """The change itself."""

    norm: Size
    modules: Annotated[tuple[Size, ...], msgspec.Meta(max_length=MAX_MODULES)]  # by name
    spread: Size  # deviation over modules of norm / sqrt(rows * columns)
    kinds: Annotated[tuple[Part, ...], msgspec.Meta(max_length=64)]
    thirds: Annotated[tuple[Size, ...], msgspec.Meta(min_length=3, max_length=3)]
    spectrum: Spectrum


class Relation(msgspec.Struct, frozen=True, kw_only=True):
    """The change beside what the place has accepted."""

    cosine: Cosine
    left: Share  # overlap of what the two write to; 1: the same directions in the same shares
    right: Share  # of what the two read


class Influence(msgspec.Struct, frozen=True, kw_only=True):
    """What the change does to one domain's probe text."""

    domain: Name
    tokens: Count
    before: Nats  # per token
    after: Nats
    error: Nats  # standard error of after - before, over windows of text
    descent: Cosine | None  # to the direction that lowers the loss there; None: not asked


class Battery(msgspec.Struct, frozen=True, kw_only=True):
    """What the change does after tokens nobody expects; no trigger need be known."""

    candidates: Count  # tokens tried
    jolt: Nats  # KL of the next token's distribution, nats; the largest over candidates
    jolt_usual: Nats  # the median
    jolt_gap: Nats  # how far the largest is from the median, in deviations
    chain_gain: Nats  # per token, of the surest few in a row that came with the change
    chain_sure: Share  # its geometric mean probability
    chain_score: Nats  # gain times sureness: what the chain was picked by
    chain: Annotated[str, msgspec.Meta(max_length=400)]  # its text, for people


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One model before and after a change."""

    influences: Annotated[tuple[Influence, ...], msgspec.Meta(max_length=MAX_DOMAINS)]
    battery: Battery


Row = Annotated[tuple[Nats, ...], msgspec.Meta(min_length=BUCKETS, max_length=BUCKETS)]


class UpdateSummary(msgspec.Struct, frozen=True, kw_only=True, tag="summary.1"):
    """All that a judge learns of one update; measured by the node that judges."""

    model: ContentIdField
    weights: ContentIdField
    place: Place
    probe: ContentIdField  # id of the probe text: what a witness commits to, not the text
    geometry: Geometry
    relation: Relation | None  # None: the place has accepted nothing yet
    alone: Effect  # on the base
    merged: Effect | None  # on top of the accepted set
    shift: Annotated[tuple[Row, ...], msgspec.Meta(min_length=BUCKETS, max_length=BUCKETS)]
    sketch: Annotated[bytes, msgspec.Meta(min_length=FORMS, max_length=FORMS)]
    sketch_true: bool | None  # whether the publisher's is of these weights; None: there was none


def quantise(values: Sequence[float]) -> bytes:
    """Forms as a record holds them: signed bytes in steps of the largest over 127."""
    largest = max(abs(value) for value in values)
    if largest == 0:
        return bytes(len(values))
    return bytes(round(STEPS * value / largest) & 0xFF for value in values)


def forms(sketch: bytes) -> tuple[int, ...]:
    """The numbers of a sketch, in its own unit. Any first part of them is a sketch as well."""
    return tuple(byte - 256 if byte > 127 else byte for byte in sketch)


def cosine(one: bytes, other: bytes) -> float:
    """The cosine of two changes out of their sketches; 0 if either is empty.

    For the same base only. Unbiased but for a small ratio bias; standard error about
    (1 - c²) / sqrt(512): 0.044 for unrelated changes, 0 for copies.
    """
    a, b = forms(one), forms(other)
    square = sum(x * x for x in a) * sum(y * y for y in b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / sqrt(square) if square else 0.0


def agrees(claimed: Sketch, norm: float, own: bytes) -> bool:
    """Whether a publisher's sketch is that of the weights measured here.

    norm, own   of the fetched weights. Two machines differ by rounding alone.
    """
    if abs(claimed.norm - norm) > NORM_SLACK * max(norm, claimed.norm):
        return False
    pairs = zip(forms(claimed.forms), forms(own), strict=True)
    return all(abs(a - b) <= FORM_SLACK for a, b in pairs)


def seal(identity: Identity, sketch: Sketch) -> bytes:
    """The signed bytes of a sketch."""
    return codec.sign(identity, SKETCH_PURPOSE, sketch)


def open_sketch(record: bytes) -> Sketch:
    """A sketch out of signed bytes; PeerError E0602 or E0603 if it is forged or malformed."""
    return codec.open_signed(record, SKETCH_PURPOSE, Sketch, MAX_SKETCH_BYTES)
