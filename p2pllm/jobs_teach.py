"""The job that teaches a student what a teacher knows: docs/specs/logits.md."""

from typing import Annotated

import msgspec

from p2pllm.ids import ContentIdField
from p2pllm.job_fields import EVERY, Bytes, Directory, Paths, Share, Targets, Threads, Tokens
from p2pllm.logit_cache import Caching

Skew = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class DistillJob(msgspec.Struct, frozen=True, kw_only=True, tag="distill", tag_field="job"):
    """Train an adapter on a student to answer text as a teacher does."""

    teacher_dir: Directory  # a base
    teacher_adapter: Directory | None = None  # on it
    teacher: ContentIdField  # of the teacher's weights, adapter included
    base_dir: Directory  # the student
    data: Paths
    out_dir: Directory  # the PEFT directory; `resume/` in it is there while the job is unfinished
    eval_data: Annotated[tuple[Directory, ...], msgspec.Meta(max_length=256)] = ()
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    alpha: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 32.0
    targets: Targets = EVERY
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-3
    steps: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 40
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    seq: Annotated[int, msgspec.Meta(ge=8, le=131072)] = 128  # tokens
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    held_out: Share = 0.1
    eval_tokens: Tokens = 4096
    caching: Caching = Caching()
    hard: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3  # share of the loss that is the labels'
    skew: Skew = 0.0
    reverse: bool = False
    threads: Threads = 1
    max_memory_bytes: Bytes = 0  # 0: what the machine has free


class DistillReport(msgspec.Struct, frozen=True, kw_only=True, tag="distill", tag_field="job"):
    """An adapter that stands in `out_dir`: teacher and student on the same held-out tokens."""

    teacher_loss: float  # nats per token
    base_loss: float  # of the student before
    loss: float
    base_bits_per_byte: float
    bits_per_byte: float
    tokens: int
    bytes: int
    documents: int
    text: str
    held_out: float
    steps: int
    train_tokens: int
    train_documents: int
    cached_tokens: int
    bytes_per_token: float
    seconds: float
    resumed_at: int
    dtype: str
    memory_estimate: int
    peak_rss: int
