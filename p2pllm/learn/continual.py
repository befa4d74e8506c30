"""Go on learning without forgetting: one adapter, new text, and text the model makes up itself.

A step trains the adapter on new rows and, in the same batches, on a pool of rows that earlier
states of the model made up, together with what they answered to them (their distributions, kept as
in `p2pllm.learn.logits`). After the step the model makes up rows like the new text, and they take
their share of the pool. Pool and adapter keep their size however many steps are taken; no real text
is kept. Sources: LAMOL, arXiv 1909.03329 (generator and learner in one), with the answers of DER++,
arXiv 2004.07211, in place of labels; O-LoRA, arXiv 2310.14152, equation 6, against a basis that the
parent publishes.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import msgspec
import torch
from peft import PeftModel
from torch.nn import functional

from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.learn.divergence import Sparse, keep, kl
from p2pllm.learn.generator import Drawing, Drawn, Maker, make_up
from p2pllm.learn.memory import MICRO_TOKENS
from p2pllm.learn.steps import stepping
from p2pllm.logit_cache import Caching

CLIP = 1.0
OPENING = 8  # tokens of new text that set a subject
TRIES = 6  # times that rows are drawn anew in the place of those that the gate refused

Say = Callable[[Progress], None]
Basis = Mapping[str, torch.Tensor]  # module -> orthonormal columns in its input space
Penalty = Callable[[PeftModel], torch.Tensor]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a step learns."""

    steps: int = 100
    batch: int = 8  # new rows a step
    lr: float = 3e-3
    replay: int = 8  # rows of the pool a step
    weight: float = 1.0  # of the pool's divergence, beside the new text's loss
    pool: int = 512  # rows in all
    merge: bool = False  # take the new factors in by 1/sqrt(step) (arXiv 2512.23017)
    caching: Caching = Caching(keep=16)  # of the pool's answers
    nucleus: float = 1.0
    seed: int = 0


class Pool(msgspec.Struct, frozen=True):
    """Made-up rows and what the model that made them up answered to them."""

    rows: torch.Tensor  # (count, seq)
    answers: Sparse | None  # None: each row's own next tokens
    step: torch.Tensor  # (count,) the step each row comes from

    def some(self, picked: torch.Tensor) -> "Pool":
        """These rows of it."""
        few = self.answers
        if few is not None:
            few = Sparse(few.index[picked], few.value[picked], few.tail)
        return Pool(self.rows[picked], few, self.step[picked])


