"""What rounds with blocks are held against: the whole model everywhere, and clients alone."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch.nn import functional

from p2pllm.learn.rounds import CLIP, Client, Rules, fold, local


class Rival(msgspec.Struct, frozen=True):
    """Who trains what by FedAvg."""

    clients: Sequence[Client]
    rules: Rules
    everything: bool  # embeddings and norms too, which no adapter reaches


def fedavg(parent: Any, rival: Rival, count: int, after: Callable[[], None]) -> None:
    """FedAvg (McMahan et al. 2017): everybody trains the whole model in full; the mean."""
    clients, rules = rival.clients, rival.rules
    total = sum(client.weight for client in clients)
    for number in range(count):
        start = {name: value.clone() for name, value in parent.state_dict().items()}
        moved = {name: torch.zeros_like(value) for name, value in start.items()}
        for client in clients:
            network = copy.deepcopy(parent)
            _train(network, client, rules, number, rival.everything)
            for name, value in network.state_dict().items():
                moved[name] += (value - start[name]) * (client.weight / total)
        parent.load_state_dict({name: start[name] + moved[name] for name in start})
        after()


def alone(client: Client, rules: Rules, count: int) -> None:
    """A client that keeps to itself: as many tunings as there are rounds."""
    for number in range(count):
        change, _loss = local(client, rules, number)
        fold(client.network, change)


def _train(network: Any, client: Client, rules: Rules, number: int, everything: bool) -> None:
    rng = random.Random(f"{rules.seed}/{number}/{client.name}")
    trained = [network.get_submodule(name).weight for name in client.parts]
    if everything:
        trained = list(network.parameters())
    for weight in trained:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(trained, lr=rules.lr, weight_decay=0.0)
    for step in range(rules.steps):
        rows = client.rows[[rng.randrange(len(client.rows)) for _ in range(rules.batch)]]
        logits = network(input_ids=rows, use_cache=False).logits[:, :-1].float()
        functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rules.lr * min(1.0, (step + 1) / 3) * (1 - 0.9 * step / rules.steps)
        optimizer.step()
        optimizer.zero_grad()
    network.requires_grad_(False)
