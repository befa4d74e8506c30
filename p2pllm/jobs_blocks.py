"""The jobs of blocks: cut one out of a base, gather what blocks learnt: docs/specs/blocks.md."""

from typing import Annotated

import msgspec

from p2pllm.job_fields import Bytes, Directory, ModelId, Paths, Share, Threads, Tokens

Kept = Annotated[float, msgspec.Meta(gt=0, le=1)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1e12)]


class BlockJob(msgspec.Struct, frozen=True, kw_only=True, tag="block", tag_field="job"):
    """Cut a smaller model out of a base, by what some text needs, and bring it near its parent."""

    base_dir: Directory  # the parent
    parent: ModelId = ""  # its model id; "" hashes it
    data: Paths  # what the parts are scored on and the block learns from
    out_dir: Directory  # absent or empty; complete when the job answers
    eval_data: Annotated[tuple[Directory, ...], msgspec.Meta(max_length=256)] = ()
    ffn: Kept = 0.5  # share of the feed-forward channels of each layer
    heads: Kept = 1.0  # of the groups of heads
    depth: Kept = 1.0  # of the layers
    steps: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 120  # of recovery; 0: none
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    seq: Annotated[int, msgspec.Meta(ge=8, le=131072)] = 256  # tokens
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 2e-4
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    held_out: Share = 0.1
    eval_tokens: Tokens = 4096
    score_tokens: Tokens = 32768
    refit_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 32768  # 0: leave it as it is cut
    threads: Threads = 1
    max_memory_bytes: Bytes = 0  # 0: what the machine has free


class BlockReport(msgspec.Struct, frozen=True, kw_only=True, tag="block", tag_field="job"):
    """A block that stands in `out_dir`, measured beside its parent on the same held-out tokens."""

    layers: int
    channels: int  # of each layer
    groups: int
    params: int
    parent_params: int
    size_bytes: int
    parent_loss: float  # nats per token
    cut_loss: float  # as it was cut
    refit_loss: float  # with its output matrices refitted
    loss: float  # after recovery
    bits_per_byte: float
    tokens: int
    documents: int
    text: str  # id of the scored documents
    steps: int
    train_tokens: int
    seconds: float
    resumed_at: int  # the step a killed job went on from; 0 for a fresh start
    dtype: str
    memory_estimate: int  # bytes, made before anything was loaded
    peak_rss: int


class Gathered(msgspec.Struct, frozen=True):
    """One adapter that goes into the mean, the block it stands on, and how much it counts."""

    adapter_dir: Directory
    block_dir: Directory | None = None  # None: it stands on the parent itself
    weight: Weight = 1.0


class GatherJob(msgspec.Struct, frozen=True, kw_only=True, tag="gather", tag_field="job"):
    """Make one adapter of the parent, or of a block, out of adapters of blocks of unlike shapes."""

    base_dir: Directory  # the parent
    parent: ModelId = ""  # its model id; "" hashes it
    parts: Annotated[tuple[Gathered, ...], msgspec.Meta(min_length=1, max_length=256)]
    into_dir: Directory | None = None  # the block that the mean is for; None: the parent
    out_dir: Directory
    energy: Kept = 1.0  # share of ‖ΔW‖² that every module keeps
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None  # at most
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class GatherReport(msgspec.Struct, frozen=True, kw_only=True, tag="gather", tag_field="job"):
    """An adapter that stands in `out_dir`."""

    adapters: int
    rank: int
    energy: float  # the smallest share of ‖ΔW‖² that a module kept
    norm: float
    seconds: float
    memory_estimate: int
    peak_rss: int


BlocksJob = BlockJob | GatherJob
BlocksReport = BlockReport | GatherReport
