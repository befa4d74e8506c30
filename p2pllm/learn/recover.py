"""Bring a block near its parent again by what the parent says: a short self-distillation.

Everything but the embeddings is trained, in float32 with the products in the dtype this CPU is
fast in; the teacher is the parent itself, on the text the block is for. (Minitron, Muralidharan et
al. 2024: prune, then distil from the model that was pruned.)
"""

from collections.abc import Callable
from typing import Any

import torch

from p2pllm.jobs import Progress
from p2pllm.learn import distill, model
from p2pllm.learn.distill import Live, Recipe

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


def recover(
    parent: Any, block: Any, rows: torch.Tensor, recipe: Recipe, say: Say = lambda event: None
) -> list[float]:
    """Teach a block, in place, what its parent says of rows of token ids; the loss of each step."""
    student = trainable(block)
    parent.requires_grad_(False)
    losses = distill.distill(student, rows, Live(parent, rows), recipe, say)
    block.requires_grad_(False)
    return losses
