"""Teach a student what a teacher knows: its whole distributions, cached ones, or labels alone.

Any module with logits is a student, and what of it takes a gradient is trained: a whole block, or
an adapter on it. The same rows in the same order whoever teaches, so that runs can be compared.
"""

import math
import random
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from torch.nn import functional

from p2pllm.errors import LocalError
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import Progress
from p2pllm.learn import model
from p2pllm.learn.divergence import Sparse, keep, kl
from p2pllm.learn.logits import Asked, LogitCache, cache_logits
from p2pllm.learn.memory import MICRO_TOKENS
from p2pllm.logit_cache import Kind

__all__ = ["Asked", "Live", "LogitCache", "Recipe", "Sparse", "cache_logits", "distill", "keep"]
__all__ += ["kl", "require_same_tokenizer"]

CLIP = 1.0  # norm of the gradient at most

Say = Callable[[Progress], None]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a student is taught."""

    steps: int
    batch: int = 8  # rows a step
    lr: float = 1e-3
    skew: float = 0.1
    reverse: bool = False
    temperature: float = 1.0
    hard: float = 0.0  # share of the loss that is the text's own next token
    warm: int = 10  # steps over which the rate rises
    final: float = 0.1  # of the rate, where it falls to by the last step
    seed: int = 0


class Teacher(Protocol):
    """Whoever answers rows of text."""

    def answers(self, picked: torch.Tensor) -> torch.Tensor | Sparse:
        """The logits, or what is kept of them, for these rows' tokens but the last."""


class Live:
    """A teacher in memory, asked anew in each step."""

    def __init__(self, network: torch.nn.Module, rows: torch.Tensor) -> None:
        self._network, self._rows = network, rows

    def answers(self, picked: torch.Tensor) -> torch.Tensor:
        """The whole logits, (rows, seq - 1, vocabulary)."""
        with torch.no_grad():
            logits: torch.Tensor = self._network(
                input_ids=self._rows[picked], use_cache=False
            ).logits[:, :-1]
        return logits


class Lesson:
    """A student, its optimizer and its step; `advance` does the next one."""

    def __init__(
        self,
        student: torch.nn.Module,
        rows: torch.Tensor,
        teacher: Teacher | None,
        recipe: Recipe,
    ) -> None:
        self.step = 0  # how many are done
        self.student, self.rows, self._teacher, self.recipe = student, rows, teacher, recipe
        self.trained = {n: p for n, p in student.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        )

    def advance(self) -> float:
        """Do one step; the loss before it. LocalError E0609 if it is no number."""
        recipe = self.recipe
        picked = torch.tensor(_picked(len(self.rows), recipe, self.step))
        total = 0.0
        for part in torch.split(picked, max(1, MICRO_TOKENS // self.rows.shape[1])):
            loss = self.loss(part) * (len(part) / len(picked))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise LocalError(
                "E0609",
                f"the loss is no number any more at step {self.step + 1}",
                fix=["teach with a lower learning rate"],
            )
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(recipe, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return total

    def loss(self, picked: torch.Tensor) -> torch.Tensor:
        """What is to become less, of these rows."""
        rows, recipe = self.rows[picked], self.recipe
        logits = self.student(input_ids=rows, use_cache=False).logits[:, :-1]
        hard = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        if self._teacher is None:
            return hard
        soft = kl(
            logits,
            self._teacher.answers(picked),
            skew=recipe.skew,
            reverse=recipe.reverse,
            temperature=recipe.temperature,
        )
        return recipe.hard * hard + (1 - recipe.hard) * soft if recipe.hard else soft


def distill(
    student: torch.nn.Module,
    rows: torch.Tensor,
    teacher: Teacher | None,
    recipe: Recipe,
    say: Say = lambda event: None,
) -> list[float]:
    """Train `student` on rows of token ids, (count, seq); the loss of each step.

    teacher   `Live(network, rows)`, a `LogitCache` of these rows, or None for labels alone
    """
    student.train()
    losses = follow(Lesson(student, rows, teacher, recipe), say)
    student.eval()
    return losses


def follow(lesson: Lesson, say: Say) -> list[float]:
    """Take all steps of a lesson; the loss of each."""
    recipe, losses, began = lesson.recipe, [], time.monotonic()
    while lesson.step < recipe.steps:
        losses.append(lesson.advance())
        left = (time.monotonic() - began) / lesson.step * (recipe.steps - lesson.step)
        say(progress(recipe, lesson.step, losses[-1], left))
    return losses


def progress(recipe: Recipe, step: int, loss: float, eta_s: float) -> Progress:
    """How far a lesson is."""
    return Progress(
        stage="train", done=step, total=recipe.steps, unit="steps", loss=loss, eta_s=eta_s
    )


def rate_at(recipe: Recipe, step: int) -> float:
    """The learning rate of one step: up over the first ones, then down in a line."""
    warm = min(recipe.warm, max(1, recipe.steps // 10))
    fall = 1 - (1 - recipe.final) * step / recipe.steps
    return recipe.lr * min(1.0, (step + 1) / warm) * fall


def tokenizer_id(base_dir: Path) -> ContentId:
    """The id of how a base cuts text: equal ids, equal tokens."""
    plain = msgspec.json.decode(model.load_tokenizer(base_dir).to_str())
    parts = ("added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer")
    return content_id(msgspec.json.encode([plain.get(part) for part in parts], order="sorted"))


def require_same_tokenizer(teacher_dir: Path, student_dir: Path) -> ContentId:
    """The tokenizer's id; LocalError E0713 if the two cut text differently."""
    ids = [tokenizer_id(folder) for folder in (teacher_dir, student_dir)]
    if ids[0] != ids[1]:
        raise LocalError(
            "E0713",
            "teacher and student cut text into different tokens",
            why=[f"the teacher's tokenizer is {ids[0][:16]}, the student's {ids[1][:16]}"],
            fix=["take a student of the same lineage, such as a block of the teacher"],
        )
    return ids[0]


def require_divergence(kind: Kind, *, reverse: bool) -> None:
    """LocalError E0204 for the reverse divergence from draws: it is infinite beside them."""
    if reverse and kind != "top":
        raise LocalError(
            "E0204",
            f"a teacher's {kind} answers have no reverse divergence",
            fix=["keep its likeliest tokens (top), or take the forward divergence"],
        )


def _picked(count: int, recipe: Recipe, step: int) -> Sequence[int]:
    """Which rows a step takes: every one once, then again in another order."""
    made = []
    for number in range(step * recipe.batch, (step + 1) * recipe.batch):
        epoch, place = divmod(number, count)
        made.append(_order(count, recipe.seed, epoch)[place])
    return made


@lru_cache(maxsize=4)  # thousands of rows, asked for in every step
def _order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)
