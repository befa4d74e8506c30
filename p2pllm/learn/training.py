"""The steps of a tuning: which text in which step, and one step of AdamW on the adapter.

What happens in a step is a function of the job, the text and the step's number, so that a job that
was killed goes on where its checkpoint stands and ends with the adapter it would have made.
"""

import math
import random
from collections.abc import Sequence

import msgspec
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from torch.nn import functional

from p2pllm import corpus
from p2pllm.errors import LocalError
from p2pllm.jobs import TuneJob
from p2pllm.learn.memory import MICRO_TOKENS

CLIP = 1.0  # norm of the gradient at most; keeps one odd batch from undoing the others
FINAL_RATE = 0.1  # of the learning rate, reached by the last step


class Blocks(msgspec.Struct, frozen=True):
    """Training text as rows of `seq` tokens."""

    rows: torch.Tensor  # (count, seq), long
    documents: int  # that were read for them


def blocks(tokenizer: Tokenizer, documents: Sequence[str], end: int | None, job: TuneJob) -> Blocks:
    """As much of the text as the job will see, documents in an order drawn from its seed.

    end   the token between two documents, or None
    Raises LocalError E0406 if the text does not fill one row.
    """
    order = corpus.in_order(documents)
    random.Random(job.seed).shuffle(order)
    wanted = job.steps * job.batch * job.seq
    stream: list[int] = []
    used = 0
    for document in order:
        if len(stream) >= wanted:
            break
        stream += tokenizer.encode(document).ids
        stream += [] if end is None else [end]
        used += 1
    count = min(len(stream), wanted) // job.seq
    if not count:
        raise LocalError(
            "E0406",
            f"{len(stream)} tokens of training text, and one sequence takes {job.seq}",
            fix=["give more text, or a shorter sequence"],
        )
    rows = torch.tensor(stream[: count * job.seq], dtype=torch.long).view(count, job.seq)
    return Blocks(rows, used)


def batch_at(text: Blocks, job: TuneJob, step: int) -> torch.Tensor:
    """The rows of one step, (batch, seq): every row once, then again in another order."""
    count = len(text.rows)
    picked = []
    for number in range(step * job.batch, (step + 1) * job.batch):
        epoch, place = divmod(number, count)
        picked.append(_order(count, job.seed, epoch)[place])
    return text.rows[picked]


def rate_at(job: TuneJob, step: int) -> float:
    """The learning rate of one step: up over the first tenth, then down in a line."""
    warm = min(10, max(1, job.steps // 10))
    fall = 1 - (1 - FINAL_RATE) * step / job.steps
    return job.lr * min(1.0, (step + 1) / warm) * fall


class Trainer:
    """An adapter, its optimizer and its step; `advance` does the next one."""

    def __init__(self, model: PeftModel, text: Blocks, job: TuneJob) -> None:
        self.step = 0  # how many are done
        self._model, self._text, self._job = model, text, job
        self.trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=job.lr, weight_decay=0.0)

    def advance(self) -> float:
        """Do one step; the loss before it, nats per token. LocalError E0609 if it is no number."""
        rows = batch_at(self._text, self._job, self.step)
        targets = rows.numel() - len(rows)  # a row's first token is foretold by nothing
        total = 0.0
        for part in torch.split(rows, max(1, MICRO_TOKENS // self._job.seq)):
            logits = self._model(input_ids=part, use_cache=False).logits[:, :-1]
            loss = functional.cross_entropy(
                logits.float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum"
            )
            (loss / targets).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise LocalError(
                "E0609",
                f"the loss is no number any more at step {self.step + 1}",
                fix=["tune with a lower learning rate"],
            )
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self._job, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return total / targets


def _order(count: int, seed: int, epoch: int) -> list[int]:
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
