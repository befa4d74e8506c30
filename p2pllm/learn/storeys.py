"""Go through a network a layer at a time: what stands between layers is all that is held."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Call = dict[str, Any]


def calls(network: Any, row: torch.Tensor) -> list[Call]:
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


def run(layer: Any, stream: torch.Tensor, call: Call) -> torch.Tensor:
    """The residual stream after a layer."""
    answer = layer(stream, **call)
    after: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
    return after


@contextmanager
def reading(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What a module is given while the block runs."""
    found: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, given: found.append(given[0]))
    try:
        yield found
    finally:
        hook.remove()


def inverse_squares(stream: torch.Tensor) -> torch.Tensor:
    """How much each token counts, (tokens, 1): the norms after a layer see it at length one."""
    return stream.flatten(0, -2).float().square().mean(-1, keepdim=True).clamp(min=1e-12).rsqrt()
