"""A small student taught by a larger model: by labels, by whole distributions, by cached ones.

`python -m tests.bench distill [--steps 600] [--seeds 3] [--work DIR] [--short]`. The teacher is the
0.85-million-parameter model of `_adapters/ground.py`; the student has a third of its parameters and
starts from nothing; all ways see the same rows in the same order. Losses are nats a token on
documents that neither has read, means over seeds; `distilled_loss` is that of cached answers, half
the likeliest and half draws. With a work directory a run that was cut off goes on. `--short` uses
a smaller teacher and less text: it shows that it works, not how well.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import LlamaForCausalLM

from p2pllm import corpus
from p2pllm.ids import content_id
from p2pllm.learn import distill, measure, model
from p2pllm.learn.distill import Asked, Live, Recipe, Teacher
from p2pllm.logit_cache import Caching, bytes_per_token
from tests.bench._adapters import ground

WAYS = ("hard", "full", "mixed", "sampled", "top")
KEPT: dict[str, Caching] = {
    "mixed": Caching(keep=24, kind="mixed"),
    "sampled": Caching(keep=24, kind="sampled"),
    "top": Caching(keep=16, kind="top"),
}
HELD_TOKENS = 8192


class World:
    """Teacher, rows to learn from and passages to measure on."""

    def __init__(self, work: Path, given: argparse.Namespace) -> None:
        self.work, self.given = work, given
        base = ground.make_base(work, given.base_steps)
        self.tokenizer = model.load_tokenizer(base)
        self.tokenizer_id = distill.require_same_tokenizer(base, base)
        config = model.load_config(base)
        self.teacher = model.load_base(base, config, torch.float32).requires_grad_(False)
        texts = [corpus.split(ground.documents(name), 0.1) for name in ground.GENERAL]
        stream = torch.cat([ground.tokens(self.tokenizer, learnt) for learnt, _held in texts])
        count = min(given.steps * given.batch, len(stream) // ground.SEQ)
        self.rows = ground.rows_of(stream)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(0))
        self.rows = self.rows[order[:count]]
        held = [text for _learnt, part in texts for text in part]
        self.held = measure.passages(self.tokenizer, held, given.held_tokens, ground.SEQ)

    def loss(self, network: torch.nn.Module) -> float:
        return measure.score(network, self.held, "measure", lambda event: None).nats_per_token

    def source(self, way: str) -> Teacher | None:
        if way == "hard":
            return None
        if way == "full":
            return Live(self.teacher, self.rows)
        path = self.work / f"{way}-{len(self.rows)}.logits"
        if path.is_file():
            return distill.LogitCache(path)
        asked = Asked(content_id(b"ground"), self.tokenizer_id, KEPT[way])
        return distill.cache_logits(self.teacher, self.rows, path, asked, lambda event: None)

    def student(self, seed: int) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        return ground.untrained(width=64, layers=2, heads=2)


def main(argv: list[str]) -> dict[str, Any]:
    given = _arguments(argv)
    torch.set_num_threads(1)
    with ground.work_folder(given.work) as work:
        world = World(work, given)
        seeds = {way: range(1 if way == "top" else given.seeds) for way in WAYS}
        found = {way: [_run(world, way, seed) for seed in seeds[way]] for way in WAYS}
        return _report(world, found)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="distill", description=__doc__)
    parser.add_argument("--base-steps", type=int, default=1400)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--hard", type=float, default=0.3, help="share of the labels when taught")
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-tokens", type=int, default=HELD_TOKENS)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    if given.short:
        given.base_steps, given.steps, given.seeds, given.held_tokens = 40, 16, 1, 512
    return given


def _run(world: World, way: str, seed: int) -> float:
    """The held-out loss of one student; read again if it was measured before."""
    given = world.given
    recipe = Recipe(
        steps=given.steps,
        batch=given.batch,
        lr=given.lr,
        hard=given.hard,
        skew=given.skew,
        warm=30,
        seed=seed,
    )
    said = [recipe, given.base_steps, given.held_tokens, way, KEPT.get(way)]
    kept = world.work / f"student-{content_id(msgspec.json.encode(said))[:16]}"
    if not kept.is_file():
        student = world.student(seed)
        distill.distill(student, world.rows, world.source(way), recipe, _tell(way, seed))
        kept.write_text(str(world.loss(student)))
        print(f"{way} seed {seed}: {float(kept.read_text()):.4f}", file=sys.stderr)
    return float(kept.read_text())


def _tell(way: str, seed: int) -> Callable[[Any], None]:
    def tell(event: Any) -> None:
        if event.done % 200 == 0:
            left = f"{event.eta_s:.0f} s left"
            print(f"{way} {seed}: step {event.done} {event.loss:.3f} {left}", file=sys.stderr)

    return tell


def _report(world: World, found: dict[str, list[float]]) -> dict[str, Any]:
    mean = {way: statistics.fmean(losses) for way, losses in found.items()}
    caches = {way: world.source(way) for way in KEPT}
    sizes = {w: bytes_per_token(c.about) for w, c in caches.items() if hasattr(c, "about")}
    return {
        "short": world.given.short,
        "hard_loss": mean["hard"],
        "distilled_loss": mean["mixed"],
        "full_logit_loss": mean["full"],
        "bytes_per_token": sizes["mixed"],
        "sampled_loss": mean["sampled"],
        "top_loss": mean["top"],
        "teacher_loss": world.loss(world.teacher),
        "better_by": 1 - mean["mixed"] / mean["hard"],
        "sparse_over_full": mean["mixed"] / mean["full"] - 1,
        "losses": found,
        "std": {way: statistics.pstdev(losses) for way, losses in found.items()},
        "better_by_seed": _apart(found["mixed"], found["hard"]),
        "sparse_over_full_by_seed": _apart(found["mixed"], found["full"]),
        "train_tokens": world.given.steps * world.given.batch * ground.SEQ,
        "held_tokens": world.held.tokens,
        "teacher_params": sum(p.numel() for p in world.teacher.parameters()),
        "student_params": sum(p.numel() for p in world.student(0).parameters()),
    }


def _apart(ours: list[float], theirs: list[float]) -> list[float]:
    """How far our loss is above theirs, a share, seed by seed."""
    return [one / other - 1 for one, other in zip(ours, theirs, strict=True)]
