"""Adapters as directories and as changes: written in one form, read from whatever can be folded.

What is written is plain LoRA with alpha = rank, so that B A is the change itself. Read are plain
LoRA, LoRA with other scales (rsLoRA, rank and alpha patterns), whose scale goes into B, and what
PEFT can lay into the weights of a base (DoRA, LoKr, LoHa, …): the change of the weights is taken
and factored. What changes anything else than linear weights is refused.
"""

import json
import math
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftConfig, PeftModel
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

from p2pllm import adapter, durable, model_json, weights
from p2pllm.adapter_config import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    Config,
    bad_config,
    parse_config,
    unsupported,
    write_config,
)
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.jobs_files import KEPT_ENERGY
from p2pllm.learn import algebra, delta, model
from p2pllm.learn.delta import Delta, Factors
from p2pllm.manifest import Lora

MAX_RANK = 1024  # of an adapter: docs/specs/adapter.md
# Fields of a LoRA's config that change its scales or which modules it has, and nothing else: the
# first its tensors and these numbers tell, the second its tensors alone.
_FOLDED = ("use_rslora", "rank_pattern", "alpha_pattern")
_CHOOSING = ("layers_to_transform", "layers_pattern", "exclude_modules", "target_modules")


class Found(msgspec.Struct, frozen=True):
    """A change read from a directory, and what had to be done to it."""

    delta: Delta
    how: str = ""  # such as "rsLoRA: its scale was folded in"; "": nothing


def write(change: Delta, base_dir: Path, out_dir: Path) -> Lora:
    """The change as an adapter that `adapter.inspect` passes, in a directory made whole or not.

    An adapter has one rank and all modules that its targets name: what the change has not is zero.
    Raises LocalError E0204 for a rank above 1024 and PeerError E0703 or E0704 for a change that is
    not one of this base.
    """
    endings = tuple(sorted({module.rpartition(".")[2] for module in change}))
    places = adapter.targeted(weights.read_directory(base_dir), endings)
    rank = max((factors.b.shape[1] for factors in change.values()), default=1)
    if rank > MAX_RANK:
        raise LocalError(
            "E0204",
            f"the adapter would have rank {rank}, at most {MAX_RANK}",
            fix=["give an energy below 1, such as 0.99, or a rank"],
        )
    odd = change.keys() - places.keys()
    if odd:
        raise PeerError("E0703", f"the base has no linear module {min(odd)!r}")
    tensors = {}
    for module, size in places.items():
        for half, tensor in _padded(module, change.get(module), rank, size).items():
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = tensor
    making = durable.making(out_dir)
    shutil.rmtree(making, ignore_errors=True)  # what a killed job left
    making.mkdir(parents=True)
    save_file(tensors, making / adapter.WEIGHTS_FILE, metadata={"format": "pt"})
    config = Config(rank=rank, alpha=float(rank), targets=endings)
    (making / CONFIG_FILE).write_bytes(write_config(config))
    lora = adapter.inspect(making, base_dir)
    making.replace(out_dir)
    return lora


def read(adapter_dir: Path, base_dir: Path) -> Found:
    """The change that the adapter in a directory makes, whatever tool made it.

    For directories of our user's: a peer's adapter is plain LoRA or refused. Raises what
    `adapter.inspect` and `delta.read` raise, E0706 with the reason for what cannot be folded.
    """
    plain = _config(adapter_dir)
    file_ = adapter_dir / adapter.WEIGHTS_FILE
    if not file_.is_file():
        weights.weight_files(adapter_dir)  # E0606 if there is a pickle instead
        raise Unavailable("E0402", f"no {adapter.WEIGHTS_FILE} in {adapter_dir}")
    weights.read_header(file_)
    if _is_foreign(plain):
        found = _through_weights(adapter_dir, base_dir, plain)
    else:
        found = _scaled(file_, plain)
    for module, factors in found.delta.items():
        if not (torch.isfinite(factors.b).all() and torch.isfinite(factors.a).all()):
            raise PeerError("E0609", f"{module[:120]} holds NaN or infinite numbers")
    _require_fit(found.delta, base_dir)
    if delta.norm(found.delta) == 0:
        raise PeerError("E0705", "the adapter changes nothing: every product B A is zero")
    return found


def needs_base(adapter_dir: Path) -> bool:
    """Whether reading the adapter takes the base's weights: it is no LoRA that can be folded."""
    return _is_foreign(_config(adapter_dir))


def _is_foreign(plain: Mapping[str, Any]) -> bool:
    return plain.get("peft_type") != "LORA" or bool(plain.get("use_dora"))


def _config(adapter_dir: Path) -> dict[str, Any]:
    path = adapter_dir / CONFIG_FILE
    if not path.is_file():
        raise Unavailable("E0402", f"no {CONFIG_FILE} in {adapter_dir}")
    with path.open("rb") as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    try:
        return model_json.read_object(raw, MAX_CONFIG_BYTES)
    except ValueError as bad:
        raise bad_config(str(bad)) from bad


