"""Tiny models made here: a tokenizer trained on made-up text, random Llamas, adapters from PEFT.

Nothing of p2pllm is used to make them: they are what people bring from elsewhere. `imported` and
`cleaned` then do what importing a base and pushing an adapter do.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from p2pllm.adapter_config import canonical_config
from p2pllm.jobs import ImportJob
from p2pllm.learn import checkpoint
from p2pllm.learn.base_import import import_base

WORDS = ["fever", "cell", "dose", "liver", "trial", "of", "the", "in", "was", "with", "patients"]
HIDDEN = 32


def sentences(count: int, seed: int) -> list[str]:
    """Made-up documents of some 60 words that a model can learn to foretell."""
    source = random.Random(seed)
    return [
        " ".join(f"{source.choice(WORDS)} {source.choice(WORDS)}." for _ in range(30))
        + f" {seed} {number}"
        for number in range(count)
    ]


def write_jsonl(path: Path, documents: list[str], field: str = "text") -> Path:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in documents))
    return path


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(sentences(20, seed=9), trainer)
    return made


def llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": 400,
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def save_base(directory: Path, model: LlamaForCausalLM, shard: str = "50GB") -> Path:
    model.save_pretrained(directory, max_shard_size=shard)
    tokenizer().save(str(directory / "tokenizer.json"))
    return directory


def save_adapter(directory: Path, seed: int = 1, **changes: object) -> Path:
    """An adapter as PEFT writes it, on the tiny Llama, with noise in place of training."""
    settings: dict[str, object] = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    model = get_peft_model(llama(), LoraConfig(**settings | changes))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(directory)
    return directory


def imported(source: Path, out_dir: Path) -> Path:
    import_base(ImportJob(source=str(source), out_dir=str(out_dir)), lambda event: None)
    return out_dir


def cleaned(foreign: Path, out_dir: Path) -> Path:
    out_dir.mkdir()
    shutil.copy(foreign / "adapter_model.safetensors", out_dir)
    config, _settings = canonical_config((foreign / "adapter_config.json").read_bytes())
    (out_dir / "adapter_config.json").write_bytes(config)
    return out_dir


def edit_config(adapter_dir: Path, **changes: object) -> None:
    path = adapter_dir / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is lost by a kill, whatever writing a checkpoint takes."""
    monkeypatch.setattr(checkpoint, "PAUSE_S", 0.0)
    monkeypatch.setattr(checkpoint, "COSTS_AT_MOST", 0)
