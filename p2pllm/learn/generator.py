"""A model that makes up text like what it has learnt, to be learnt from in the place of the real.

Openings of real text set the subject; they are read and not kept: a row is only what follows them.
"""

from collections.abc import Callable, Sequence

import msgspec
import torch
from tokenizers import Tokenizer

from p2pllm.privacy import Gate

AT_ONCE = 64  # rows that are drawn together

Drawn = Callable[[int], None]
"""Called with how many tokens have been drawn since it was called last."""


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """How text is drawn."""

    length: int  # tokens of a row
    temperature: float = 1.0
    nucleus: float = 1.0  # the likeliest tokens of this mass alone are drawn from
    seed: int = 0


class Maker(msgspec.Struct, frozen=True):
    """Who makes up text, and what of it may stay."""

    network: torch.nn.Module
    tokenizer: Tokenizer
    gate: Gate


class Made(msgspec.Struct, frozen=True):
    """Rows that a model made up and the gate let through."""

    rows: torch.Tensor  # (count, length)
    refused: dict[str, int]  # by reason


def draw(
    network: torch.nn.Module,
    openings: torch.Tensor,
    drawing: Drawing,
    drawn: Drawn = lambda count: None,
) -> torch.Tensor:
    """What the model says after each opening, (rows, length); the openings are left out."""
    source = torch.Generator().manual_seed(drawing.seed)
    made = []
    with torch.inference_mode():
        for part in torch.split(openings, AT_ONCE):
            given, cache, row = part, None, []
            for _ in range(drawing.length):
                answer = network(input_ids=given, past_key_values=cache, use_cache=True)
                cache = answer.past_key_values
                given = _next(answer.logits[:, -1].float(), drawing, source)
                row.append(given)
                drawn(len(part))
            made.append(torch.cat(row, 1))
    return torch.cat(made)


def make_up(
    maker: Maker,
    openings: Sequence[torch.Tensor],
    drawing: Drawing,
    drawn: Drawn = lambda count: None,
) -> Made:
    """Rows after these openings, those alone that may leave the machine."""
    rows = draw(maker.network, torch.stack(list(openings)), drawing, drawn)
    before = maker.tokenizer.decode_batch([opening.tolist() for opening in openings])
    found = maker.gate.judge(maker.tokenizer.decode_batch(rows.tolist()), before)
    return Made(rows[list(found.kept)], found.refused)


def _next(logits: torch.Tensor, drawing: Drawing, source: torch.Generator) -> torch.Tensor:
    p = torch.softmax(logits / drawing.temperature, -1)
    if drawing.nucleus < 1:
        ordered, index = p.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered > drawing.nucleus] = 0
        p = torch.zeros_like(p).scatter_(-1, index, ordered)
    return torch.multinomial(p, 1, generator=source)