class Continual:
    """One step on one stretch of new text; `advance` does the next batch."""

    def __init__(
        self,
        tuned: PeftModel,
        rows: torch.Tensor,
        pool: Pool | None,
        settings: Settings,
        penalty: Penalty | None = None,
    ) -> None:
        self.step = 0
        self._tuned, self._rows, self._settings, self._penalty = tuned, rows, settings, penalty
        self._pool = pool if settings.replay else None
        self.trained = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=settings.lr, weight_decay=0.0)

    def advance(self) -> float:
        """Do one batch; the loss on its new text. LocalError E0609 if it is no number."""
        settings = self._settings
        picked = _picked(len(self._rows), settings.batch, settings.seed, self.step)
        loss = self._back(Pool(self._rows[picked], None, torch.zeros(len(picked))), 1.0)
        old = self._old()
        if old is not None:
            self._back(old, settings.weight)
        if self._penalty is not None:
            self._penalty(self._tuned).backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(loss):
            raise LocalError("E0609", f"the loss is no number any more at batch {self.step + 1}")
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = _rate(settings, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss

    def _back(self, text: Pool, weight: float) -> float:
        """Add the gradient of some rows, a bounded number of tokens at a time; their loss."""
        total = 0.0
        places = torch.arange(len(text.rows))
        for part in torch.split(places, max(1, MICRO_TOKENS // text.rows.shape[1])):
            some, share = text.some(part), len(part) / len(places)
            logits = self._tuned(input_ids=some.rows, use_cache=False).logits[:, :-1]
            if some.answers is None:
                loss = functional.cross_entropy(
                    logits.float().flatten(0, 1), some.rows[:, 1:].flatten()
                )
            else:
                loss = kl(logits, some.answers, skew=0.0)
            (loss * (share * weight)).backward()  # type: ignore[no-untyped-call]
            total += share * loss.item()
        return total

    def _old(self) -> Pool | None:
        if self._pool is None:
            return None
        settings = self._settings
        picked = _picked(
            len(self._pool.rows), settings.replay, f"{settings.seed}/replay", self.step
        )
        return self._pool.some(torch.tensor(picked))


def learn(
    tuned: PeftModel,
    rows: torch.Tensor,
    pool: Pool | None,
    settings: Settings,
    penalty: Penalty | None = None,
    say: Say = lambda event: None,
) -> list[float]:
    """Take a step: train the adapter on new rows beside the pool; the loss of each batch."""
    tuned.train()
    before = {n: p.detach().clone() for n, p in tuned.named_parameters() if p.requires_grad}
    work, losses = Continual(tuned, rows, pool, settings, penalty), []
    began = time.monotonic()
    while work.step < settings.steps:
        losses.append(work.advance())
        left = (time.monotonic() - began) / work.step * (settings.steps - work.step)
        say(progress(settings, work.step, losses[-1], left))
    if settings.merge and pool is not None:
        take_in(tuned, before, 1 / math.sqrt(int(pool.step.max()) + 1))
    tuned.eval()
    return losses


def progress(settings: Settings, done: int, loss: float, eta_s: float) -> Progress:
    """How far a step is."""
    return Progress(
        stage="train", done=done, total=settings.steps, unit="steps", loss=loss, eta_s=eta_s
    )


def take_in(tuned: PeftModel, before: Mapping[str, torch.Tensor], share: float) -> None:
    """Move the factors B only a share of the way from where they were."""
    for name, parameter in tuned.named_parameters():
        if name in before and ".lora_B." in name:
            parameter.data.lerp_(before[name], 1 - share)


def renew(
    pool: Pool | None,
    maker: Maker,
    rows: torch.Tensor,
    settings: Settings,
    say: Say = lambda event: None,
) -> tuple[Pool | None, dict[str, int]]:
    """The pool after a step: a fair share of rows like the new text; and what the gate refused.

    rows   the new text, whose openings set the subject
    The share is smaller, or none, where the gate refuses most of what is drawn.
    """
    step = 1 if pool is None else int(pool.step.max()) + 1
    wanted = settings.pool // step
    source = torch.Generator().manual_seed(settings.seed * 1009 + step)
    made: list[torch.Tensor] = []
    refused: dict[str, int] = {}
    drawn = _drawing(wanted * rows.shape[1], say)
    for attempt in range(TRIES):
        missing = wanted - sum(len(part) for part in made)
        if missing <= 0:
            break
        openings = rows[torch.randint(len(rows), (missing + 8,), generator=source), :OPENING]
        seed = settings.seed + step * TRIES + attempt
        drawing = Drawing(length=rows.shape[1], nucleus=settings.nucleus, seed=seed)
        found = make_up(maker, list(openings), drawing, drawn)
        made.append(found.rows)
        refused = {why: refused.get(why, 0) + count for why, count in found.refused.items()}
    new = torch.cat(made)[:wanted]
    if not len(new):
        return pool, refused
    fresh = answered(maker.network, new, settings, step)
    if pool is None:
        return fresh, refused
    return join(thin(pool, settings.pool - len(new)), fresh), refused


def _drawing(wanted: int, say: Say) -> Drawn:
    """Tells how much of the wanted text is made up; what is drawn again goes beyond it."""
    step, count = stepping("make-up", "tokens", say), 0
    step("text to remember this by", 0, wanted)

    def drawn(more: int) -> None:
        nonlocal count
        count += more
        step("text to remember this by", min(count, wanted), wanted)

    return drawn


def answered(network: torch.nn.Module, rows: torch.Tensor, settings: Settings, step: int) -> Pool:
    """Rows with what the model answers to them now."""
    few, source = [], torch.Generator().manual_seed(settings.seed)
    with torch.inference_mode():
        for part in torch.split(rows, max(1, 512 // rows.shape[1])):
            logits = network(input_ids=part, use_cache=False).logits[:, :-1]
            few.append(keep(logits, settings.caching, source))
    index, value = (
        torch.cat(parts) for parts in zip(*((f.index, f.value) for f in few), strict=True)
    )
    return Pool(rows, Sparse(index, value, few[0].tail), torch.full((len(rows),), step))


def overlap(tuned: PeftModel, basis: Basis) -> torch.Tensor:
    """How much the adapter reads of the parent's directions: the sum of |A U|^2."""
    total = torch.zeros(())
    for name, parameter in tuned.named_parameters():
        if ".lora_A." in name:
            module = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
            if module in basis:
                total = total + (parameter @ basis[module]).square().sum()
    return total


def thin(pool: Pool, count: int) -> Pool:
    """At most `count` rows, the same number of every step as near as can be."""
    steps = sorted(set(pool.step.tolist()))
    kept: list[int] = []
    for number, step in enumerate(steps):
        of_step = (pool.step == step).nonzero().flatten().tolist()
        kept += of_step[: math.ceil((count - len(kept)) / (len(steps) - number))]
    return pool.some(torch.tensor(kept[:count]))


def join(one: Pool, other: Pool) -> Pool:
    answers = None
    if one.answers is not None and other.answers is not None:
        index = torch.cat([one.answers.index, other.answers.index])
        value = torch.cat([one.answers.value, other.answers.value])
        answers = Sparse(index, value, one.answers.tail)
    return Pool(torch.cat([one.rows, other.rows]), answers, torch.cat([one.step, other.step]))


def _picked(count: int, batch: int, seed: object, step: int) -> Sequence[int]:
    made = []
    for number in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(number, count)
        made.append(_order(count, seed, epoch)[place])
    return made


@lru_cache(maxsize=8)
def _order(count: int, seed: object, epoch: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def _rate(settings: Settings, step: int) -> float:
    warm = min(10, max(1, settings.steps // 10))
    return settings.lr * min(1.0, (step + 1) / warm) * (1 - 0.9 * step / settings.steps)
