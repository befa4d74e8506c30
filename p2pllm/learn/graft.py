"""A base with changes laid on it for the length of a block: b (a x) added to each module's answer.

Exact for any number of stacked changes, and the base's own weights are never touched, so one copy
in memory is probed with and without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from p2pllm.learn.delta import Delta


@contextmanager
def grafted(network: torch.nn.Module, delta: Delta | None) -> Iterator[torch.nn.Module]:
    """The network as the change makes it; as it was when the block ends. None changes nothing."""
    dtype = next(network.parameters()).dtype
    hooks = [
        network.get_submodule(module).register_forward_hook(
            _adding(factors.a.float().to(dtype).T, factors.b.float().to(dtype).T)
        )
        for module, factors in (delta or {}).items()
    ]
    try:
        yield network
    finally:
        for hook in hooks:
            hook.remove()


def _adding(read: torch.Tensor, write: torch.Tensor) -> Any:
    def add(_module: torch.nn.Module, given: tuple[torch.Tensor], answer: torch.Tensor) -> Any:
        return answer + (given[0] @ read) @ write

    return add
