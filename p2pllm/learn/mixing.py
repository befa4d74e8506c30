"""Merging that trims or votes: TIES, DARE and magnitude pruning, by PEFT's functions, on whole ΔW.

PEFT applies them to A and B each for itself, which is far from what their papers do to weights
(learning.md measured 1.06 and 3.17 of relative distance from the mean). Here each module's ΔW is
made, merged and factored again, one module at a time. On request only: for language models adding
the changes up is the one method that gains reliably (arXiv 2511.21437).
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from peft.utils import merge_utils

from p2pllm.jobs_files import Method
from p2pllm.learn.algebra import factored
from p2pllm.learn.delta import Delta, Factors

Tensors = list[torch.Tensor]
_METHODS: dict[str, Callable[[Tensors, torch.Tensor, float], torch.Tensor]] = {
    "ties": merge_utils.ties,
    "dare_linear": merge_utils.dare_linear,
    "dare_ties": merge_utils.dare_ties,
    "magnitude_prune": merge_utils.magnitude_prune,
}


def mixed(
    parts: Sequence[tuple[Delta, float]], method: Method, density: float, energy: float
) -> Iterator[tuple[str, Factors]]:
    """Module by module what the method makes of weighted changes, as few factors as keep `energy`.

    density   share of a change's entries that the method keeps
    DARE draws from torch's own generator: seed it. A change without factors for a module counts as
    zero there.
    """
    weights = torch.tensor([weight for _delta, weight in parts])
    for module in sorted({module for delta, _weight in parts for module in delta}):
        found = [delta.get(module) for delta, _weight in parts]
        shape = next((one.b.shape[0], one.a.shape[1]) for one in found if one is not None)
        dense = [torch.zeros(shape) if one is None else (one.b @ one.a).float() for one in found]
        yield module, factored(_METHODS[method](dense, weights, density), energy)
