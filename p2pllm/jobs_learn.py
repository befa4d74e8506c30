"""One step of continual learning as a job: docs/specs/continual.md."""

from typing import Annotated

import msgspec

from p2pllm.job_fields import (
    EVERY,
    Bytes,
    Directory,
    LaidSet,
    Paths,
    Share,
    Targets,
    Threads,
    Tokens,
)

MAX_GROUPS = 8  # of anchor text, each the held-out documents of some steps


class ContinualJob(msgspec.Struct, frozen=True, kw_only=True, tag="continual", tag_field="job"):
    """Learn what is new in some text, beside what was learnt before."""

    base_dir: Directory
    state_dir: Directory  # private: everything one learner knows, `p2pllm.learner`
    data: Paths  # files or folders that grow
    begin_dir: Directory | None = None  # an adapter to go on from; read by the first step alone
    accepted: LaidSet = ()
    # the parent's, to whose directions the adapter is kept orthogonal
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 8
    alpha: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 16.0
    targets: Targets = EVERY
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-3
    steps: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100  # batches of one step
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    seq: Annotated[int, msgspec.Meta(ge=16, le=131072)] = 64  # tokens
    replay: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 4  # made-up rows a batch
    weight: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    pool: Annotated[int, msgspec.Meta(ge=8, le=65536)] = 512  # made-up rows in all
    orthogonal: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.1
    min_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31)] = 2048  # less new text waits
    keep: Annotated[int, msgspec.Meta(ge=2, le=100)] = 8  # steps that can be gone back to
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    held_out: Share = 0.1
    eval_tokens: Tokens = 2048  # of each anchor group
    threads: Threads = 1
    max_memory_bytes: Bytes = 0


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One group of anchor text: nats per token, and how far from the best it ever was."""

    since: int  # the step whose held-out text it is
    documents: int
    tokens: int
    base: float  # of the base alone
    best: float
    now: float
    bits_per_byte: float  # now


class ContinualReport(msgspec.Struct, frozen=True, kw_only=True, tag="continual", tag_field="job"):
    """What a step did; `step` 0 if there was too little new text."""

    step: int
    waiting_tokens: int  # of new text that is too little for a step
    documents: int  # that were learnt from
    train_tokens: int
    before: float  # nats per token on held-out text of the new
    after: float
    meters: tuple[Meter, ...]
    forgetting: float  # mean over older groups of now - best; 0 with none
    pool_rows: int
    refused: dict[str, int]  # made-up rows that the gate did not let through
    adapter_bytes: int
    seconds: float
    resumed_at: int
    dtype: str
    memory_estimate: int
    peak_rss: int
