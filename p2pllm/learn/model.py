"""Bases and adapters in memory: loaded only after their files have been judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from p2pllm import adapter, base_files, gguf_header, weights
from p2pllm.errors import PeerError
from p2pllm.learn.memory import Shape
from p2pllm.manifest import Lora

Network = PreTrainedModel | PeftModel


def compute_dtype() -> torch.dtype:
    """bfloat16 where this CPU multiplies it in hardware, else float32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split("flags", 1)[-1].split("\n", 1)[0] if info.is_file() else ""
    fast = {"avx512_bf16", "amx_bf16"} & set(flags.split())
    return torch.bfloat16 if fast else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """'bfloat16' or 'float32'."""
    return str(dtype).removeprefix("torch.")


def load_config(base_dir: Path) -> Any:
    """A base's settings as transformers holds them, from our own reading of config.json."""
    plain = base_files.read_config(base_dir)
    model_type = plain.pop("model_type", None)
    try:
        return AutoConfig.for_model(model_type, **plain)
    except (ValueError, TypeError, KeyError, StrictDataclassError) as bad:
        raise base_files.refused(f"config.json: {str(bad)[:300]}") from bad


def shape_of(base_dir: Path, config: Any) -> Shape:
    """What of a base decides its memory; raises as `shape_from` does."""
    if base_files.is_variant(base_dir):
        return shape_from(gguf_header.read_header(base_dir / base_files.VARIANT_FILE), config)
    return shape_from(weights.read_directory(base_dir), config)


def shape_from(
    tensors: Mapping[str, weights.Tensor] | Mapping[str, gguf_header.Tensor], config: Any
) -> Shape:
    """What decides a model's memory, from the headers of its files and its settings.

    Raises PeerError E0711 if the settings ask for more than the files hold: a model is built from
    them before its tensors are compared.
    """
    try:
        shape = Shape(
            params=sum(tensor.count for tensor in tensors.values()),
            layers=int(config.num_hidden_layers),
            hidden=int(config.hidden_size),
            intermediate=int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
            vocabulary=int(config.vocab_size),
        )
    except (AttributeError, TypeError, ValueError) as bad:
        raise base_files.refused(f"config.json: {str(bad)[:300]}") from bad
    held = shape.vocabulary * shape.hidden + shape.layers * shape.hidden * shape.intermediate
    if min(shape.layers, shape.hidden, shape.intermediate, shape.vocabulary) < 1:
        raise base_files.refused("config.json states a size below one")
    if shape.layers > len(tensors) or held > shape.params:
        raise base_files.refused("config.json states a larger model than the weights hold")
    return shape


def load_base(base_dir: Path, config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """A base, every tensor of its files used and none missing; PeerError E0711 otherwise."""
    base_files.check_index(base_dir)
    for name in base_files.JSON_FILES:  # transformers reads these too
        if (base_dir / name).is_file():
            base_files.read_json(base_dir, name)
    variant = base_files.is_variant(base_dir)
    from_file = {"gguf_file": base_files.VARIANT_FILE} if variant else {"use_safetensors": True}
    try:
        made: Any = AutoModelForCausalLM.from_pretrained(
            base_dir,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **from_file,
        )
    except (ValueError, RuntimeError, KeyError) as bad:
        raise base_files.refused(f"it does not load: {str(bad)[:300]}") from bad
    loaded: PreTrainedModel = made[0].eval()
    info: dict[str, Any] = made[1]
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            name = sorted(str(key) for key in info[kind])[0]
            raise base_files.refused(f"{kind.replace('_', ' ')} such as {name[:120]}")
    if variant:
        return loaded  # its tensors have other names in the file; the kinds above have covered them
    unused = weights.read_directory(base_dir).keys() - loaded.state_dict().keys()
    if unused:
        raise base_files.refused(f"the model has no place for {min(unused)[:120]}")
    return loaded


def load_tokenizer(base_dir: Path) -> Tokenizer:
    """The base's tokenizer, neither truncating nor padding."""
    path = base_dir / base_files.TOKENIZER_FILE
    base_files.check_size(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as bad:
        raise base_files.refused(f"{path.name}: {str(bad)[:200]}") from bad
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def new_adapter(model: PreTrainedModel, rank: int, alpha: float, targets: list[str]) -> PeftModel:
    """The base with a fresh adapter that changes nothing yet."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # any number does; peft's hint says int
        target_modules=targets,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped: PeftModel = get_peft_model(model, config)
    return wrapped


def load_adapter(model: PreTrainedModel, adapter_dir: Path, lora: Lora) -> PeftModel:
    """The base with an adapter that `adapter.inspect` has passed, all its tensors in use.

    Its adapter_config.json reaches no loader: the settings come from `lora`.
    """
    wrapped = new_adapter(model, lora.rank, lora.alpha, list(lora.targets))
    tensors = load_file(adapter_dir / adapter.WEIGHTS_FILE)
    odd = tensors.keys() ^ adapter_tensors(wrapped).keys()
    if odd:
        raise PeerError("E0703", f"the adapter's tensors are not those in use: {min(odd)[:120]!r}")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise PeerError("E0609", f"{name[:120]} holds NaN or infinite numbers")
    set_peft_model_state_dict(wrapped, tensors)
    return wrapped.eval()


def adapter_tensors(model: PeftModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the names they have in a file."""
    tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(model)
    return tensors
