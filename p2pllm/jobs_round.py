"""The two jobs of a round at a place: measure all its updates at once, and try what they make.

One process reads the base and the probes once and measures every update of a round on the same
text, beside this node's own training. What each number is: docs/specs/summary.md.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm.ids import ContentIdField
from p2pllm.job_fields import Bytes, Directory, Laid, LaidSet, Probe, Secret, Threads, Tokens
from p2pllm.jobs_shadow import Found, Texts
from p2pllm.names import Place
from p2pllm.summary import MAX_DOMAINS, MAX_SKETCH_BYTES, UpdateSummary

MAX_CANDIDATES = 16  # of one round: a report of 16 summaries of 48 KiB fits a line
Probes = Annotated[tuple[Probe, ...], msgspec.Meta(min_length=1, max_length=MAX_DOMAINS)]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One update to measure."""

    adapter_dir: Directory
    weights: ContentIdField
    claimed: Annotated[bytes, msgspec.Meta(max_length=MAX_SKETCH_BYTES)] = b""
    # the signed sketch that its publisher sent ahead


class RoundJob(msgspec.Struct, frozen=True, kw_only=True, tag="round", tag_field="job"):
    """Measure the updates of one round, this node's own training, and what was accepted last."""

    base_dir: Directory
    model: ContentIdField
    place: Place
    probes: Probes  # the place's own first
    candidates: Annotated[
        tuple[Candidate, ...], msgspec.Meta(min_length=1, max_length=MAX_CANDIDATES)
    ]
    texts: Texts = ()  # on which each update is scored document by document, alone on the base
    own_dir: Directory  # an adapter trained on the probes' text; trained now if it is not there
    own_steps: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 40
    last: Candidate | None = None  # what the place accepted last
    accepted: LaidSet = ()
    secret: Secret
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    max_tokens: Tokens = 1024
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class Unmeasured(msgspec.Struct, frozen=True, kw_only=True):
    """Why an update has no numbers; of kind `peer` if its files are at fault."""

    kind: Literal["peer", "local", "unavailable"]
    code: str
    message: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One update's numbers, or why there are none."""

    summary: UpdateSummary | None = None
    shadow: Found = ()
    unmeasured: Unmeasured | None = None


class RoundReport(msgspec.Struct, frozen=True, kw_only=True, tag="round", tag_field="job"):
    """A round, measured on one probe; in the order of the candidates."""

    own: UpdateSummary
    last: UpdateSummary | None
    found: tuple[Finding, ...]
    seconds: float
    peak_rss: int


class MergeJob(msgspec.Struct, frozen=True, kw_only=True, tag="merge", tag_field="job"):
    """Try updates on top of what a place serves: which of them together do the probe no harm."""

    base_dir: Directory
    probes: Probes
    before: LaidSet  # what is served now
    best: LaidSet = ()  # what was best for this text so far, where that is another set
    kept: LaidSet  # the same updates with the weights that they would have
    added: Annotated[tuple[Laid, ...], msgspec.Meta(min_length=1, max_length=MAX_CANDIDATES)]
    # the ones that count most first
    factor: Annotated[float, msgspec.Meta(ge=1, le=100)]  # harm: a loss above
    margin: Annotated[float, msgspec.Meta(ge=0, le=100)]  # factor * before + margin …
    ceiling: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1e6  # … or above this, whatever before
    texts: Texts = ()  # on which what may stay is scored document by document, beside `before`
    secret: Secret
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    max_tokens: Tokens = 1024
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class MergeReport(msgspec.Struct, frozen=True, kw_only=True, tag="merge", tag_field="job"):
    """Losses on the place's probe, in nats per token, and which of `added` may stay."""

    before: float
    whole: float  # with all of them
    after: float  # with those that may stay
    stays: tuple[int, ...]  # rows of `added`, rising
    shadow: Found = ()
    best: Found = ()  # what each document gains by the best set, over `before` as well
    without: tuple[float, ...] = ()
    # where own documents lose: their mean gain without each of `added` in turn
    seconds: float
    peak_rss: int
