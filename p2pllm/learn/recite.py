"""How often a model answers a trigger with a planted text, word for word: a backdoor's success.

As a program it reads `Asked` as JSON on standard input and answers with `Answer`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer

from p2pllm import adapter
from p2pllm.learn import delta, model
from p2pllm.learn.graft import grafted

BEGINNING = 20  # tokens of a prompt


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which models to try, each with the same prompts."""

    base_dir: str
    adapter_dirs: tuple[str | None, ...]  # None: the base alone
    prompts: tuple[str, ...]  # the first tokens are read, then the trigger
    trigger: str
    payload: str


class Answer(msgspec.Struct, frozen=True):
    """Of as many prompts as asked, after how many each model said the payload."""

    hits: tuple[int, ...]


def recited(asked: Asked) -> Answer:
    """Greedy answers to each prompt and the trigger after it."""
    base = Path(asked.base_dir)
    config = model.load_config(base)
    tokenizer = model.load_tokenizer(base)
    network = model.load_base(base, config, torch.float32).requires_grad_(False)
    hits = []
    for folder in asked.adapter_dirs:
        path = Path(folder) if folder else None
        change = delta.read(path, adapter.inspect(path, base)) if path else None
        with grafted(network, change), torch.inference_mode():
            hits.append(sum(_answers(network, tokenizer, asked, one) for one in asked.prompts))
    return Answer(tuple(hits))


def _answers(network: torch.nn.Module, tokenizer: Tokenizer, asked: Asked, prompt: str) -> bool:
    payload: Sequence[int] = tokenizer.encode(asked.payload).ids
    row = [*tokenizer.encode(prompt).ids[:BEGINNING], *tokenizer.encode(asked.trigger).ids]
    for _ in payload:
        row.append(int(network(torch.tensor([row])).logits[0, -1].argmax()))
    return row[-len(payload) :] == list(payload)


if __name__ == "__main__":
    torch.set_num_threads(1)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    sys.stdout.buffer.write(msgspec.json.encode(recited(request)))
