"""How much memory a job will take, said before anything is loaded, and how much there is."""

from pathlib import Path

import msgspec
import psutil

from p2pllm import device
from p2pllm.errors import LocalError

MICRO_TOKENS = 512  # what goes through the model at once in training; a batch is cut into these
EVAL_TOKENS = 1024  # the same when only measuring, where nothing is kept for a way back
PROBE_ROWS = 192  # answers of whole vocabularies that probing holds at once

# Bytes beside the weights, per token at once. Fitted to peaks of SmolLM2-135M in both dtypes and
# of random Llamas: tests/p2pllm/learn/test_memory.py holds the estimate against real peaks.
_LOADED = 100 * 1024**2  # the model's own modules and the allocator's slack


class Shape(msgspec.Struct, frozen=True):
    """What of a base decides its memory."""

    params: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int


class Training(msgspec.Struct, frozen=True):
    """What of a tuning decides its memory."""

    trainable: int  # adapter parameters, in fp32
    tokens: int  # at once


def import_bytes(params: int) -> int:
    """The peak of rounding a base to bfloat16: float32 and the result side by side."""
    return runtime_bytes() + _LOADED + params * 6


def evaluation_bytes(shape: Shape, item: int) -> int:
    """The peak of measuring with weights of `item` bytes each."""
    tokens = EVAL_TOKENS
    logits = tokens * shape.vocabulary * item + 256 * shape.vocabulary * 8
    layer = tokens * (6 * shape.hidden + 3 * shape.intermediate) * item
    return runtime_bytes() + _LOADED + shape.params * item + logits + layer


def training_bytes(shape: Shape, item: int, training: Training) -> int:
    """The peak of training an adapter, and of measuring it afterwards."""
    tokens = training.tokens
    logits = tokens * shape.vocabulary * (2 * item + 12)
    layer = tokens * (12 * shape.hidden + 4 * shape.intermediate) * (item + 2)
    adapter = training.trainable * 4 * 4  # itself, its gradient, AdamW's two moments
    work = shape.layers * layer + logits + adapter
    train = runtime_bytes() + _LOADED + shape.params * item + work
    return max(train, evaluation_bytes(shape, item) + adapter)


def reading_bytes(shape: Shape, item: int) -> int:
    """The peak of probing without gradients: measuring, and whole answers held side by side."""
    return evaluation_bytes(shape, item) + PROBE_ROWS * shape.vocabulary * (item + 12)


def probing_bytes(shape: Shape, item: int, weights: int) -> int:
    """The peak of probing: a gradient of so many weights, and the way back that makes it."""
    layer = MICRO_TOKENS * (12 * shape.hidden + 4 * shape.intermediate) * (item + 2)
    back = shape.layers * layer + MICRO_TOKENS * shape.vocabulary * (2 * item + 12)
    probe = runtime_bytes() + _LOADED + shape.params * item + weights * (item + 4) + back
    return max(probe, reading_bytes(shape, item))


def require(needed: int, allowed: int, what: str) -> None:
    """Return if `needed` bytes may be taken; else LocalError E0708.

    `allowed` is the operator's bound in bytes, or 0 for what the machine has free.
    """
    most = bound(allowed)
    if needed > most:
        raise LocalError(
            "E0708",
            f"{what} needs about {needed >> 20} MiB of memory, {most >> 20} MiB may be used",
            why=["that bound was given" if most == allowed else "no more is free"],
            fix=["use a smaller batch, a shorter sequence or a smaller base, or free memory"],
            details={"needed_bytes": needed, "allowed_bytes": most},
        )


def bound(allowed: int) -> int:
    """How many bytes this process may hold in all."""
    free = device.free_bytes() + runtime_bytes()
    return min(allowed, free) if allowed else free


def runtime_bytes() -> int:
    """What this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most this process ever held."""
    # Not getrusage: its figure survives exec, so it may be the parent's.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # another system
        return runtime_bytes()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
