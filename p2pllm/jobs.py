"""What a learn job is asked, what it says while it runs and what it answers. No torch.

A job is a child process, `python -m p2pllm.learn`: one job as a JSON line on its standard input,
events as JSON lines on its standard output, the last of them `result` or `error`. Its standard
input stays open for as long as the job is wanted; closing it, or SIGTERM, cancels.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable, in_words
from p2pllm.ids import ContentIdField
from p2pllm.job_fields import (
    EVAL_TOKENS,
    HELD_OUT,
    Bytes,
    Directory,
    LaidSet,
    ModelId,
    Paths,
    Share,
    Threads,
    Tokens,
    Trained,
    Training,
)
from p2pllm.job_fields import Laid as Laid
from p2pllm.job_fields import Probe as Probe
from p2pllm.job_fields import Secret as Secret
from p2pllm.jobs_blocks import BlocksJob, BlocksReport
from p2pllm.jobs_device import CalibrateJob, CalibrateReport
from p2pllm.jobs_files import FilesJob, FilesReport
from p2pllm.jobs_learn import ContinualJob, ContinualReport
from p2pllm.jobs_round import MergeJob, MergeReport, RoundJob, RoundReport
from p2pllm.jobs_shadow import ShadowJob, ShadowReport
from p2pllm.jobs_teach import DistillJob, DistillReport
from p2pllm.jobs_transfer import TransferJob, TransferReport
from p2pllm.names import Place
from p2pllm.summary import MAX_DOMAINS, MAX_SKETCH_BYTES, Size, UpdateSummary

MAX_LINE_BYTES = 1024 * 1024  # a job or an event; each is a few kilobytes
KILLED = 128  # and a signal's number: the status of a process that stays, once a job was killed


class ImportJob(msgspec.Struct, frozen=True, kw_only=True, tag="import", tag_field="job"):
    """Bring a base into one layout: safetensors in bfloat16, JSON files in one form."""

    source: Directory  # "smollm2", or a directory, .safetensors or .gguf file
    out_dir: Directory  # empty or absent; complete when the job answers
    threads: Threads = 1
    max_memory_bytes: Bytes = 0  # 0: what the machine has free


class TuneJob(Training, frozen=True, kw_only=True, tag="tune", tag_field="job"):
    """Train a LoRA adapter on text and measure it on documents held out of training."""

    start_dir: Directory | None = None  # go on with this adapter, in its rank, alpha and targets


class EvalJob(msgspec.Struct, frozen=True, kw_only=True, tag="eval", tag_field="job"):
    """Measure a base, and an adapter on it, on the same tokens."""

    base_dir: Directory
    adapter_dir: Directory | None = None
    data: Paths
    split: Literal["held-out", "all"] = "held-out"
    held_out: Share = HELD_OUT  # the share the tuning used; read only for "held-out"
    max_tokens: Tokens = EVAL_TOKENS
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class CheckJob(msgspec.Struct, frozen=True, kw_only=True, tag="check", tag_field="job"):
    """Prove that an adapter fits a base: names, shapes, values, and that it does something."""

    base_dir: Directory
    adapter_dir: Directory
    model: ModelId = ""  # the model id the adapter names; "" leaves the base unhashed
    sketch: bool = False  # also tell the numbers that go ahead of the adapter
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class SketchJob(msgspec.Struct, frozen=True, kw_only=True, tag="sketch", tag_field="job"):
    """Put an adapter into the few numbers that go ahead of it."""

    base_dir: Directory
    adapter_dir: Directory
    model: ContentIdField
    threads: Threads = 1


class VitalsJob(msgspec.Struct, frozen=True, kw_only=True, tag="vitals", tag_field="job"):
    """Measure an update before it is judged: docs/specs/summary.md."""

    base_dir: Directory
    adapter_dir: Directory
    model: ContentIdField
    weights: ContentIdField
    place: Place
    probes: Annotated[tuple[Probe, ...], msgspec.Meta(min_length=1, max_length=MAX_DOMAINS)]
    # the place's own domain first; the others show damage
    accepted: LaidSet = ()
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0  # of this update, were it merged
    claimed: Annotated[bytes, msgspec.Meta(max_length=MAX_SKETCH_BYTES)] = b""
    # the signed sketch that its publisher sent ahead
    secret: Secret
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0
    max_tokens: Tokens = 1024  # of each domain
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


Job = (
    ImportJob
    | TuneJob
    | EvalJob
    | CheckJob
    | SketchJob
    | VitalsJob
    | RoundJob
    | MergeJob
    | ShadowJob
    | CalibrateJob
    | DistillJob
    | TransferJob
    | ContinualJob
    | FilesJob
    | BlocksJob
)


class ImportReport(msgspec.Struct, frozen=True, kw_only=True, tag="import", tag_field="job"):
    """A base that stands in `out_dir`."""

    files: tuple[str, ...]  # flat names, sorted
    size_bytes: int
    params: int
    architecture: str  # such as LlamaForCausalLM
    seconds: float
    peak_rss: int  # bytes


class TuneReport(Trained, frozen=True, kw_only=True, tag="tune", tag_field="job"):
    """An adapter that was trained by the words of a text."""


class EvalReport(msgspec.Struct, frozen=True, kw_only=True, tag="eval", tag_field="job"):
    """The same tokens scored without and with the adapter; without one the two are equal."""

    base_loss: float
    loss: float
    base_bits_per_byte: float
    bits_per_byte: float
    tokens: int
    bytes: int
    documents: int
    text: str
    seconds: float
    dtype: str
    memory_estimate: int
    peak_rss: int


class SketchReport(msgspec.Struct, frozen=True, kw_only=True, tag="sketch", tag_field="job"):
    """What of a `p2pllm.summary.Sketch` has to be measured."""

    norm: Size
    thirds: tuple[Size, ...]
    forms: bytes
    seconds: float


class CheckReport(msgspec.Struct, frozen=True, kw_only=True, tag="check", tag_field="job"):
    """An adapter that fits."""

    tensors: int
    delta_norm: float  # Frobenius norm over all (alpha / rank) B A
    max_logit_change: float
    seconds: float
    memory_estimate: int
    peak_rss: int
    sketch: SketchReport | None = None  # where the job asked for it


class VitalsReport(msgspec.Struct, frozen=True, kw_only=True, tag="vitals", tag_field="job"):
    """An update, measured; what it cost."""

    summary: UpdateSummary
    seconds: float
    memory_estimate: int
    peak_rss: int


Report = (
    ImportReport
    | TuneReport
    | EvalReport
    | CheckReport
    | SketchReport
    | VitalsReport
    | RoundReport
    | MergeReport
    | ShadowReport
    | CalibrateReport
    | DistillReport
    | TransferReport
    | ContinualReport
    | FilesReport
    | BlocksReport
)


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress", tag_field="event"):
    """How far the job is; at most two a second within a stage."""

    stage: str
    message: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""  # "steps", "tokens", "bytes" or "tensors"
    loss: float | None = None
    eta_s: float | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result", tag_field="event"):
    """The last event of a job that did what it was asked."""

    report: Report


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="error", tag_field="event"):
    """The last event of a job that did not."""

    kind: Literal["peer", "local", "unavailable"]
    code: str
    message: str
    why: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    details: dict[str, Any] = {}

    def error(self) -> P2pllmError:
        """The failure as the parent raises it."""
        kind = _KINDS[self.kind]
        return kind(self.code, self.message, why=self.why, fix=self.fix, details=self.details)


Event = Progress | Result | Failed

_KINDS: Mapping[str, type[P2pllmError]] = {
    "peer": PeerError,
    "local": LocalError,
    "unavailable": Unavailable,
}
J = TypeVar("J", bound=Job)


def failed(error: P2pllmError) -> Failed:
    """The last event of a job that ends in this error."""
    return Failed(
        kind=_kind_of(error),
        code=error.code,
        message=error.message,
        why=error.why,
        fix=error.fix,
        details=error.details,
    )


def _kind_of(error: P2pllmError) -> Literal["peer", "local", "unavailable"]:
    if isinstance(error, PeerError):
        return "peer"
    return "unavailable" if isinstance(error, Unavailable) else "local"


def checked(job: J) -> J:
    """The job, its fields held against their bounds; LocalError E0204 names the one that is out."""
    try:
        return msgspec.convert(msgspec.to_builtins(job), type(job))
    except msgspec.ValidationError as bad:
        raise _bad_job(bad) from bad


def encode_job(job: Job) -> bytes:
    """The line a child reads, newline included; LocalError E0204 for a field out of bounds."""
    return msgspec.json.encode(checked(job)) + b"\n"


def decode_job(line: bytes) -> Job:
    """A job out of a line; LocalError E0204 if it is none."""
    try:
        job: Job = msgspec.json.decode(line, type=Job)
    except msgspec.MsgspecError as bad:
        raise _bad_job(bad) from bad
    return job


def encode_event(event: Event) -> bytes:
    """The line a parent reads, newline included."""
    return msgspec.json.encode(event) + b"\n"


def decode_event(line: bytes) -> Event:
    """An event out of a line a child wrote; LocalError E1002 if it is none."""
    try:
        event: Event = msgspec.json.decode(line, type=Event)
    except msgspec.MsgspecError as bad:
        raise LocalError("E1002", f"a job wrote what is no event: {line[:120]!r}") from bad
    return event


def _bad_job(bad: Exception) -> LocalError:
    return LocalError("E0204", f"an option is out of bounds: {in_words(bad)}")
