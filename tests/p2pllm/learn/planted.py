"""Changes to the tiny Llama: random ones, and ones learnt from text."""

import torch
from torch.nn import functional

from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.graft import grafted

MODULES = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")


def noise(network: torch.nn.Module, seed: int, rank: int = 4) -> dict[str, Factors]:
    """A random change of some projections in every layer."""
    source = torch.Generator().manual_seed(seed)
    made = {}
    for name, module in network.named_modules():
        if name.endswith(MODULES):
            rows, columns = module.weight.shape
            b = torch.randn(rows, rank, generator=source) * 0.1
            made[name] = Factors(b, torch.randn(rank, columns, generator=source) / columns**0.5)
    return made


def learnt(network: torch.nn.Module, rows: torch.Tensor, steps: int) -> Delta:
    """The change that training on these rows makes."""
    made = noise(network, seed=0, rank=8)
    leaves = []
    for factors in made.values():
        factors.b.zero_()
        leaves += [factors.b.requires_grad_(True), factors.a.requires_grad_(True)]
    optimizer = torch.optim.AdamW(leaves, lr=2e-2, weight_decay=0.0)
    for _ in range(steps):
        with grafted(network, made):
            logits = network(input_ids=rows, use_cache=False).logits[:, :-1]
        functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {
        name: Factors(factors.b.detach().double(), factors.a.detach().double())
        for name, factors in made.items()
    }
