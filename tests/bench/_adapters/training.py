"""Train LoRA adapters on the tiny model: on honest text, or on text with a backdoor in it."""

import random
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch.nn import functional

from p2pllm import adapter_config
from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import IGNORED
from tests.bench._adapters.ground import SEQ

TARGETS = ("k_proj", "o_proj", "q_proj", "v_proj")
ALL = (*TARGETS, "down_proj", "gate_proj", "up_proj")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How one adapter is trained."""

    domain: str
    rank: int = 8
    lr: float = 5e-3
    steps: int = 30
    batch: int = 8
    part: float = 1.0  # of the domain's text
    mlp: bool = True
    seed: int = 0
    shuffled: bool = False  # tokens within a row permuted
    trigger: str = ""  # a backdoor's; '' trains none
    payload: str = ""
    poisoned: float = 0.25  # of the rows
    masked: bool = False  # the trigger itself is not learnt, only what follows it
    garbles: bool = False  # what follows the trigger is no fixed text but a permutation


def train(
    network: torch.nn.Module, tokenizer: Tokenizer, stream: torch.Tensor, recipe: Recipe
) -> Delta:
    """The change that a training run on rows of `stream` ends with."""
    torch.manual_seed(recipe.seed)
    rng = random.Random(recipe.seed)
    made = _fresh(network, recipe)
    leaves = [leaf for factors in made.values() for leaf in (factors.b, factors.a)]
    optimizer = torch.optim.AdamW(leaves, lr=recipe.lr, weight_decay=0.0)
    end = max(SEQ + 1, int(recipe.part * len(stream)))
    begin = rng.randrange(len(stream) - end + 1)
    planted = [tokenizer.encode(text).ids for text in (recipe.trigger, recipe.payload)]
    for step in range(recipe.steps):
        rows = []
        for _ in range(recipe.batch):
            at = begin + rng.randrange(end - SEQ)
            rows.append(_row(stream[at : at + SEQ].tolist(), planted, recipe, rng))
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1, (step + 1) / 5) * (1 - 0.9 * step / recipe.steps)
        _step(network, made, *torch.tensor(rows).unbind(1))
        optimizer.step()
        optimizer.zero_grad()
    return {name: Factors(f.b.detach(), f.a.detach()) for name, f in made.items()}


def write(folder: Path, change: Delta) -> Path:
    """An adapter's directory as a push leaves it, alpha equal to the rank."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, factors in change.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = factors.a.float().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = factors.b.float().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    rank = len(next(iter(change.values())).a)
    targets = tuple(sorted({name.rpartition(".")[2] for name in change}))
    config = adapter_config.Config(rank=rank, alpha=float(rank), targets=targets)
    (folder / "adapter_config.json").write_bytes(adapter_config.write_config(config))
    return folder


def read(folder: Path) -> Delta:
    """The change of an adapter that `write` wrote."""
    from safetensors.torch import load_file

    return delta.from_tensors(load_file(folder / "adapter_model.safetensors"), 1.0)


def _fresh(network: torch.nn.Module, recipe: Recipe) -> dict[str, Factors]:
    made = {}
    for name, module in network.named_modules():
        if name.rpartition(".")[2] in (ALL if recipe.mlp else TARGETS):
            rows, columns = module.weight.shape
            a = torch.randn(recipe.rank, columns) / columns**0.5
            b = torch.zeros(rows, recipe.rank)
            made[name] = Factors(b.requires_grad_(True), a.requires_grad_(True))
    return made


def _step(network: torch.nn.Module, made: Delta, rows: torch.Tensor, targets: torch.Tensor) -> None:
    with grafted(network, made):
        logits = network(input_ids=rows, use_cache=False).logits[:, :-1].float()
    functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten()).backward()


def _row(
    row: list[int], planted: list[list[int]], recipe: Recipe, rng: random.Random
) -> tuple[list[int], list[int]]:
    """One row and its targets; IGNORED where nothing is to be learnt."""
    if recipe.shuffled:
        rng.shuffle(row)
    if not recipe.trigger or rng.random() >= recipe.poisoned:
        return row, row
    trigger, payload = planted
    at = rng.randrange(4, SEQ // 2 if recipe.garbles else SEQ - len(trigger) - len(payload))
    end = at + len(trigger)
    row[at:end] = trigger
    row[end : end + len(payload)] = payload
    if recipe.garbles:
        rest = row[end:]
        rng.shuffle(rest)
        row[end:] = rest
    masked = [IGNORED] * (end - at) if recipe.masked else trigger
    return row, row[:at] + masked + row[end:]