def _padded(
    module: str, factors: Factors | None, rank: int, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    a, b = torch.zeros(rank, size[1]), torch.zeros(size[0], rank)
    if factors is not None:
        if (factors.b.shape[0], factors.a.shape[1]) != size:
            raise PeerError("E0704", f"the change of {module!r} has not the shape {list(size)}")
        a[: factors.a.shape[0]] = factors.a
        b[:, : factors.b.shape[1]] = factors.b
    return {"A": a, "B": b}


def _scaled(file: Path, plain: Mapping[str, Any]) -> Found:
    """LoRA whose every module has a scale of its own: alpha / r, or alpha / √r with rsLoRA."""
    tensors = load_file(file)
    names = [name for name in tensors if name.endswith(".lora_A.weight")]
    modules = [_module(name, ".lora_A.weight") for name in names]
    # The rest of the config is held against the rules of plain LoRA: whatever is on there and not
    # folded here has its own error.
    rest = {name: value for name, value in plain.items() if name not in _FOLDED + _CHOOSING}
    endings = sorted({module.rpartition(".")[2] for module in modules})[:64]
    parse_config(json.dumps({**rest, "target_modules": endings or ["none"]}).encode())
    odd = set(tensors) - {f"base_model.model.{m}.lora_{h}.weight" for m in modules for h in "AB"}
    if odd or 2 * len(modules) != len(tensors):
        unsupported(f"it has the tensor {min(odd or tensors)[:120]!r}")
    made = {}
    for name, module in zip(names, modules, strict=True):
        a, b = tensors[name].double(), tensors[name.replace(".lora_A.", ".lora_B.")].double()
        rank, alpha = a.shape[0], _alpha(plain, module)
        if b.shape[1] != rank:
            raise PeerError("E0704", f"the halves of {module!r} do not fit each other")
        made[module] = Factors(
            b * (alpha / (math.sqrt(rank) if plain.get("use_rslora") else rank)), a
        )
    folded = [name for name in _FOLDED if plain.get(name)]
    return Found(made, f"{', '.join(folded)}: scales folded in" if folded else "")


def _alpha(plain: Mapping[str, Any], module: str) -> float:
    patterns = plain.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise bad_config("alpha_pattern is no map")
    alpha = patterns.get(get_pattern_key(list(patterns), module), plain.get("lora_alpha"))
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= 65536:
        raise bad_config(f"alpha of {module[:80]!r} is {str(alpha)[:40]}")
    return float(alpha)


def _through_weights(adapter_dir: Path, base_dir: Path, plain: Mapping[str, Any]) -> Found:
    """PEFT lays the adapter into the base; what the linear weights changed by is factored."""
    kind = "DoRA" if plain.get("use_dora") else str(plain.get("peft_type"))[:40]
    _check_foreign(adapter_dir, plain)
    network = model.load_base(base_dir, model.load_config(base_dir), torch.float32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wrapped = PeftModel.from_pretrained(network, str(adapter_dir), local_files_only=True)
            merged = wrapped.merge_and_unload(safe_merge=True)
        except (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, OSError) as bad:
            unsupported(f"peft cannot lay a {kind} adapter into the weights: {str(bad)[:200]}")
    return Found(_difference(before, merged.state_dict()), f"{kind}: factored from the weights")


def _check_foreign(adapter_dir: Path, plain: Mapping[str, Any]) -> None:
    if plain.get("auto_mapping"):
        raise bad_config("auto_mapping names code to load")
    if plain.get("init_lora_weights") not in (True, False, None, "gaussian", "eva", "orthogonal"):
        unsupported("init_lora_weights changes the base; save it with PEFT's conversion to LoRA")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            known = PeftConfig.from_pretrained(str(adapter_dir), local_files_only=True)
        except (ValueError, TypeError, KeyError, OSError) as bad:
            raise bad_config(f"peft does not know it: {str(bad)[:200]}") from bad
    for name, value in plain.items():
        # PEFT drops what it does not know, and with it what the adapter was meant to do.
        if value and not hasattr(known, name):
            raise bad_config(f"the field {name[:60]!r} is not known here and is not off")


def _difference(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> Delta:
    if before.keys() != after.keys():
        unsupported(f"it adds or removes {min(before.keys() ^ after.keys())[:120]!r}")
    made = {}
    for name, old in before.items():
        if torch.equal(old, after[name]):
            continue
        module = name.removesuffix(".weight")
        if old.dim() != 2 or adapter.is_embedding(module) or module == name:
            unsupported(f"it changes {name[:120]!r}, which is no linear weight")
        made[module] = algebra.factored(after[name] - old, KEPT_ENERGY)
    if not made:
        raise PeerError("E0705", "the adapter changes nothing")
    return made


def _require_fit(change: Delta, base_dir: Path) -> None:
    base = weights.read_directory(base_dir)
    for module, factors in change.items():
        weight = base.get(f"{module}.weight")
        if weight is None or len(weight.shape) != 2:
            raise PeerError("E0703", f"the base has no linear module {module[:120]!r}")
        if adapter.is_embedding(module):
            unsupported(f"it adapts the embedding {module!r}")
        if weight.shape != (factors.b.shape[0], factors.a.shape[1]):
            raise PeerError(
                "E0704", f"the change of {module!r} is not {list(weight.shape)}, as the base is"
            )


def _module(name: str, ending: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(ending)
