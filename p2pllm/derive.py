"""How much of a base to keep so that it fits a budget and a place below it. No torch."""

import msgspec

from p2pllm.blocks import Frame
from p2pllm.errors import LocalError
from p2pllm.names import Place
from p2pllm.tree import parent_of

LEAST = 0.25  # share of channels and of layers; below it little of the parent is left
STEP = 8  # channels; odd widths are slow


class Plan(msgspec.Struct, frozen=True):
    """Shares to keep, and what the block will have."""

    ffn: float
    depth: float
    params: int
    size: int  # bytes, about


def layer_params(frame: Frame, channels: int) -> int:
    """The parameters of one layer with so many channels; norms left out."""
    query = frame.groups * frame.heads * frame.head_dim
    keys = frame.groups * frame.head_dim
    return frame.hidden * (2 * query + 2 * keys + 3 * channels)


def plan(frame: Frame, params: int, size: int, budget: int) -> Plan:
    """The largest block of a base within `budget` bytes; of equally large ones the deepest.

    params, size   of the base
    Raises LocalError E0708 if the smallest sensible block is larger.
    """
    outside = params - frame.layers * layer_params(frame, frame.ffn)
    best: tuple[int, int, int] | None = None
    for layers in range(max(1, round(LEAST * frame.layers)), frame.layers + 1):
        room = budget * params // size - outside
        fixed = layer_params(frame, 0)
        channels = min(frame.ffn, (room // layers - fixed) // (3 * frame.hidden) // STEP * STEP)
        if frame.ffn < STEP or channels >= max(STEP, LEAST * frame.ffn):
            total = outside + layers * layer_params(frame, channels)
            best = max(best or (0, 0, 0), (total, layers, channels))
    if best is None:
        least = outside + round(LEAST * frame.layers) * layer_params(frame, frame.ffn // 4)
        raise LocalError(
            "E0708",
            f"no block of it fits {budget} bytes",
            why=[f"the smallest takes some {least * size // params} bytes"],
            fix=["allow more, or derive from a smaller model"],
        )
    total, layers, channels = best
    return Plan(channels / frame.ffn, layers / frame.layers, total, total * size // params)


def require_below(place: Place, parent: Place) -> None:
    """Return if `place` is one level below; else LocalError E0204."""
    above = parent_of(place)
    if above is None or parent != above:
        wanted = f"from a model of {above}" if above else "nothing is derived for the master"
        raise LocalError(
            "E0204",
            f"{place} is not one level below {parent}",
            why=["a model is derived from one of the place one level up"],
            fix=[wanted],
        )
