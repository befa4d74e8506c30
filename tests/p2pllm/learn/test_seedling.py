"""A tiny base grown from text: the same each time, importable, and better for reading more."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from p2pllm.jobs import ImportJob
from p2pllm.learn import seedling
from p2pllm.learn.base_import import import_base
from tests.p2pllm.learn import tiny

TEXT = tiny.sentences(40, seed=1)


def loss(folder: Path) -> float:
    network = LlamaForCausalLM.from_pretrained(folder)
    tokenizer = seedling.Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = torch.tensor(tokenizer.encode(TEXT[0]).ids[:64])[None]
    with torch.no_grad():
        return float(network(input_ids=rows, labels=rows).loss)


def test_the_same_text_grows_the_same_base(tmp_path: Path) -> None:
    one, two = (seedling.grow(tmp_path / name, TEXT, steps=2) for name in "ab")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_reading_more_helps_and_the_base_can_be_imported(tmp_path: Path) -> None:
    short = loss(seedling.grow(tmp_path / "short", TEXT, steps=1))
    longer = seedling.grow(tmp_path / "long", TEXT, steps=40)
    assert loss(longer) < short - 1
    report = import_base(ImportJob(source=str(longer), out_dir=str(tmp_path / "base")), print)
    assert report.params == pytest.approx(0.2e6, rel=0.5)


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least"):
        seedling.grow(tmp_path / "none", ["a word"], steps=1)
