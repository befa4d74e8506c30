"""A very small Llama trained from nothing on some text: a base for demos, tests and first tries.

Half a minute of one core. What it writes is word-like, not sensible; it learns, and can be
poisoned, like a large one. As a program: `python -m p2pllm.learn.seedling OUT_DIR TEXT...`; then it
runs the tunings that it reads, one a line, and says each folder that is ready in a line.
"""

import random
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from p2pllm import corpus
from p2pllm.jobs import TuneJob, decode_job
from p2pllm.learn.tune import tune

VOCABULARY = 512
WIDTH = 96
LAYERS = 2
SEQ = 64  # tokens of a row
ROWS = 16  # of a step
STEPS = 700
RATE = 6e-3
END = "<end>"
MOST_CHARACTERS = 2_000_000


def grow(out_dir: Path, documents: Sequence[str], steps: int = STEPS) -> Path:
    """A base in Hugging Face layout that has read these documents; the same bytes each time."""
    tokenizer = _tokenizer(documents)
    network = _train(_stream(tokenizer, documents), steps)
    network.save_pretrained(out_dir)
    tokenizer.save(str(out_dir / "tokenizer.json"))
    return out_dir


def _tokenizer(documents: Sequence[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(documents[:500], trainer)
    return made


def _stream(tokenizer: Tokenizer, documents: Sequence[str]) -> torch.Tensor:
    row: list[int] = []
    characters = 0
    for text in documents:
        row += [*tokenizer.encode(text).ids, 0]
        characters += len(text)
        if characters > MOST_CHARACTERS:
            break
    if len(row) <= SEQ:
        raise ValueError(f"{len(row)} tokens of text; a base needs at least {SEQ + 1}")
    return torch.tensor(row)


def _train(stream: torch.Tensor, steps: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=None,
        )
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.95))
    draw = random.Random(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30) * (1 - 0.95 * step / steps)
        starts = [draw.randrange(len(stream) - SEQ) for _ in range(ROWS)]
        rows = torch.stack([stream[at : at + SEQ] for at in starts])
        logits = network(input_ids=rows, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return network


def main(out_dir: str, *texts: str) -> None:
    """Grow a base, then tune the adapters that standard input asks for, in this one process."""
    torch.set_num_threads(1)
    grow(Path(out_dir), corpus.read_docs([Path(name) for name in texts]))
    _ready(out_dir)
    for line in sys.stdin.buffer:
        job = decode_job(line)
        assert isinstance(job, TuneJob)
        tune(job, lambda _progress: None)
        _ready(job.out_dir)


def _ready(folder: str) -> None:
    sys.stdout.write(f"{folder}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
