"""The job that teaches a student what a teacher knows: docs/specs/logits.md."""

from typing import Annotated

import msgspec

from p2pllm.ids import ContentIdField
from p2pllm.job_fields import EVERY, Directory, Targets, Trained, Training
from p2pllm.logit_cache import Caching

Skew = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class DistillJob(Training, frozen=True, kw_only=True, tag="distill", tag_field="job"):
    """Train an adapter on a student, the base, to answer text as a teacher does."""

    teacher_dir: Directory  # a base
    teacher_adapter: Directory | None = None  # on it
    teacher: ContentIdField  # of the teacher's weights, adapter included
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    alpha: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 32.0
    targets: Targets = EVERY
    caching: Caching = Caching()
    hard: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3  # share of the loss that is the labels'
    skew: Skew = 0.0
    reverse: bool = False


class DistillReport(Trained, frozen=True, kw_only=True, tag="distill", tag_field="job"):
    """A student's adapter; the teacher was measured on the same held-out tokens."""

    teacher_loss: float  # nats per token
    cached_tokens: int
    bytes_per_token: float
