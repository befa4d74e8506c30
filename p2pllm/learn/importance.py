"""Which parts of a base a text needs most: one pass over it, and what to keep of each layer.

A channel's score is its root mean square activation times the norm of the column of `down_proj`
that reads it; a group's the root mean square of what its heads add through `o_proj`. (Wanda's,
|weight| times the norm of what it reads, Sun et al. 2024, over structures as in FLAP and FASP.)
A layer's is one minus the cosine of the residual stream before and after it (ShortGPT's block
influence, Men et al. 2024).
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from p2pllm import blocks
from p2pllm.blocks import Cut, Frame
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.learn.memory import EVAL_TOKENS

STEP = 8  # a share of the width is rounded to a multiple of this: odd widths are slow

Say = Callable[[Progress], None]


class Scores(msgspec.Struct, frozen=True):
    """How much each part does; higher is more."""

    channels: torch.Tensor  # (layers, channels)
    groups: torch.Tensor  # (layers, groups)
    layers: torch.Tensor  # (layers,)
    tokens: int  # it was read off


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a base to keep, in shares of what it has."""

    ffn: float = 1.0
    heads: float = 1.0
    depth: float = 1.0


def score(network: Any, frame: Frame, rows: torch.Tensor, say: Say) -> Scores:
    """Score every part of a base on rows of token ids, (count, seq)."""
    channels = torch.zeros(frame.layers, frame.ffn, dtype=torch.float64)
    groups = torch.zeros(frame.layers, frame.groups, dtype=torch.float64)
    layers = torch.zeros(frame.layers, dtype=torch.float64)
    hooks = []
    for at, layer in enumerate(network.model.layers):
        hooks += [
            layer.mlp.down_proj.register_forward_pre_hook(_squares(channels[at])),
            layer.self_attn.o_proj.register_forward_pre_hook(_written(groups[at], frame)),
            layer.register_forward_hook(_turned(layers, at)),
        ]
    done = 0
    try:
        with torch.inference_mode():
            for part in torch.split(rows, max(1, EVAL_TOKENS // rows.shape[1])):
                network(input_ids=part, use_cache=False)
                done += part.numel()
                say(Progress(stage="score", done=done, total=rows.numel(), unit="tokens"))
    finally:
        for hook in hooks:
            hook.remove()
    for at, layer in enumerate(network.model.layers):
        norms = layer.mlp.down_proj.weight.detach().double().norm(dim=0)
        channels[at] = (channels[at] / done).sqrt() * norms
    scores = Scores(channels, (groups / done).sqrt(), layers / done, done)
    for table in (scores.channels, scores.groups, scores.layers):
        if not torch.isfinite(table).all():
            raise LocalError("E0609", "the base answers the text with NaN or infinite numbers")
    return scores


def choose(scores: Scores, parent: str, frame: Frame, size: Size) -> Cut:
    """The cut that keeps the parts of the highest scores; a smaller size gives a nested cut.

    Each share is rounded, to at least one; LocalError E0204 if one is not in (0, 1].
    """
    for share in (size.ffn, size.heads, size.depth):
        if not 0 < share <= 1:
            raise LocalError("E0204", f"a share to keep is above 0 and at most 1, not {share}")
    channels = min(frame.ffn, max(1, round(size.ffn * frame.ffn / STEP) * STEP))
    groups = max(1, round(size.heads * frame.groups))
    depth = max(1, round(size.depth * frame.layers))
    return blocks.make(
        parent,
        frame,
        {
            layer: (best(scores.channels[layer], channels), best(scores.groups[layer], groups))
            for layer in best(scores.layers, depth)
        },
    )


def best(scores: torch.Tensor, count: int) -> Sequence[int]:
    """The positions of the highest scores; of equal ones the first."""
    order: list[int] = torch.sort(scores, descending=True, stable=True).indices.tolist()
    return order[:count]


def _squares(total: torch.Tensor) -> Any:
    def add(_module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        total.add_(given[0].flatten(0, -2).double().square().sum(0))

    return add


def _written(total: torch.Tensor, frame: Frame) -> Any:
    wide = frame.heads * frame.head_dim

    def add(module: Any, given: tuple[torch.Tensor]) -> None:
        read = given[0].flatten(0, -2)
        for group in range(frame.groups):
            part = slice(group * wide, (group + 1) * wide)
            total[group] += (read[:, part] @ module.weight[:, part].T).double().square().sum()

    return add


def _turned(totals: torch.Tensor, at: int) -> Any:
    def add(_module: torch.nn.Module, given: Any, answer: Any) -> None:
        after = (answer[0] if isinstance(answer, tuple) else answer).flatten(0, -2).float()
        same = torch.cosine_similarity(given[0].flatten(0, -2).float(), after, dim=-1)
        totals[at] += (1 - same).double().sum()

    return add
