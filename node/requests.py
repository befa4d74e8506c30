"""What people ask of the control API, each a typed request: unknown or bad fields are refused."""

from typing import Annotated, Any, Literal

import msgspec

from p2pllm.errors import LocalError, in_words
from p2pllm.job_fields import EVAL_TOKENS
from p2pllm.jobs_files import Bits, Format, Method
from p2pllm.names import TAG
from p2pllm.query import Limit

Text = Annotated[str, msgspec.Meta(max_length=4096)]
_SPDX = r"\(*[A-Za-z0-9.+-]+\)*"  # a name, or an expression of them
Licence = Annotated[
    str, msgspec.Meta(pattern=rf"\A(?:{_SPDX}(?: (?:AND|OR|WITH) {_SPDX})*)?\Z", max_length=100)
]
Tag = Annotated[str, msgspec.Meta(pattern=rf"\A(?:{TAG})?\Z")]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request; a misspelt field is an error, never silently ignored."""


class ImportRequest(Request, frozen=True, kw_only=True, tag="import", tag_field="kind"):
    """Bring a base model in."""

    source: Text
    name: Text = ""
    lang: Text = "en"
    licence: Licence = ""


class Training(Request, frozen=True, kw_only=True):
    """What may be chosen of every training of an adapter; the job knows what None means."""

    rank: int | None = None
    steps: int | None = None
    lr: float | None = None
    batch: int | None = None
    seq: int | None = None
    seed: int | None = None
    threads: int | None = None
    licence: Licence = ""


class TuneRequest(Training, frozen=True, kw_only=True, tag="tune", tag_field="kind"):
    """Train an adapter on text of ours."""

    base: Text
    data: list[Text]
    place: Text
    name: Text
    eval_data: list[Text] = []
    start: Text = ""
    alpha: float | None = None


class DistillRequest(Training, frozen=True, kw_only=True, tag="distill", tag_field="kind"):
    """Teach a smaller base what a larger model knows of text of ours."""

    teacher: Text
    student: Text
    data: list[Text]
    place: Text
    name: Text
    eval_data: list[Text] = []
    alpha: float | None = None
    hard: float | None = None


class MergeRequest(Request, frozen=True, kw_only=True, tag="merge", tag_field="kind"):
    """Make one adapter out of several, out of a place's accepted ones, or out of a foreign one."""

    what: list[Text] = []  # references, or whole paths of folders
    weights: list[float] = []  # as many, or none
    head: Text = ""  # a place, instead
    base: Text = ""
    place: Text = ""
    name: Text
    residual: Text = ""
    method: Method | None = None
    energy: float | None = None
    rank: int | None = None
    density: float | None = None
    seed: int | None = None
    threads: int | None = None
    licence: Licence = ""


class QuantiseRequest(Request, frozen=True, kw_only=True, tag="quantise", tag_field="kind"):
    """Make a smaller variant of a base."""

    ref: Text
    bits: Literal[4, 8]
    data: list[Text] = []
    name: Text = ""
    max_tokens: int = EVAL_TOKENS
    threads: int | None = None


class ExportRequest(Request, frozen=True, kw_only=True, tag="export", tag_field="kind"):
    """Write a model for other tools."""

    ref: Text
    format: Format
    dest: Text
    alone: bool = False
    bits: Bits = 16


class LearnRequest(Request, frozen=True, kw_only=True, tag="learn", tag_field="kind"):
    """Go on learning from text of ours, now and as it comes."""

    target: Text  # a place, an adapter to go on from, or a base
    data: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=256)]
    base: Text = ""
    place: Text = ""
    name: Text = ""
    once: bool = False
    every_s: Annotated[float, msgspec.Meta(ge=0.1, le=86400)] = 10.0  # between looks
    steps: int | None = None
    batch: int | None = None
    seq: int | None = None
    lr: float | None = None
    rank: int | None = None
    replay: int | None = None
    min_tokens: int | None = None
    threads: int | None = None
    licence: Licence = ""


class BlockRequest(Request, frozen=True, kw_only=True, tag="block", tag_field="kind"):
    """Cut a smaller model out of a base."""

    ref: Text
    data: list[Text]
    eval_data: list[Text] = []
    name: Text = ""
    ffn: float | None = None
    heads: float | None = None
    depth: float | None = None
    steps: int | None = None
    batch: int | None = None
    seq: int | None = None
    lr: float | None = None
    seed: int | None = None
    threads: int | None = None


class GatherRequest(Request, frozen=True, kw_only=True, tag="gather", tag_field="kind"):
    """Make one adapter out of adapters of blocks of one parent."""

    what: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=60)]
    into: Text  # the parent, or a block of it
    weights: list[float] = []  # as many, or none
    place: Text
    name: Text
    energy: float | None = None
    rank: int | None = None
    licence: Licence = ""


