"""Rounds: everybody stands on the same sum of steps, and each client counts as it should."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from p2pllm import blocks
from p2pllm.learn import algebra, carve, model, rounds
from p2pllm.learn.delta import Delta, stack
from p2pllm.learn.rounds import Client, Rules

PARENT = "ab" * 32
LAYERS: list[dict[int, tuple[Any, Any]]] = [
    {0: (range(64), [0, 1]), 1: (range(64), [0, 1])},
    {0: (range(0, 64, 2), [0, 1]), 1: (range(32), [0, 1])},
    {1: (range(24), [1])},
]
RULES = Rules(steps=3, batch=4, lr=2e-2, momentum=0.5)


@pytest.fixture
def world(base_dir: Path, tmp_path: Path) -> tuple[list[Client], Any]:
    """Three shapes, three ranks, three texts."""
    source = torch.Generator().manual_seed(0)
    clients = []
    for number, layers in enumerate(LAYERS):
        cut = blocks.make(PARENT, blocks.frame_in(base_dir), layers)
        carve.cut_block(base_dir, cut, tmp_path / str(number))
        clients.append(
            Client(
                name=str(number),
                network=load(tmp_path / str(number)),
                parts=carve.parts(cut),
                rows=torch.randint(0, 400, (6, 12), generator=source),
                rank=(8, 4, 2)[number],
                weight=float(number + 1),
            )
        )
    return clients, load(base_dir)


def load(folder: Path) -> Any:
    config = model.load_config(folder)
    return model.load_base(folder, config, torch.float32).requires_grad_(False)


def moved(network: Any, before: Any) -> dict[str, torch.Tensor]:
    return {
        name.removesuffix(".weight"): (value - dict(before.named_parameters())[name]).double()
        for name, value in network.named_parameters()
        if "_proj" in name
    }


def whole(change: Delta) -> dict[str, torch.Tensor]:
    return {name: factors.b @ factors.a for name, factors in change.items()}


def test_parent_and_blocks_move_by_the_same_sum(world: tuple[list[Client], Any]) -> None:
    clients, parent = world
    before = copy.deepcopy([parent, *(client.network for client in clients)])
    played = list(rounds.play(clients, parent, RULES, 3, lambda event: None))
    total = stack([(one.step, 1.0) for one in played])
    for name, change in moved(parent, before[0]).items():
        assert torch.allclose(change, whole(total)[name], atol=1e-5)
    for client, old in zip(clients, before[1:], strict=True):
        wanted = whole(algebra.restrict(total, client.parts))
        for name, change in moved(client.network, old).items():
            assert torch.allclose(change, wanted[name], atol=1e-5)
    assert moved(parent, before[0])["model.layers.0.mlp.up_proj"].norm() > 1e-3


def test_the_step_is_the_balanced_mean_over_those_who_have_an_entry(
    world: tuple[list[Client], Any],
) -> None:
    clients, parent = world
    [played] = rounds.play(clients, parent, RULES, 1, lambda event: None)
    changes = [whole(algebra.lift(update.delta, update.parts)) for update in played.updates]
    weights = [update.weight for update in algebra.balanced(played.updates)]
    assert weights != pytest.approx([1 / 6, 2 / 6, 3 / 6])
    step = whole(played.step)
    up = "model.layers.1.mlp.up_proj"
    all_three = sum(n * change[up] for n, change in zip(weights, changes, strict=True))
    assert torch.allclose(step[up][:24], all_three[:24] / sum(weights))
    two = (weights[0] * changes[0][up] + weights[1] * changes[1][up]) / sum(weights[:2])
    assert torch.allclose(step[up][24:32], two[24:32])
    assert torch.allclose(step[up][32:], changes[0][up][32:])


@pytest.mark.parametrize(("rule", "own"), [("steps", "pace"), ("lr", "rate")])
def test_a_client_of_twice_the_pace_or_rate_has_twice_of_it(
    world: tuple[list[Client], Any], rule: str, own: str
) -> None:
    client = world[0][1]
    twice = msgspec.structs.replace(RULES, **{rule: 2 * getattr(RULES, rule)})
    fast = msgspec.structs.replace(client, **{own: 2.0})
    wanted, _loss = rounds.local(client, twice, 0)
    got, _loss = rounds.local(fast, RULES, 0)
    slow, _loss = rounds.local(client, RULES, 0)
    for name, factors in wanted.items():
        assert torch.equal(got[name].b, factors.b)
        assert not torch.equal(slow[name].b, factors.b)


def test_equal_rounds_are_equal(world: tuple[list[Client], Any]) -> None:
    clients, parent = world
    again = copy.deepcopy((clients, parent))
    [one] = rounds.play(clients, parent, RULES, 1, lambda event: None)
    [two] = rounds.play(*again, RULES, 1, lambda event: None)
    for name, factors in one.step.items():
        assert torch.equal(factors.b, two.step[name].b)
    assert one.losses == two.losses


def test_slim_keeps_the_change_and_bounds_its_rank(world: tuple[list[Client], Any]) -> None:
    clients, _parent = world
    change, _loss = rounds.local(clients[0], RULES, 0)
    many = algebra.aggregate([algebra.Update(change)] * 12)
    slim = rounds.slim(many)
    for name, factors in slim.items():
        assert factors.a.shape[0] <= min(factors.b.shape[0], factors.a.shape[1])
        assert torch.allclose(factors.b @ factors.a, many[name].b @ many[name].a)
