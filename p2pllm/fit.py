"""How much memory a model will take on a device, and how fast it will answer: said before it runs.

Pure arithmetic over dimensions, a use and a device's calibration. Formulas, and how far they were
off when held against real runs: docs/specs/recommend.md.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from p2pllm.errors import PeerError

PROMPT_CHUNK = 512  # tokens of a prompt that go through the model at once
FIRST_PROMPT = 128  # tokens of the question after which somebody waits for the first word
WORK_BYTES = 24 * 1024**2  # threads, allocator and libraries once they have worked
ADAPTER_ITEM = 4  # bytes; an adapter beside its base is held in float32
MEMORY_MARGIN = 0.06  # of the estimate; largest error of the shapes it was fitted to, and half more
LEAST_SPREAD = 0.15  # of a speed, however well a device's own probes fit
GUESS_MARGIN = 0.12  # the same where the dimensions were guessed from the parameter count
FEATURES = ("weights", "cached", "layers", "wide", "fixed")

Count = Annotated[int, msgspec.Meta(ge=1, le=2**50)]
Cost = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class Dimensions(msgspec.Struct, frozen=True, kw_only=True):
    """What of a model decides its memory and its speed."""

    params: Count
    layers: Count
    hidden: Count
    intermediate: Count
    vocabulary: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    tied: bool = True  # input and output embeddings are one tensor
    guessed: bool = False  # from the parameter count alone


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is to be used."""

    context: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = 512  # tokens, prompt and answer
    item: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2  # bytes a weight
    adapter: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0  # parameters beside the base


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was measured to cost: seconds a token for each of FEATURES, and bytes."""

    seconds: Annotated[tuple[Cost, ...], msgspec.Meta(min_length=5, max_length=5)]
    runtime_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)]  # the learning libraries, loaded
    spread: Annotated[float, msgspec.Meta(ge=0, le=10)]  # largest relative error on its own probes
    prompt_flops: Annotated[float, msgspec.Meta(gt=0, le=1e18)]  # a second, reading a prompt
    item: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2  # bytes a weight it was taken with
    threads: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    measured_at: Annotated[float, msgspec.Meta(ge=0, le=2**33)] = 0.0  # Unix seconds


# A small board of 2015: what is assumed of a device that was not measured yet.
CAUTIOUS = Calibration(
    seconds=(1 / 3e9, 1 / 3e9, 2e-3, 1e-6, 1e-3),
    runtime_bytes=420 * 1024**2,
    spread=1.0,
    prompt_flops=5e9,
)


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """The peak of one process that holds and runs a model, in bytes, and where it comes from."""

    weights: int
    cache: int  # keys and values of the context
    activations: int
    adapter: int
    overhead: int  # libraries and allocator
    high: int  # what it will not pass

    @property
    def total(self) -> int:
        """The expected peak."""
        return self.weights + self.cache + self.activations + self.adapter + self.overhead


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a second once the prompt is read, and the wait for the first."""

    tokens_s: float
    low: float  # it will not be slower than this
    high: float
    first_s: float  # seconds to the first word after a prompt of at most FIRST_PROMPT tokens


def dimensions_of(config: Mapping[str, Any], params: int) -> Dimensions:
    """The dimensions a base's config.json states; PeerError E0711 if it states none that hold."""
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        return msgspec.convert(
            {
                "params": params,
                "layers": int(config["num_hidden_layers"]),
                "hidden": hidden,
                "intermediate": int(config.get("intermediate_size") or 4 * hidden),
                "vocabulary": int(config["vocab_size"]),
                "heads": heads,
                "kv_heads": int(config.get("num_key_value_heads") or heads),
                "head_dim": int(config.get("head_dim") or hidden // heads),
                "tied": bool(config.get("tie_word_embeddings", True)),
            },
            Dimensions,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as bad:
        raise PeerError("E0711", f"config.json states no usable dimensions: {bad}") from bad


def guess(params: int) -> Dimensions:
    """Dimensions of a Llama of so many parameters, on the side of more memory and more time.

    Adverts carry the parameter count alone. As many heads for keys as for queries, many layers and
    an output matrix of its own: a real model of the size needs hardly more.
    """
    hidden = max(64, round((params / 160) ** (1 / 3)) // 64 * 64)
    layers = max(2, min(120, round(params / (12 * hidden**2))))
    return Dimensions(
        params=params,
        layers=layers,
        hidden=hidden,
        intermediate=4 * hidden,
        vocabulary=max(256, min(128_000, params // (4 * hidden))),
        heads=max(1, hidden // 64),
        kv_heads=max(1, hidden // 64),
        head_dim=64,
        tied=True,
        guessed=True,
    )


def memory(sizes: Dimensions, use: Use, device: Calibration) -> Memory:
    """The peak of a process that loads the model, reads a prompt and answers."""
    chunk = min(use.context, PROMPT_CHUNK)
    token = 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * use.item
    work = chunk * (4 * sizes.hidden + 3 * sizes.intermediate) * use.item
    # Some ways through the libraries pack the largest matrix into a copy of its own for a moment.
    largest = max(sizes.vocabulary, sizes.intermediate) * sizes.hidden * use.item
    total = Memory(
        weights=sizes.params * use.item,
        cache=token * use.context,
        activations=work + sizes.vocabulary * 4,
        adapter=use.adapter * ADAPTER_ITEM,
        overhead=device.runtime_bytes + WORK_BYTES,
        high=0,
    )
    margin = GUESS_MARGIN if sizes.guessed else MEMORY_MARGIN
    return msgspec.structs.replace(total, high=round(total.total * (1 + margin)) + largest)


def features(sizes: Dimensions, use: Use) -> tuple[float, ...]:
    """What of one more token takes time, in the order of FEATURES."""
    embedding = sizes.vocabulary * sizes.hidden
    active = sizes.params - (0 if sizes.tied else embedding)
    cache = 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * use.item * use.context
    return (
        float(active * use.item),
        float(cache * sizes.heads / sizes.kv_heads),  # every query head reads its keys and values
        float(sizes.layers),
        float(sizes.layers * sizes.hidden),
        1.0,
    )


def speed(sizes: Dimensions, use: Use, device: Calibration) -> Speed:
    """Tokens a second with one answer at a time."""
    seconds = _dot(device.seconds, features(sizes, use))
    spread = device.spread * (2 if sizes.guessed else 1)
    tokens_s = 1 / max(seconds, 1e-9)
    return Speed(
        tokens_s=tokens_s,
        low=tokens_s / (1 + spread),
        high=tokens_s * (1 + spread),
        first_s=2 * sizes.params * min(use.context, FIRST_PROMPT) / device.prompt_flops + seconds,
    )


def fit_costs(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, ...]:
    """Costs, none negative, that bring features nearest to the seconds, in relative error.

    Coordinate descent on a convex problem with a handful of unknowns: each step is exact.
    """
    scaled = [[value / took for value in row] for row, took in zip(rows, seconds, strict=True)]
    unit = [max(abs(row[at]) for row in scaled) or 1.0 for at in range(len(scaled[0]))]
    scaled = [[value / size for value, size in zip(row, unit, strict=True)] for row in scaled]
    costs = [0.0] * len(unit)
    for _ in range(5000):
        for at in range(len(costs)):
            rest = [1 - _dot(costs, row) + costs[at] * row[at] for row in scaled]
            square = sum(row[at] ** 2 for row in scaled)
            along = sum(row[at] * left for row, left in zip(scaled, rest, strict=True))
            costs[at] = max(0.0, along / square) if square else 0.0
    return tuple(cost / size for cost, size in zip(costs, unit, strict=True))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
