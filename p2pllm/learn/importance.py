"""Which parts of a base a text needs most: one pass over it, and what to keep of each layer.

Channels are ranked by taking them away: some at a time go whose loss the rest can make up for best,
and the rest does, by least squares, before the next ones are looked for. What a channel costs is
|its column of `down_proj`|² over its entry on the diagonal of the inverse of H, the products of
activations (Optimal Brain Surgeon, Hassibi 1993; over structures as in ZipLM, Kurtić et al. 2023).
So of two channels that say the same one goes early, which no score of single channels sees.
A group's score is the root mean square of what its heads add through `o_proj` (FLAP). A layer's is
one minus the cosine of the residual stream before and after it (ShortGPT, Men et al. 2024).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch

from p2pllm import blocks
from p2pllm.blocks import Cut, Frame
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.learn import storeys
from p2pllm.learn.memory import EVAL_TOKENS

STEP = 8  # a share of the width is rounded to a multiple of this: odd widths are slow
STAGES = 32  # in which the channels of a layer go
RIDGE = 0.03  # of the mean energy of a channel

Say = Callable[[Progress], None]


class Scores(msgspec.Struct, frozen=True):
    """How much each part does; higher is more."""

    channels: torch.Tensor  # (layers, channels): which goes when
    groups: torch.Tensor  # (layers, groups)
    layers: torch.Tensor  # (layers,)
    tokens: int  # it was read off


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a base to keep, in shares of what it has."""

    ffn: float = 1.0
    heads: float = 1.0
    depth: float = 1.0


def score(network: Any, frame: Frame, rows: torch.Tensor, say: Say) -> Scores:
    """Score every part of a base on rows of token ids, (count, seq), a layer at a time."""
    split = torch.split(rows, max(1, EVAL_TOKENS // rows.shape[1]))
    channels, groups, turned = [], [], []
    began = time.monotonic()
    with torch.inference_mode():
        calls = storeys.calls(network, rows[:1])
        streams = [network.model.embed_tokens(part) for part in split]
        for number, layer in enumerate(network.model.layers):
            table = _Table(layer, frame)
            streams = [table.through(stream, calls[number]) for stream in streams]
            channels.append(order(table.products, layer.mlp.down_proj.weight))
            groups.append((table.groups / rows.numel()).sqrt())
            turned.append(table.turned / rows.numel())
            done, total = number + 1, frame.layers
            left = (time.monotonic() - began) / done * (total - done)
            say(Progress(stage="score", done=done, total=total, unit="layers", eta_s=left))
    return Scores(torch.stack(channels), torch.stack(groups), torch.stack(turned), rows.numel())


def order(products: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """When each channel goes, 0 the first, taken away as the module's first words say.

    products   sums of products of the channels' activations, (channels, channels)
    weight     what reads them, (hidden, channels)
    """
    count = len(products)
    left, gone = torch.arange(count), torch.zeros(count, dtype=torch.float64)
    ridge = RIDGE * float(products.diagonal().mean()) + 1e-12
    inverse = torch.linalg.inv(products.double() + ridge * torch.eye(count, dtype=torch.float64))
    reads = weight.detach().double()
    step, done = -(-count // STAGES), 0
    while done < count:
        costs = reads.square().sum(0) / inverse.diagonal()
        ranked = torch.sort(costs, stable=True).indices
        out, stay = ranked[:step], ranked[step:].sort().values
        gone[left[out]] = torch.arange(done, done + len(out), dtype=torch.float64)
        across = torch.linalg.solve(inverse[out][:, out], inverse[out][:, stay])
        reads = reads[:, stay] - reads[:, out] @ across
        inverse = inverse[stay][:, stay] - inverse[stay][:, out] @ across
        left, done = left[stay], done + len(out)
    return gone


class _Table:
    """What one layer does to a text."""

    def __init__(self, layer: Any, frame: Frame) -> None:
        self._layer, self._frame = layer, frame
        self.products = torch.zeros(frame.ffn, frame.ffn)
        self.groups = torch.zeros(frame.groups, dtype=torch.float64)
        self.turned = torch.zeros((), dtype=torch.float64)

    def through(self, stream: torch.Tensor, call: storeys.Call) -> torch.Tensor:
        """The stream after the layer, and all that is to be known of its parts added up."""
        attention, feed = self._layer.self_attn.o_proj, self._layer.mlp.down_proj
        with storeys.reading(attention) as heads, storeys.reading(feed) as channels:
            after = storeys.run(self._layer, stream, call)
        read = channels[0].flatten(0, -2).float() * storeys.inverse_squares(after)
        self.products += read.T @ read
        wide = self._frame.heads * self._frame.head_dim
        for group in range(self._frame.groups):
            part = slice(group * wide, (group + 1) * wide)
            written = heads[0].flatten(0, -2)[:, part] @ attention.weight[:, part].T
            self.groups[group] += written.double().square().sum()
        same = torch.cosine_similarity(stream.float(), after.float(), dim=-1)
        self.turned += (1 - same).double().sum()
        finite = (self.products.sum(), self.groups.sum(), self.turned)
        if not torch.isfinite(torch.stack([one.double() for one in finite])).all():
            raise LocalError("E0609", "the base answers the text with NaN or infinite numbers")
        return after


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
