"""A tiny base, blocks of it, and text of four domains divided among clients."""

import argparse
import copy
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch

from p2pllm import blocks, corpus
from p2pllm.blocks import Cut
from p2pllm.learn import carve, importance, measure, model, recover, refit
from p2pllm.learn.check import hash_base
from p2pllm.learn.distill import Recipe
from p2pllm.learn.importance import Scores, Size
from p2pllm.learn.measure import Passages
from p2pllm.learn.rounds import Client, Rules
from tests.bench._adapters import ground

DOMAINS = ("medical", "law", "finance", "contracts")
SEQ = ground.SEQ


class Shape(msgspec.Struct, frozen=True):
    """What one client can afford."""

    name: str
    size: Size
    rank: int


SHAPES = (
    Shape("ffn-75", Size(ffn=0.75), 16),
    Shape("ffn-50", Size(ffn=0.5), 8),
    Shape("ffn-75-heads-50", Size(ffn=0.75, heads=0.5), 8),
    Shape("ffn-35-depth-67", Size(ffn=0.35, depth=0.67), 4),
)
WHOLE = Size()


class Share(msgspec.Struct, frozen=True):
    """What one client has read of each domain."""

    rows: torch.Tensor
    of: tuple[int, ...]  # rows by domain


class World:
    """The base, what it was calibrated on, and the text of the four domains."""

    def __init__(self, work: Path, given: argparse.Namespace) -> None:
        self.work, self.given = work, given
        self.base = ground.make_base(work, given.base_steps)
        tokenizer = model.load_tokenizer(self.base)
        self.parent = self.load(self.base)
        general = [
            corpus.split(ground.documents(name), 0.1)[0][: given.general] for name in ground.GENERAL
        ]
        stream = torch.cat([ground.tokens(tokenizer, texts) for texts in general])
        rows = ground.rows_of(stream)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        self.general = rows[order[: given.general]]
        self.rows: dict[str, torch.Tensor] = {}
        self.held: dict[str, Passages] = {}
        for name in DOMAINS:
            learnt, held = corpus.split(ground.documents(name), 0.15)
            self.rows[name] = ground.rows_of(ground.tokens(tokenizer, learnt))[: given.rows]
            self.held[name] = measure.passages(tokenizer, held, given.held_tokens, SEQ)
        frame = blocks.frame_in(self.base)
        self.frame, self.id = frame, hash_base(self.base)

    def load(self, folder: Path) -> Any:
        network = model.load_base(folder, model.load_config(folder), torch.float32)
        return network.requires_grad_(False)

    @cached_property
    def scores(self) -> Scores:
        """What the base needs for the text it has read."""
        return importance.score(self.parent, self.frame, self.general[:64], lambda event: None)

    def cut(self, size: Size) -> Cut:
        return importance.choose(self.scores, self.id, self.frame, size)

    def block(self, shape: Shape) -> tuple[Any, Cut]:
        """A block in memory, mended on what the base has read; and its cut."""
        if shape.size == WHOLE:
            return self.copied(), blocks.whole(self.id, self.frame)
        folder = self.work / f"block-{shape.name}"
        if not (folder / "config.json").is_file():
            cut = self.cut(shape.size)
            carve.cut_block(self.base, cut, folder / "raw")
            block = self.load(folder / "raw")
            refit.refit(self.parent, block, cut, self.general, lambda event: None)
            recipe = Recipe(steps=self.given.mend, lr=1e-3)
            recover.recover(self.parent, block, cut, self.general, recipe)
            carve.write(folder / "made", self.base, cut, block.state_dict())
            (folder / "made").rename(folder / "block")
            (folder / "config.json").write_bytes(b"{}\n")
        made = blocks.read(folder / "block")
        assert made is not None
        return self.load(folder / "block"), made

    def clients(
        self, shares: Sequence[Share], shapes: Sequence[Shape] = SHAPES, *, paced: bool = True
    ) -> list[Client]:
        """One for each share. The fewer weights its block has, the higher the rate it learns at,
        and, if `paced`, the more steps it does."""
        made, whole = [], self.parent.num_parameters()
        for number, (share, shape) in enumerate(zip(shares, shapes, strict=True)):
            network, cut = self.block(shape)
            smaller = whole / network.num_parameters()
            made.append(
                Client(
                    name=f"{number}-{shape.name}",
                    network=network,
                    parts=carve.parts(cut),
                    rows=share.rows,
                    rank=shape.rank,
                    weight=float(len(share.rows)),
                    pace=smaller if paced else 1.0,
                    rate=smaller**0.5,
                )
            )
        return made

    def losses(self, network: Any) -> dict[str, float]:
        """Held-out loss by domain."""
        quiet = lambda event: None  # noqa: E731
        return {
            name: measure.score(network, held, "measure", quiet).nats_per_token
            for name, held in self.held.items()
        }

    def copied(self) -> Any:
        return copy.deepcopy(self.parent)

    def apart(self) -> list[Share]:
        """Each client one domain: nothing in common."""
        found = []
        for number, name in enumerate(DOMAINS):
            count = [0] * len(DOMAINS)
            count[number] = len(self.rows[name])
            found.append(Share(self.rows[name], tuple(count)))
        return found

    def dirichlet(self, alpha: float, clients: int, seed: int) -> list[Share]:
        """Each domain's rows divided by shares drawn from Dirichlet(alpha); nobody goes without."""
        rng = random.Random(f"{alpha}/{seed}")
        parts: list[list[torch.Tensor]] = [[] for _ in range(clients)]
        for name in DOMAINS:
            drawn = [rng.gammavariate(alpha, 1.0) + 1e-9 for _ in range(clients)]
            ends = [
                round(sum(drawn[: at + 1]) / sum(drawn) * len(self.rows[name]))
                for at in range(clients)
            ]
            order = torch.randperm(
                len(self.rows[name]), generator=torch.Generator().manual_seed(seed)
            )
            for at, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
                parts[at].append(self.rows[name][order[begin:end]])
        least = self.given.batch
        for at, part in enumerate(parts):
            if sum(map(len, part)) < least:
                part[0] = torch.cat([part[0], self.rows[DOMAINS[at % len(DOMAINS)]][:least]])
        return [Share(torch.cat(part), tuple(map(len, part))) for part in parts]


def mean(losses: Mapping[str, float]) -> float:
    """The loss on the union: every domain counts the same."""
    return sum(losses.values()) / len(losses)


def rules_of(given: argparse.Namespace) -> Rules:
    return Rules(
        steps=given.steps,
        batch=given.batch,
        lr=given.lr,
        server_rate=given.server_rate,
        momentum=given.momentum,
        seed=given.seed,
    )
