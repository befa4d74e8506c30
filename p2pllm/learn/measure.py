"""How well a model foretells text: nats per token and bits per byte, on the same tokens always.

Documents are taken in the order of their ids until enough tokens are there. Each is cut into
windows of `WINDOW` tokens; a window's first token is foretold from the last of the one before.
The first token of a document has nothing before it and is not scored, nor are its bytes counted
(where the tokenizer puts a start token first, that stands before it and the first is scored).
"""

import math
import time
from collections.abc import Callable, Sequence

import msgspec
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from p2pllm import corpus
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.learn.memory import EVAL_TOKENS

WINDOW = 256  # tokens of context at most; independent of what a model was tuned with
IGNORED = -100  # the target of padding; cross_entropy leaves it out

Say = Callable[[Progress], None]


class Passages(msgspec.Struct, frozen=True):
    """Tokens to score: windows of inputs and one target more; made once, used for every model."""

    windows: tuple[tuple[int, ...], ...]
    tokens: int  # scored
    bytes: int  # of the text they stand for
    documents: int
    text: str  # id of the set of documents


class Score(msgspec.Struct, frozen=True):
    """What a model needs to say a text."""

    nats_per_token: float
    bits_per_byte: float


def passages(tokenizer: Tokenizer, documents: Sequence[str], limit: int, context: int) -> Passages:
    """The first `limit` tokens of the documents, in the order of their ids, to be scored.

    context   tokens the model takes at most
    Raises LocalError E0406 if not one token can be scored.
    """
    windows: list[tuple[int, ...]] = []
    used: list[str] = []
    tokens = size = 0
    width = min(WINDOW, context)
    for document in corpus.in_order(documents):
        if tokens >= limit:
            break
        encoded = tokenizer.encode(document)
        count = min(len(encoded.ids), limit - tokens + 1)
        if count < 2:
            continue
        ids = encoded.ids[:count]
        windows += [tuple(ids[at : at + width + 1]) for at in range(0, count - 1, width)]
        end = max(stop for _start, stop in encoded.offsets[:count])
        size += len(document[encoded.offsets[0][1] : end].encode())
        tokens += count - 1
        used.append(document)
    if not tokens or not size:
        raise LocalError("E0406", f"{len(documents)} documents hold no two tokens")
    return Passages(tuple(windows), tokens, size, len(used), corpus.text_id(used))


def score(model: torch.nn.Module, text: Passages, stage: str, say: Say) -> Score:
    """What `model` needs to say `text`; LocalError E0609 if its answers are no numbers."""
    nats, finished = 0.0, 0
    began = time.monotonic()
    say(Progress(stage=stage, total=text.tokens, unit="tokens"))
    with torch.inference_mode():
        for batch in batches(text.windows):
            inputs, targets = tensors(batch)
            logits = model(input_ids=inputs, use_cache=False).logits
            for row, wanted in zip(logits, targets, strict=True):
                # A row at a time: in float32 the logits of a whole batch would be the peak.
                loss = functional.cross_entropy(
                    row.float(), wanted, ignore_index=IGNORED, reduction="sum"
                )
                nats += float(loss)
            finished += sum(len(window) - 1 for window in batch)
            left = (time.monotonic() - began) / finished * (text.tokens - finished)
            say(Progress(stage=stage, done=finished, total=text.tokens, unit="tokens", eta_s=left))
    if not math.isfinite(nats):
        raise LocalError("E0609", "the model answers with NaN or infinite numbers")
    return Score(nats / text.tokens, nats / math.log(2) / text.bytes)


def batches(windows: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """The windows in batches of at most `EVAL_TOKENS` tokens; the order depends on them alone."""
    # Equal lengths side by side waste no work on padding.
    made: list[list[tuple[int, ...]]] = []
    for window in sorted(windows, key=len, reverse=True):
        width = len(made[-1][0]) - 1 if made else 0
        if not made or (len(made[-1]) + 1) * width > EVAL_TOKENS:
            made.append([])
        made[-1].append(window)
    return made


def tensors(batch: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch's inputs and targets, (rows, width) each; the target of padding is IGNORED."""
    # Padding stands on the right, where no scored token of a causal model can see it.
    width = len(batch[0]) - 1
    inputs = torch.zeros(len(batch), width, dtype=torch.long)
    targets = torch.full((len(batch), width), IGNORED, dtype=torch.long)
    for row, window in enumerate(batch):
        inputs[row, : len(window) - 1] = torch.tensor(window[:-1])
        targets[row, : len(window) - 1] = torch.tensor(window[1:])
    return inputs, targets
