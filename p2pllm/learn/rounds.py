"""Rounds of learning together with blocks of unlike shapes: tune, aggregate, push down.

Each client holds a block (or the whole base), text of its own and a rank it can afford. In a round
it tunes a fresh adapter on what its block is by now; the changes are lifted into the parent and
averaged, each entry over the clients that have it (`algebra.aggregate`), so weighed that no client
counts for more because its block is large (`algebra.balanced`); the mean, with momentum, is the
round's step of the parent and, restricted, of every block. So after each round all of them
stand on the same sum of steps. The idea is that of LEGO (arXiv 2410.18287, figure 1); exact for any
shapes and ranks, where averaging factors is not.

All in one process here, for study. Over nodes the same is done with the pieces they have: a client
tunes and pushes an adapter on its block, and who keeps the parent lifts and aggregates.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch.nn import functional

from p2pllm.jobs import Progress
from p2pllm.learn.algebra import Parts, Update, aggregate, balanced, restrict
from p2pllm.learn.delta import Delta, Factors, stack
from p2pllm.learn.graft import grafted

SPREAD = 3.0  # of the fresh half of an adapter, in units of 1 / sqrt(columns): rounds are short
CLIP = 1.0  # norm of the gradient at most

Say = Callable[[Progress], None]


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """One participant. Its rows stay with it: only changes come out of a round."""

    name: str
    network: Any  # its block in memory; a round changes it
    parts: Parts  # where the block's modules stand in the parent, see `carve.parts`
    rows: torch.Tensor  # (count, seq) token ids
    rank: int = 8
    weight: float = 1.0
    pace: float = 1.0  # how many steps it does in the time of one: a smaller block is faster
    rate: float = 1.0  # of the learning rate: a smaller block bears, and needs, a higher one


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a round goes."""

    steps: int = 20  # of each client, times its pace
    batch: int = 8
    lr: float = 5e-3
    server_rate: float = 1.0  # how much of the mean is taken
    momentum: float = 0.0  # of the server: how much of the last step is taken again
    seed: int = 0


class Round(msgspec.Struct, frozen=True):
    """What came of one round."""

    updates: tuple[Update, ...]  # in the order of the clients, in their blocks' names
    step: Delta  # what the parent moved by, momentum included
    losses: tuple[float, ...]  # of each client on its own rows, at its last step


def play(
    clients: Sequence[Client], parent: Any, rules: Rules, count: int, say: Say
) -> Iterable[Round]:
    """Play so many rounds; each is handed out as soon as every model has it.

    parent   the whole base in memory; it moves by every round's step
    """
    last: Delta = {}
    for number in range(count):
        updates, losses = [], []
        for at, client in enumerate(clients):
            change, loss = local(client, rules, number)
            updates.append(Update(change, client.weight, client.parts))
            losses.append(loss)
            done = number * len(clients) + at + 1
            total = count * len(clients)
            say(Progress(stage="rounds", done=done, total=total, unit="tunings", loss=loss))
        last = step_of(updates, last, rules)
        push_down(clients, parent, last)
        yield Round(tuple(updates), last, tuple(losses))


def step_of(updates: Sequence[Update], last: Delta, rules: Rules) -> Delta:
    """What the parent moves by: the mean of the changes, and some of its last step."""
    parts = [(aggregate(balanced(updates)), rules.server_rate)]
    if last and rules.momentum:
        parts.append((last, rules.momentum))
    return slim(stack(parts))


def push_down(clients: Iterable[Client], parent: Any, step: Delta) -> None:
    """Move the parent by a step, and every block by what of it the block has."""
    fold(parent, step)
    for client in clients:
        fold(client.network, restrict(step, client.parts))


def fold(network: Any, change: Delta) -> None:
    """Add a change to the weights themselves."""
    with torch.no_grad():
        for module, factors in change.items():
            weight = network.get_submodule(module).weight
            weight += (factors.b @ factors.a).to(weight.dtype)


def slim(change: Delta) -> Delta:
    """The same change in as few columns as its matrix has rows or columns, where it has more."""
    made = {}
    for module, factors in change.items():
        rows, rank, columns = factors.b.shape[0], factors.a.shape[0], factors.a.shape[1]
        if rank > min(rows, columns):
            whole = factors.b @ factors.a
            unit = torch.eye(min(rows, columns), dtype=whole.dtype)
            factors = Factors(unit, whole) if rows <= columns else Factors(whole, unit)
        made[module] = factors
    return made


def local(client: Client, rules: Rules, number: int) -> tuple[Delta, float]:
    """One client's tuning of one round: its change, and the loss of the last step."""
    rng = random.Random(f"{rules.seed}/{number}/{client.name}")
    source = torch.Generator().manual_seed(rng.randrange(2**31))
    made = _fresh(client, source)
    leaves = [leaf for factors in made.values() for leaf in (factors.b, factors.a)]
    rate = rules.lr * client.rate
    optimizer = torch.optim.AdamW(leaves, lr=rate, weight_decay=0.0)
    client.network.requires_grad_(False)
    loss, steps = 0.0, round(rules.steps * client.pace)
    for step in range(steps):
        picked = [rng.randrange(len(client.rows)) for _ in range(rules.batch)]
        rows = client.rows[picked]
        with grafted(client.network, made):
            logits = client.network(input_ids=rows, use_cache=False).logits[:, :-1].float()
        answer = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        answer.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(leaves, CLIP)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 3) * (1 - 0.9 * step / steps)
        optimizer.step()
        optimizer.zero_grad()
        loss = answer.item()
    return {name: _detached(factors) for name, factors in made.items()}, loss


def _fresh(client: Client, source: torch.Generator) -> Mapping[str, Factors]:
    made = {}
    for name in sorted(client.parts):
        rows, columns = client.network.get_submodule(name).weight.shape
        a = SPREAD * torch.randn(client.rank, columns, generator=source) / columns**0.5
        b = torch.zeros(rows, client.rank)
        made[name] = Factors(b.requires_grad_(True), a.requires_grad_(True))
    return made


def _detached(factors: Factors) -> Factors:
    return Factors(factors.b.detach().double(), factors.a.detach().double())
