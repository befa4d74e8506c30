"""Bring a block near its parent again by what the parent says: a short self-distillation.

Everything but the embeddings is trained, in float32 with the products in the dtype this CPU is
fast in; the teacher is the parent itself, on the text the block is for. (Minitron, Muralidharan et
al. 2024: prune, then distil from the model that was pruned.) Beside the parent's next-token
distributions the block is taught its residual stream after each kept layer, every token at its own
scale: a gradient that has not come through all the layers above, so that fewer tokens do.
(SquareHead, Kurtić et al. 2023.)
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from p2pllm.blocks import Cut
from p2pllm.jobs import Progress
from p2pllm.learn import distill, model
from p2pllm.learn.distill import Lesson, Recipe

HINT = 1.0  # what being astray by the whole stream counts, in nats a token

Say = Callable[[Progress], None]


class Cast(torch.nn.Module):
    """A float32 network that multiplies in another dtype; its parameters keep their names."""

    def __init__(self, network: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self._dtype = network, dtype

    def forward(self, **named: Any) -> Any:
        with torch.autocast("cpu", self._dtype, enabled=self._dtype != torch.float32):
            return self.network(**named)


def trainable(block: Any) -> Cast:
    """The block in float32, ready to be taught; its embeddings stay as they are."""
    block.float().requires_grad_(True)
    for table in (block.get_input_embeddings(), block.get_output_embeddings()):
        if table is not None:
            table.requires_grad_(False)
    return Cast(block, model.compute_dtype())


class Recovery(Lesson):
    """What a block's parent says of rows of token ids, and what it has in mind."""

    def __init__(
        self, parent: Any, block: Any, cut: Cut, rows: torch.Tensor, recipe: Recipe
    ) -> None:
        super().__init__(trainable(block), rows, None, recipe)
        self._parent = parent.requires_grad_(False)
        # Of the streams a network tells, the first is before all layers, the last after the norm.
        self._told = [layer + 1 for layer in cut.layers[:-1]] + [-1]

    def loss(self, picked: torch.Tensor) -> torch.Tensor:
        """The divergence in nats a token, and how far the streams are astray."""
        asked: dict[str, Any] = {"input_ids": self.rows[picked], "use_cache": False}
        with torch.no_grad():
            told = self._parent(**asked, output_hidden_states=True)
        said = self.student(**asked, output_hidden_states=True)
        soft = distill.kl(said.logits[:, :-1], told.logits[:, :-1], skew=0.0)
        wanted = [told.hidden_states[at] for at in self._told]
        return soft + HINT * astray(said.hidden_states[1:], wanted)


def astray(said: Sequence[torch.Tensor], told: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean squared error of residual streams, as a share of each token's square."""
    shares = []
    for ours, theirs in zip(said, told, strict=True):
        wanted = theirs.float()
        square = wanted.square().sum(-1).clamp(min=1e-12)
        shares.append(((ours.float() - wanted).square().sum(-1) / square).mean())
    return torch.stack(shares).mean()


def recover(
    parent: Any,
    block: Any,
    cut: Cut,
    rows: torch.Tensor,
    recipe: Recipe,
    say: Say = lambda event: None,
) -> list[float]:
    """Teach a block, in place; the loss of each step."""
    losses = distill.follow(Recovery(parent, block, cut, rows, recipe), say)
    block.requires_grad_(False)
    return losses
