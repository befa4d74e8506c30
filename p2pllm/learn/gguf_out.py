"""Bases and adapters as GGUF, the one-file format of llama.cpp and what builds on it.

Names and settings as llama.cpp's own converter gives them, so that its loader and transformers'
read the file: tensors by the gguf package's name map, rows of Llama's q and k in the order that
rotates neighbours, matrices quantised by the gguf package. One tensor is in memory at a time.
Written are bases whose tokenizer is byte-level BPE with a splitting rule that GGUF has a name for.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors import safe_open

from p2pllm import base_files, weights
from p2pllm.errors import LocalError
from p2pllm.jobs_files import Bits
from p2pllm.learn import model
from p2pllm.learn.delta import Delta
from p2pllm.learn.steps import Step
from p2pllm.weights import Tensor

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_QWEN % "": "qwen2", _QWEN % "{1,3}": "llama-bpe"}
_FILE_TYPES = {
    Kind.F32: gguf.LlamaFileType.ALL_F32,
    Kind.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Kind.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
    Kind.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    Kind.F16: gguf.LlamaFileType.MOSTLY_F16,
}


class Dialect(msgspec.Struct, frozen=True):
    """How one architecture is written."""

    arch: gguf.MODEL_ARCH
    turned: bool  # its q and k rows are in llama.cpp's order


_DIALECTS = {
    "LlamaForCausalLM": Dialect(gguf.MODEL_ARCH.LLAMA, True),
    "MistralForCausalLM": Dialect(gguf.MODEL_ARCH.LLAMA, True),
    "Qwen2ForCausalLM": Dialect(gguf.MODEL_ARCH.QWEN2, False),
}


class Written(msgspec.Struct, frozen=True):
    """What became of a base."""

    kind: str  # of most numbers
    lost: float  # norm of what rounding took from the modules that a change was laid into


class Source(msgspec.Struct, frozen=True):
    """A base that can be written: its folder, settings and headers, and how it is written."""

    folder: Path
    config: Any
    tensors: dict[str, Tensor]
    dialect: Dialect

    def name(self, tensor: str) -> str:
        """What a tensor is called in GGUF."""
        names = gguf.get_tensor_name_map(self.dialect.arch, int(self.config.num_hidden_layers))
        found = names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise _cannot(f"it has the tensor {tensor[:120]!r}, which GGUF has no name for")
        return found

    def turned(self, name: str, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A weight, bias or factor with the rows that its module has in GGUF."""
        kind = name.split(".self_attn.")[-1].split(".")[0]
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        if not self.dialect.turned or kind not in heads:
            return rows
        count = int(getattr(self.config, heads[kind]))
        split = rows.reshape(count, 2, rows.shape[0] // count // 2, *rows.shape[1:])
        return np.ascontiguousarray(split.swapaxes(1, 2).reshape(rows.shape))


def open_source(base_dir: Path) -> Source:
    """A base to write; LocalError E0204 if GGUF has no way to say what it is."""
    plain = base_files.read_config(base_dir)
    architecture = base_files.architecture(plain)
    if architecture not in _DIALECTS:
        known = ", ".join(sorted(_DIALECTS))
        raise _cannot(f"it is a {architecture[:60]}, and written are {known}")
    config = model.load_config(base_dir)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise _cannot(f"its positions are scaled ({str(rope['rope_type'])[:40]})")
    if getattr(config, "sliding_window", None):
        raise _cannot(
            f"its attention sees {config.sliding_window} tokens back, which llama.cpp drops"
        )
    tensors = weights.read_directory(base_dir)
    return Source(base_dir, config, tensors, _DIALECTS[architecture])


def write_base(source: Source, path: Path, bits: Bits, change: Delta | None, step: Step) -> Written:
    """A base, with a change laid into its weights, as one file.

    16 bits are the base's own, and F16 where a change is laid in, for bfloat16 would round much of
    it away; 8 are Q8_0; 4 are Q4_0, with the embeddings in Q8_0. Norms and biases stay in float32.
    """
    kinds = {name: _kind(name, tensor, bits) for name, tensor in source.tensors.items()}
    for name in (f"{module}.weight" for module in change or {}):
        kinds[name] = Kind.F16 if kinds[name] == Kind.BF16 else kinds[name]
    most = max(kinds, key=lambda name: source.tensors[name].count * ("layers" in name))
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[source.dialect.arch])
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(_FILE_TYPES[kinds[most]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_settings(writer, source.config)
    _add_tokenizer(writer, source)
    for name, tensor in source.tensors.items():
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, kinds[name])
        size = int(np.prod(shape))
        # A dtype that is no byte leaves the shape in numbers, as it is meant here.
        place = (source.name(name), tensor.shape, np.dtype(np.float32), size, kinds[name])
        writer.add_tensor_info(*place)
    lost = 0.0
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.size for tensor in source.tensors.values())
        for name, values in read_weights(source.folder, change):
            step(name, done, total)
            done += source.tensors[name].size
            turned = source.turned(name, values.numpy())
            stored = gguf.quants.quantize(turned, kinds[name])
            if kinds[name] == Kind.F16 and not np.isfinite(stored).all():
                raise _cannot(f"{name[:120]} holds numbers too large for 16 bits")
            writer.write_tensor_data(stored)
            if change and name.removesuffix(".weight") in change:
                lost += float(((gguf.quants.dequantize(stored, kinds[name]) - turned) ** 2).sum())
    return Written(kinds[most].name, lost**0.5)


