"""Whether a LoRA adapter may be used on a base: its names and its shapes. No torch.

The rules are in docs/specs/adapter.md. An error names the rule that does not hold.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from p2pllm import weights
from p2pllm.adapter_config import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    Config,
    bad_config,
    parse_config,
    unsupported,
    write_config,
)
from p2pllm.errors import PeerError, Unavailable
from p2pllm.manifest import Lora
from p2pllm.weights import Tensor

WEIGHTS_FILE = "adapter_model.safetensors"

_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,200})\.lora_(?P<half>[AB])\.weight"
)

# Lookups, not products: their LoRA has other tensors, and tied weights would change twice.
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "wpe", "word_embeddings", "embed_in", "lm_head"})


def inspect(adapter_dir: Path, base_dir: Path) -> Lora:
    """What an adapter is, its config and tensor headers proved to fit the base's headers.

    The directory is as `push` leaves it: two files, the config in its one form.

    Raises PeerError E0606, E0608 (the file), E0703, E0704 (names, shapes), E0705 (empty), E0706
    (another kind) or E0709 (config), Unavailable E0402 (no adapter there).
    """
    path = adapter_dir / CONFIG_FILE
    if not path.is_file():
        raise Unavailable("E0402", f"no {CONFIG_FILE} in {adapter_dir}")
    with path.open("rb") as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    config = parse_config(raw)
    if write_config(config) != raw:
        raise bad_config("it is not in its one form", fix="push the adapter, which rewrites it")
    if not (adapter_dir / WEIGHTS_FILE).is_file():
        weights.weight_files(adapter_dir)  # E0606 if there is a pickle instead
        raise Unavailable("E0402", f"no {WEIGHTS_FILE} in {adapter_dir}")
    more = {path.name for path in adapter_dir.iterdir() if path.is_file()}
    more -= {CONFIG_FILE, WEIGHTS_FILE}
    if more:
        raise bad_config(f"beside it stands {min(more)[:80]!r}, which is no part of an adapter")
    tensors = weights.read_header(adapter_dir / WEIGHTS_FILE)
    return fit(config, tensors, weights.read_directory(base_dir))


def fit(config: Config, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> Lora:
    """The LoRA these tensors make on this base; errors as of `inspect`.

    Every tensor is one half of a pair on a linear module of the base, every pair has the shapes
    that module needs, and the modules are exactly those the config's targets name.
    """
    if not tensors:
        raise PeerError("E0705", "the adapter has no tensors")
    modules = _pairs(tensors)
    for module, (a, b) in modules.items():
        _check_shapes(config.rank, module, a, b, base)
    wanted = targeted(base, config.targets).keys()
    if wanted != modules.keys():
        odd = min(wanted ^ modules.keys())
        lacks = "no tensors for the target" if odd in wanted else "tensors for what is no target,"
        _wrong_modules(f"the adapter has {lacks} {odd!r}")
    return Lora(rank=config.rank, alpha=config.alpha, targets=config.targets, tensors=len(tensors))


def targeted(base: Mapping[str, Tensor], targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The linear modules of a base that these targets name, with their (out, in) sizes.

    Raises PeerError E0703 for a target that names none, E0706 for one that names an embedding.
    """
    linear = {
        name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
        for name, tensor in base.items()
        if name.endswith(".weight") and len(tensor.shape) == 2
    }
    found = {name: size for name, size in linear.items() if _is_target(name, targets)}
    for target in targets:
        if not any(_is_target(name, (target,)) for name in found):
            endings = sorted({name.rpartition(".")[2] for name in linear} - _EMBEDDINGS)
            _wrong_modules(f"the base has no module {target!r}", endings)
    for name in found:
        if is_embedding(name):
            unsupported(f"it adapts the embedding {name!r}")
    return found


def is_embedding(module: str) -> bool:
    """Whether a module looks tokens up or is tied to what does: no adapter may change it."""
    return module.rpartition(".")[2] in _EMBEDDINGS


def require_base(wanted: str, got: str) -> None:
    """Return if the base is the one the adapter was made for; else PeerError E0702."""
    if wanted != got:
        raise PeerError(
            "E0702",
            f"the adapter is made for base {wanted[:16]}…, this base is {got[:16]}…",
            fix=["pull or import the base that the adapter's manifest names"],
            details={"wanted": wanted, "got": got},
        )


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name)
        if not match:
            _refuse_name(name)
        if tensor.dtype not in weights.FLOATS:
            unsupported(f"{name} holds {tensor.dtype}; wanted {', '.join(sorted(weights.FLOATS))}")
        halves.setdefault(match["module"], {})[match["half"]] = tensor
    for module, pair in halves.items():
        if len(pair) != 2:
            _wrong_modules(f"the adapter has only one half of the pair on {module!r}")
    return {module: (pair["A"], pair["B"]) for module, pair in halves.items()}


def _check_shapes(rank: int, module: str, a: Tensor, b: Tensor, base: Mapping[str, Tensor]) -> None:
    weight = base.get(f"{module}.weight")
    if weight is None or len(weight.shape) != 2:
        _wrong_modules(f"the base has no linear module {module!r}")
    out_size, in_size = weight.shape
    for half, got, wanted in (("A", a.shape, (rank, in_size)), ("B", b.shape, (out_size, rank))):
        if got != wanted:
            raise PeerError(
                "E0704",
                f"lora_{half} of {module!r} has shape {list(got)}, wanted {list(wanted)}",
                why=[f"the base has {list(weight.shape)} there, and the config says rank {rank}"],
            )


def _refuse_name(name: str) -> NoReturn:
    for part in ("lora_magnitude_vector", "lora_embedding_", "modules_to_save", ".bias"):
        if part in name:
            unsupported(f"it has the tensor {name[:120]!r}")
    _wrong_modules(f"the adapter's tensor {name[:120]!r} is no half of a LoRA pair")


def _is_target(module: str, targets: Sequence[str]) -> bool:
    # PEFT's rule for a list of names: the whole name, or an ending after a dot.
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _wrong_modules(why: str, endings: Sequence[str] = ()) -> NoReturn:
    has = [f"the base's modules end in: {', '.join(endings[:16])}"] if endings else []
    raise PeerError("E0703", why, why=has, fix=["use the base that the adapter was trained on"])
