"""Make up for what a cut took, in closed form: each layer of a block is led back to its parent's.

Parent and block read the same text a layer at a time. In each layer the block keeps, `o_proj` and
then `down_proj` are solved for, by least squares on what the block itself reads there, so that the
residual stream comes out as near the parent's as it can: what left-out channels, heads and earlier
layers would have added is made up for by what is left. A ridge holds each matrix near its own
values, and each token counts by the inverse of its squared length, as the norms after it will see
it. One pass, no gradient; some hundred tokens for each column solved for are enough.
(Least-squares reconstruction as in FASP and FLAP, with the whole stream as the target.)
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import torch

from p2pllm.blocks import Cut
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.learn.memory import EVAL_TOKENS

RIDGE = 0.03  # of the mean energy of what a matrix reads

Say = Callable[[Progress], None]
Call = dict[str, Any]


class Stream(msgspec.Struct, frozen=True):
    """Where some rows of text stand between two layers: in the parent and in the block."""

    parent: torch.Tensor  # (rows, seq, hidden)
    block: torch.Tensor


def refit(parent: Any, block: Any, cut: Cut, rows: torch.Tensor, say: Say) -> None:
    """Solve for the block's `o_proj` and `down_proj` on rows of token ids, (count, seq).

    parent, block   networks in memory; the block is changed in place
    Raises LocalError E0609 if an answer is no number.
    """
    split = torch.split(rows, max(1, EVAL_TOKENS // rows.shape[1]))
    began = time.monotonic()
    with torch.inference_mode():
        calls = _calls(parent, rows[:1])
        streams = [
            Stream(parent.model.embed_tokens(part), block.model.embed_tokens(part))
            for part in split
        ]
        for number, layer in enumerate(parent.model.layers):
            at = cut.layers.index(number) if number in cut.layers else None
            own = None if at is None else block.model.layers[at]
            streams = _through(layer, own, calls[number], streams)
            done, total = number + 1, cut.frame.layers
            left = (time.monotonic() - began) / done * (total - done)
            say(Progress(stage="refit", done=done, total=total, unit="layers", eta_s=left))


def _calls(network: Any, row: torch.Tensor) -> list[Call]:
    """What each layer is called with beside the stream; the same for all rows of one length."""
    found: list[Call] = []

    def note(_module: torch.nn.Module, _given: Any, named: Call) -> None:
        found.append({name: value for name, value in named.items() if name != "hidden_states"})

    hooks = [
        layer.register_forward_pre_hook(note, with_kwargs=True) for layer in network.model.layers
    ]
    try:
        network.model(input_ids=row, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _through(layer: Any, own: Any, call: Call, streams: Sequence[Stream]) -> list[Stream]:
    """The streams after a layer of the parent, and after the block's, which is solved for first."""
    middles, ends = [], []
    for one in streams:
        with _reading(layer.post_attention_layernorm) as middle:
            ends.append(_run(layer, one.parent, call))
        middles.append(middle[0])
    if own is None:
        return [Stream(end, one.block) for end, one in zip(ends, streams, strict=True)]
    attention, heads = _System(own.self_attn.o_proj), []
    for one, wanted in zip(streams, middles, strict=True):
        with _reading(attention.module) as read:
            own.self_attn(hidden_states=own.input_layernorm(one.block), **call)
        attention.add(read[0], wanted, one.block)
        heads.append(read[0])
    attention.solve()
    feed = _System(own.mlp.down_proj)
    heard = []
    for one, end, head in zip(streams, ends, heads, strict=True):
        middle = one.block + attention.module(head)
        with _reading(feed.module) as read:
            own.mlp(own.post_attention_layernorm(middle))
        feed.add(read[0], end, middle)
        heard.append((read[0], middle))
    feed.solve()
    return [
        Stream(end, middle + feed.module(read))
        for end, (read, middle) in zip(ends, heard, strict=True)
    ]


class _System:
    """The least squares of one matrix: what it reads, and what it should write."""

    def __init__(self, module: Any) -> None:
        self.module = module
        rows, columns = module.weight.shape
        self._read = torch.zeros(columns, columns)
        self._crossed = torch.zeros(rows, columns)

    def add(self, read: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> None:
        """Take in some tokens: `before` plus what the matrix makes of `read` should be `wanted`."""
        x, target = read.flatten(0, -2).float(), wanted.flatten(0, -2).float()
        weight = target.square().mean(-1, keepdim=True).clamp(min=1e-12).rsqrt()
        missing = target - before.flatten(0, -2).float()
        if self.module.bias is not None:
            missing = missing - self.module.bias.float()
        x, missing = x * weight, missing * weight
        self._read += x.T @ x
        self._crossed += missing.T @ x

    def solve(self) -> None:
        """Put the answer in the place of the matrix."""
        read, own = self._read.double(), self.module.weight.double()
        ridge = RIDGE * float(read.diagonal().mean()) + 1e-12
        left = read + ridge * torch.eye(len(read), dtype=torch.float64)
        right = self._crossed.double() + ridge * own
        if not (torch.isfinite(left).all() and torch.isfinite(right).all()):
            raise LocalError("E0609", "the base answers the text with NaN or infinite numbers")
        found = torch.cholesky_solve(right.T, torch.linalg.cholesky(left)).T
        self.module.weight.copy_(found)


def _run(layer: Any, stream: torch.Tensor, call: Call) -> torch.Tensor:
    answer = layer(stream, **call)
    stream_after: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
    return stream_after


@contextmanager
def _reading(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What a module is given while the block runs."""
    found: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
    try:
        yield found
    finally:
        hook.remove()