def write_adapter(source: Source, change: Delta, path: Path) -> None:
    """A change as an adapter file in float32; its alpha is its rank, so that B A is the change."""
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[source.dialect.arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    ranks = {factors.a.shape[0] for factors in change.values()}
    if len(ranks) != 1:
        raise _cannot("its modules have several ranks")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(ranks.pop()))
    for module in sorted(change):
        name = source.name(f"{module}.weight")
        factors = change[module]
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(factors.a.float().numpy()))
        b = source.turned(module, factors.b.float().numpy())
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
    with closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def read_weights(base_dir: Path, change: Delta | None) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's tensors in float32, by name, in the order of their headers, the change laid in."""
    for path in weights.weight_files(base_dir):
        with safe_open(path, framework="pt") as file:
            for name in weights.read_header(path):
                values = file.get_tensor(name).float()
                factors = (change or {}).get(name.removesuffix(".weight"))
                if factors is not None:
                    values = (values.double() + factors.b @ factors.a).float()
                yield name, values.contiguous()


def _kind(name: str, tensor: Tensor, bits: Bits) -> Kind:
    if len(tensor.shape) < 2:
        return Kind.F32
    if bits == 32:
        return Kind.F32
    whole = {"BF16": Kind.BF16, "F16": Kind.F16}.get(tensor.dtype, Kind.F32)
    if bits == 16 or tensor.shape[-1] % 32:
        return whole
    return Kind.Q4_0 if bits == 4 and ".layers." in name else Kind.Q8_0


def _add_settings(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    writer.add_block_count(int(config.num_hidden_layers))
    writer.add_context_length(int(config.max_position_embeddings))
    writer.add_embedding_length(int(config.hidden_size))
    writer.add_feed_forward_length(int(config.intermediate_size))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.num_key_value_heads))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_vocab_size(int(config.vocab_size))


def _add_tokenizer(writer: gguf.GGUFWriter, source: Source) -> None:
    folder, size = source.folder, int(source.config.vocab_size)
    plain = json.loads((folder / base_files.TOKENIZER_FILE).read_bytes())
    vocabulary = plain["model"].get("vocab") or {}
    if plain["model"].get("type") != "BPE" or not isinstance(vocabulary, dict):
        raise _cannot("its tokenizer is not byte-level BPE")
    if (plain.get("normalizer") or {}).get("type", "NFC") != "NFC":
        raise _cannot("its tokenizer changes text before it cuts it")
    names = [f"[PAD{number}]" for number in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, number in vocabulary.items():
        names[number], types[number] = token, gguf.TokenType.NORMAL
    for token in plain.get("added_tokens") or []:
        special = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        names[token["id"]], types[token["id"]] = token["content"], special
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(plain.get("pre_tokenizer")))
    writer.add_token_list(names)
    writer.add_token_types(types)
    merges = plain["model"].get("merges") or []
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    _add_special(writer, source)


def _add_special(writer: gguf.GGUFWriter, source: Source) -> None:
    ids = {name: _first(getattr(source.config, f"{name}_token_id", None)) for name in _SPECIAL}
    for name, add in _SPECIAL.items():
        if ids[name] is not None:
            getattr(writer, add)(ids[name])
    start = model.load_tokenizer(source.folder).encode("a").ids[0]
    writer.add_add_bos_token(ids["bos"] is not None and start == ids["bos"])
    template = source.folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text("utf-8"))


_SPECIAL = {"bos": "add_bos_token_id", "eos": "add_eos_token_id", "pad": "add_pad_token_id"}


def _first(value: object) -> int | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) else None


def _splitting(rule: Any) -> str:
    """GGUF's name of how a tokenizer cuts text before it merges; only what is known is written."""
    steps = (rule or {}).get("pretokenizers", [rule])
    kinds = [step and step.get("type") for step in steps]
    if kinds[-1] == "ByteLevel" and not steps[-1].get("add_prefix_space"):
        by_rule = bool(steps[-1].get("use_regex", True))
        if len(kinds) == 1 and by_rule:
            return "gpt-2"
        if kinds[0] == "Digits" and len(kinds) == 2 and by_rule and steps[0]["individual_digits"]:
            return "smollm"
        if kinds[0] == "Split" and len(kinds) == 2 and not by_rule:
            name = _SPLITS.get(steps[0].get("pattern", {}).get("Regex"))
            if name:
                return name
    raise _cannot("its tokenizer cuts text in a way that GGUF has no name for")


def _cannot(why: str) -> LocalError:
    return LocalError(
        "E0204", f"this cannot be written as GGUF: {why}", fix=["export it as safetensors"]
    )
