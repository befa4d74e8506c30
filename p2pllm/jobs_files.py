"""The jobs that make files out of files: adapters into one adapter, a base into smaller or other.

None of them trains. Each writes beside `out_dir` and puts the whole in its place at the end, so one
that was killed leaves nothing half made and is simply given again. docs/specs/adapter.md,
docs/specs/variants.md.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm.job_fields import Bytes, Directory, Share, Threads, Tokens

MAX_COMPOSED = 256  # as many as a head holds
KEPT_ENERGY = 0.9999  # of a change that was no LoRA, when it becomes one

Method = Literal["exact", "ties", "dare_linear", "dare_ties", "magnitude_prune"]
Rank = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Energy = Annotated[float, msgspec.Meta(gt=0, le=1)]
Format = Literal["gguf", "safetensors"]
Bits = Literal[4, 8, 16, 32]


class Composed(msgspec.Struct, frozen=True):
    """One adapter that goes into another."""

    adapter_dir: Directory
    weight: Annotated[float, msgspec.Meta(ge=-100, le=100)] = 1.0
    id: Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")] = ""
    # what decides its place in the order and that it counts once; "": the hash of its files


class ComposeJob(msgspec.Struct, frozen=True, kw_only=True, tag="compose", tag_field="job"):
    """Make one adapter out of several, or a plain one out of a foreign one."""

    base_dir: Directory
    parts: Annotated[tuple[Composed, ...], msgspec.Meta(min_length=1, max_length=MAX_COMPOSED)]
    out_dir: Directory
    residual_dir: Directory | None = None  # what re-compression left out, if it left any
    method: Method = "exact"
    energy: Energy = 1.0  # share of ‖ΔW‖² that every module keeps; 1: all of it
    rank: Rank | None = None  # at most, whatever that costs
    density: Share = 0.5  # of entries that the other methods keep
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0  # of the DARE methods
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class ComposeReport(msgspec.Struct, frozen=True, kw_only=True, tag="compose", tag_field="job"):
    """An adapter that stands in `out_dir`."""

    adapters: int  # that went in
    rank: int
    energy: float  # the smallest share of ‖ΔW‖² that a module kept
    norm: float  # of the whole change
    residual: bool  # `residual_dir` holds an adapter
    converted: tuple[str, ...]  # what had to be rewritten, and how
    seconds: float
    memory_estimate: int
    peak_rss: int


class ExportJob(msgspec.Struct, frozen=True, kw_only=True, tag="export", tag_field="job"):
    """Write a base, a base with an adapter laid into it, or an adapter alone, for other tools."""

    base_dir: Directory
    adapter_dir: Directory | None = None
    out_dir: Directory
    format: Format
    alone: bool = False  # the adapter as an adapter; else it is laid into the base
    bits: Bits = 16  # of a number; 4 and 8 are of GGUF alone
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class ExportReport(msgspec.Struct, frozen=True, kw_only=True, tag="export", tag_field="job"):
    """Files that stand in `out_dir`."""

    files: tuple[str, ...]
    size_bytes: int
    rounding: float  # norm of what rounding lost of the change, by the norm of the change
    seconds: float
    memory_estimate: int
    peak_rss: int


class QuantiseJob(msgspec.Struct, frozen=True, kw_only=True, tag="quantise", tag_field="job"):
    """Make a smaller variant of a base, and measure both on the same text."""

    base_dir: Directory
    out_dir: Directory
    bits: Literal[4, 8]
    data: Annotated[tuple[Directory, ...], msgspec.Meta(max_length=256)] = ()  # (): unmeasured
    max_tokens: Tokens = 4096
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a model is in this process: as transformers runs it, on this machine."""

    load_s: float
    read_tokens_s: float  # when measured on text
    rss_bytes: int  # more than before it was loaded


class QuantiseReport(msgspec.Struct, frozen=True, kw_only=True, tag="quantise", tag_field="job"):
    """A variant that stands in `out_dir`, and what it costs in quality."""

    size_bytes: int
    base_size_bytes: int
    params: int
    numbers: str  # of what kind most are, such as Q8_0
    base_loss: float | None  # nats per token on the same tokens; None: unmeasured
    loss: float | None
    bits_per_byte: float | None
    base_bits_per_byte: float | None
    tokens: int
    base_speed: Speed | None
    speed: Speed | None
    seconds: float
    memory_estimate: int
    peak_rss: int


FilesJob = ComposeJob | ExportJob | QuantiseJob
FilesReport = ComposeReport | ExportReport | QuantiseReport