class DeriveRequest(Request, frozen=True, kw_only=True, tag="derive", tag_field="kind"):
    """Build a model of a place out of one of the place above it, within a budget; publish it."""

    place: Text
    ref: Text  # the base it is derived from
    budget: Text  # '<80MB'
    data: list[Text]
    name: Text = ""
    eval_data: list[Text] = []
    steps: int | None = None
    seed: int | None = None
    threads: int | None = None
    licence: Licence = ""
    consent: bool = False  # without it the model stays here


class TransferRequest(Training, frozen=True, kw_only=True, tag="transfer", tag_field="kind"):
    """Carry what an adapter knows to the place above its own, or to one below."""

    direction: Literal["up", "down"]
    ref: Text  # of the adapter that knows
    to: Text = ""  # the model that learns; going up, the base that the other's was cut from
    place: Text = ""  # of the result
    name: Text
    data: list[Text] = []  # of what is new; without it, the probes of the adapter's place
    keep: list[Text] = []  # of what must stay; without it, the probes of the result's place
    rows: int | None = None


class EvalRequest(Request, frozen=True, kw_only=True, tag="eval", tag_field="kind"):
    """Measure a model on text of ours."""

    ref: Text
    data: list[Text]
    split: Literal["held-out", "all"] = "held-out"
    max_tokens: int = EVAL_TOKENS
    threads: int | None = None


class PushRequest(Request, frozen=True, kw_only=True, tag="push", tag_field="kind"):
    """Publish a model: one we hold, or a PEFT folder made elsewhere."""

    ref: Text = ""
    path: Text = ""
    base: Text = ""
    place: Text = ""
    name: Text = ""
    licence: Licence = ""
    description: Text = ""
    tag: Tag = ""
    consent: bool = False


class PullRequest(Request, frozen=True, kw_only=True, tag="pull", tag_field="kind"):
    """Fetch a model from peers."""

    ref: Text
    dest: Text = ""
    from_: list[Text] = msgspec.field(name="from", default_factory=list)
    even_quarantined: bool = False  # also of a publisher that is shut out at its place
    dry_run: bool = False


JobRequest = (
    ImportRequest
    | TuneRequest
    | DistillRequest
    | MergeRequest
    | QuantiseRequest
    | ExportRequest
    | BlockRequest
    | DeriveRequest
    | GatherRequest
    | TransferRequest
    | EvalRequest
    | PushRequest
    | PullRequest
)


class SearchRequest(Request, frozen=True, kw_only=True):
    """Filters; what is absent or empty matches all."""

    lang: Text | None = None
    domain: Text | None = None
    sub: Text | None = None
    size: Text | None = None
    kind: Literal["base", "adapter"] | None = None
    text: Text | None = None
    model: Text | None = None
    licence: Text | None = None
    limit: Limit = 100


class PeerRequest(Request, frozen=True, kw_only=True):
    """Connect to a node."""

    address: Text


class PinRequest(Request, frozen=True, kw_only=True):
    """Keep a model when space is made, or no longer."""

    ref: Text
    pin: bool = True


class StandingRequest(Request, frozen=True, kw_only=True):
    """Put a peer into a state, at one place or at all where it is known."""

    peer: Text
    state: Literal["trusted", "probation"]
    reason: Annotated[str, msgspec.Meta(max_length=500)]
    place: Text = ""


class QuarantineRequest(Request, frozen=True, kw_only=True):
    """Shut a peer or an update out, or let it back."""

    subject: Text
    reason: Annotated[str, msgspec.Meta(max_length=500)]
    place: Text = ""


class ProbesRequest(Request, frozen=True, kw_only=True):
    """Text to judge the updates of a place with."""

    place: Text
    paths: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=256)]


class ProbesRemoval(Request, frozen=True, kw_only=True):
    """Judge a place no longer with the text that these paths gave together, or with any."""

    place: Text
    paths: Annotated[list[Text], msgspec.Meta(max_length=256)] = []


class FollowRequest(Request, frozen=True, kw_only=True):
    """Judge and serve the updates of a place, or stop."""

    place: Text
    follow: bool = True
    auto: bool | None = None  # apply accepted updates without asking; None leaves it as it is
    back: Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{4,64})?\Z")] = ""
    # an applied update to roll back, by the start of its manifest's id


class LearnerRequest(Request, frozen=True, kw_only=True):
    """Stop a learner, or take it back to an earlier step."""

    learner: Text
    to: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    again: bool = False  # what was learnt since may be learnt again


class CollectRequest(Request, frozen=True, kw_only=True):
    """Remove what no model needs."""

    dry_run: bool = False


def parse(body: bytes, kind: Any) -> Any:
    """A request out of a JSON body; LocalError E0204 says which field is wrong."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.MsgspecError as bad:
        raise LocalError("E0204", f"the request cannot be used: {in_words(bad)}") from bad
