"""What is written as GGUF is read again by transformers and the gguf package as what it was."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from p2pllm import gguf_header
from p2pllm.errors import LocalError
from p2pllm.jobs_files import Bits
from p2pllm.learn import gguf_out, model
from p2pllm.learn.delta import Factors
from p2pllm.learn.graft import grafted
from tests.p2pllm.learn import planted, tiny
from tests.p2pllm.learn.test_adapter_io import answers, loaded

TEXT = "fever of 42 patients was in the liver trial."


def nothing(_name: str, _done: int, _total: int) -> None:
    pass


def written(base_dir: Path, path: Path, bits: Bits, change: Any = None) -> Any:
    """Written, and read by transformers alone: weights, settings and tokenizer out of the file."""
    gguf_out.write_base(gguf_out.open_source(base_dir), path, bits, change, nothing)
    gguf_header.read_header(path)
    place = {"gguf_file": path.name, "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **place).eval()


@pytest.mark.parametrize(("bits", "most"), [(16, 0.0), (8, 0.02), (4, 0.15)])
def test_a_base_comes_back_with_the_same_answers(
    base_dir: Path, tmp_path: Path, bits: Bits, most: float
) -> None:
    wanted = answers(loaded(base_dir))
    found = answers(written(base_dir, tmp_path / "m.gguf", bits))
    assert float((found - wanted).norm() / wanted.norm()) <= most
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert tokenizer(TEXT).input_ids == model.load_tokenizer(base_dir).encode(TEXT).ids


@pytest.mark.parametrize("kind", ["untied", "wide heads", "qwen2"])
def test_other_shapes_come_back_too(tmp_path: Path, kind: str) -> None:
    if kind == "qwen2":
        plain = tiny.llama().config.to_dict()
        torch.manual_seed(0)
        network: Any = Qwen2ForCausalLM(Qwen2Config(**plain | {"tie_word_embeddings": False}))
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter)
    else:
        network = tiny.llama(
            **{"tie_word_embeddings": False} if kind == "untied" else {"head_dim": 16}
        )
    base_dir = tiny.imported(tiny.save_base(tmp_path / "f", network), tmp_path / "base")
    found = answers(written(base_dir, tmp_path / "m.gguf", 16))
    assert torch.allclose(found, answers(loaded(base_dir)), atol=1e-5)


def test_an_adapter_laid_in_answers_as_the_grafted_base(base_dir: Path, tmp_path: Path) -> None:
    change = planted.noise(tiny.llama(), 4)
    found = answers(written(base_dir, tmp_path / "m.gguf", 16, change))
    with grafted(loaded(base_dir), change) as network:
        wanted = answers(network)
    before = answers(loaded(base_dir))
    assert (found - wanted).norm() < 0.05 * (wanted - before).norm()  # bfloat16 rounds the sum


def test_equal_bases_are_equal_bytes(base_dir: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        source = gguf_out.open_source(base_dir)
        gguf_out.write_base(source, tmp_path / name, 4, None, nothing)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_adapter_file_holds_the_factors_in_the_rows_of_the_base_file(
    base_dir: Path, tmp_path: Path
) -> None:
    source = gguf_out.open_source(base_dir)
    module = "model.layers.1.self_attn.q_proj"
    change = {module: Factors(torch.randn(32, 3).double(), torch.randn(3, 32).double())}
    gguf_out.write_adapter(source, change, tmp_path / "a.gguf")
    gguf_out.write_base(source, tmp_path / "before.gguf", 16, None, nothing)
    gguf_out.write_base(source, tmp_path / "after.gguf", 16, change, nothing)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == 3.0
    halves = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    product = halves["blk.1.attn_q.weight.lora_b"] @ halves["blk.1.attn_q.weight.lora_a"]
    both = []
    for name in ("before", "after"):
        tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / f"{name}.gguf").tensors}
        one = tensors["blk.1.attn_q.weight"]
        both.append(gguf.quants.dequantize(one.data, one.tensor_type))
    assert np.abs(both[1] - both[0] - product).max() < 0.01 * np.abs(product).max()


@pytest.mark.parametrize(
    ("settings", "old", "new"),
    [
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "", ""),
        ({}, '"use_regex": true', '"use_regex": false'),
        ({}, '"normalizer": null', '"normalizer": {"type": "Lowercase"}'),
        ({}, '"type": "BPE"', '"type": "WordLevel", "unk_token": "<end>"'),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    tmp_path: Path, settings: dict[str, Any], old: str, new: str
) -> None:
    folder = tiny.save_base(tmp_path / "f", tiny.llama(**settings))
    base = tiny.imported(folder, tmp_path / "base")
    text = (base / "tokenizer.json").read_text()
    assert old in text
    (base / "tokenizer.json").write_text(text.replace(old, new))
    with pytest.raises(LocalError) as refused:
        written(base, tmp_path / "m.gguf", 16)
    assert refused.value.code == "E0204"
