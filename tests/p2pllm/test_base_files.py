"""Files of a base: as an import leaves them, and what is found when they are not."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pllm import base_files, model_json
from p2pllm.errors import PeerError
from tests.p2pllm.test_gguf_header import GOOD, write

CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4, "model_type": "llama"}


def weights_file(path: Path, name: str) -> None:
    header = {name: {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_bytes(model_json.write_object(CONFIG))
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    weights_file(tmp_path / "model-1.safetensors", "a")
    weights_file(tmp_path / "model-2.safetensors", "b")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / base_files.INDEX_FILE).write_bytes(model_json.write_object(index))
    return tmp_path


def refusal(base: Path) -> PeerError:
    with pytest.raises(PeerError) as caught:
        base_files.inspect(base)
    return caught.value


def test_a_variant_has_one_gguf_file_that_holds_and_no_other_weights(base: Path) -> None:
    write(base / base_files.VARIANT_FILE, GOOD, 168)
    assert "other weights" in refusal(base).message
    for path in base.glob("*.safetensors*"):
        path.unlink()
    assert base_files.inspect(base) == "LlamaForCausalLM"
    (base / base_files.VARIANT_FILE).write_bytes(b"PK\x03\x04" + bytes(100))
    assert refusal(base).code == "E0606"
    (base / base_files.VARIANT_FILE).rename(base / "other.gguf")
    assert refusal(base).code == "E0711"


def test_a_base_as_an_import_leaves_it_is_named_by_its_architecture(base: Path) -> None:
    assert base_files.inspect(base) == "LlamaForCausalLM"


def put(name: str, content: object) -> Callable[[Path], object]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda base: (base / name).write_bytes(raw)


def gone(name: str) -> Callable[[Path], object]:
    return lambda base: (base / name).unlink()


BAD: dict[str, Callable[[Path], object]] = {
    "config in another form": put("config.json", CONFIG),
    "trace of a machine": put(
        "config.json", model_json.write_object(CONFIG | {"_name_or_path": "/home/x"})
    ),
    "kernel to fetch": put(
        "config.json", model_json.write_object(CONFIG | {"attn_implementation": "some/kernel"})
    ),
    "code to run": put("config.json", CONFIG | {"auto_map": {"AutoModel": "x.Y"}}),
    "code for the tokenizer": put("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x"}}),
    "code in a list": put("generation_config.json", {"a": [{"trust_remote_code": True}]}),
    "two architectures": put("config.json", CONFIG | {"architectures": ["A", "B"]}),
    "no config": gone("config.json"),
    "no tokenizer": gone("tokenizer.json"),
    "large template": put("chat_template.jinja", b" " * (base_files.MAX_TEXT_BYTES + 1)),
    "a program": put("modeling.py", b""),
    "a pickle": put("pytorch_model.bin", b""),
    "index that leads elsewhere": put(
        base_files.INDEX_FILE, {"weight_map": {"a": "../../x.safetensors"}}
    ),
    "index without files": put(base_files.INDEX_FILE, {"weight_map": ["a"]}),
    "index that is no JSON": put(base_files.INDEX_FILE, b"{"),
    "a file its index leaves out": gone("model-2.safetensors"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
def test_anything_else_is_refused(base: Path, spoil: Callable[[Path], object]) -> None:
    spoil(base)
    assert refusal(base).code == "E0711"


def test_a_folder_is_no_part_of_a_base(base: Path) -> None:
    (base / "more").mkdir()
    assert refusal(base).code == "E0711"


def test_weights_that_are_something_else_are_called_that(base: Path) -> None:
    (base / "model-2.safetensors").write_bytes(b"\x80\x04" + bytes(20))
    assert refusal(base).code == "E0606"


def test_traces_are_left_out_wherever_they_stand(base: Path) -> None:
    plain = {"a": {"_internal": 1, "transformers_version": "5"}, "name_or_path": "x", "b": [1]}
    (base / "tokenizer_config.json").write_text(json.dumps(plain))
    assert base_files.read_json(base, "tokenizer_config.json") == {"a": {}, "b": [1]}
