"""The job that carries knowledge up to a parent or down to a child: docs/specs/transfer.md."""

from typing import Annotated, Literal

import msgspec

from p2pllm.ids import ContentIdField
from p2pllm.job_fields import Bytes, Directory, LaidSet, Paths, Share, Threads
from p2pllm.summary import Nats

MAX_SCORED = 96  # documents of a text that are measured

Direction = Literal["up", "down"]
Each = Annotated[tuple[Nats, ...], msgspec.Meta(max_length=MAX_SCORED)]


class Side(msgspec.Struct, frozen=True):
    """A model: a base, and what is laid on it."""

    base_dir: Directory
    model: ContentIdField
    laid: LaidSet = ()


class TransferJob(msgspec.Struct, frozen=True, kw_only=True, tag="transfer", tag_field="job"):
    """Make an adapter that brings what `source` knows to `target`."""

    direction: Direction
    source: Side
    target: Side
    new: Paths  # text of what the source knows: shown to it, and measured on what is held out
    kept: Paths  # text of what the target must not forget: replayed, and measured likewise
    out_dir: Directory  # the PEFT directory of the target's base
    least: Nats = 0.02  # that the source must be better on `new`, or nothing is learnt
    rows: Annotated[int, msgspec.Meta(ge=4, le=4096)] = 96
    seq: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 64  # tokens of a row, and of a document
    steps: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60
    batch: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 8
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 2e-3
    rank: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    held_out: Share = 0.4
    threads: Threads = 1
    max_memory_bytes: Bytes = 0  # 0: what the machine has free


class TransferReport(msgspec.Struct, frozen=True, kw_only=True, tag="transfer", tag_field="job"):
    """What was learnt and what it did, document by document; gains are before less after."""

    learnt: bool  # False: the source knows nothing more, and no adapter was made
    source_loss: float  # nats per token on the new text
    base_loss: float  # of the target on it, before
    loss: float  # and after
    gains: Each  # of documents of the new text
    spared: Each  # of documents of the kept text; negative is damage
    made_up: int  # rows that the source made up; 0 going down
    refused: dict[str, int]  # of those, by the reason of who refused them
    scale: float  # of the source's change, restricted to the target; 0 going up
    steps: int
    seconds: float
    memory_estimate: int
    peak_rss: int
