"""What an adapter_config.json may say, and the one form it is written in. No torch.

The rules are in docs/specs/adapter.md. A config from elsewhere reaches no loader: it is read here,
field by field, and what is used or published is written anew from what was read.
"""

import re
from typing import Any, NoReturn

import msgspec

from p2pllm import model_json
from p2pllm.errors import PeerError

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 64 * 1024  # PEFT writes about 1 kB
MAX_TARGETS = 64

_TARGET = re.compile(r"[A-Za-z0-9_.]{1,120}")

# Fields that make it another kind of adapter unless they are off.
_MUST_BE_OFF = frozenset(
    {
        "alora_invocation_tokens",
        "alpha_pattern",
        "arrow_config",
        "corda_config",
        "ensure_weight_tying",
        "exclude_modules",
        "fan_in_fan_out",
        "kasa_config",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_ga_config",
        "megatron_config",
        "modules_to_save",
        "monteclora_config",
        "rank_pattern",
        "target_parameters",
        "trainable_token_indices",
        "use_bdlora",
        "use_dora",
        "use_qalora",
        "use_rslora",
        "velora_config",
    }
)
# Fields that say something about the making of an adapter, not about what it computes.
_IGNORED = frozenset(
    {
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "lora_dropout",
        "peft_version",
        "megatron_core",
        "qalora_group_size",
        "eva_config",
        "runtime_config",
    }
)
_READ = frozenset(
    {
        "peft_type",
        "task_type",
        "r",
        "lora_alpha",
        "target_modules",
        "bias",
        "init_lora_weights",
        "auto_mapping",
    }
)
# Initialisations that leave the base as it is. PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA change it, so
# that an adapter made with them is wrong on the base that everybody else has.
_INITS = (True, False, "gaussian", "eva", "orthogonal", None)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter_config.json says that matters: ΔW = (alpha / rank) B A on every target."""

    rank: int
    alpha: float
    targets: tuple[str, ...]  # module name endings, sorted


def parse_config(raw: bytes) -> Config:
    """A plain LoRA's settings out of adapter_config.json.

    Raises PeerError E0709 (malformed, or a field nobody here knows) or E0706 (another kind).
    """
    try:
        plain = model_json.read_object(raw, MAX_CONFIG_BYTES)
    except ValueError as bad:
        raise bad_config(str(bad)) from bad
    if plain.get("peft_type") != "LORA":
        unsupported(f"peft_type is {_short(plain.get('peft_type'))}, only LORA is taken")
    if plain.get("task_type") not in ("CAUSAL_LM", None):
        unsupported(f"task_type is {_short(plain['task_type'])}, only CAUSAL_LM is taken")
    for name, value in plain.items():
        _check_field(name, value)
    rank, alpha = plain.get("r"), plain.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= 1024:
        raise bad_config(f"r is {_short(rank)}, wanted 1 to 1024")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 < alpha <= 65536:
        raise bad_config(f"lora_alpha is {_short(alpha)}, wanted more than 0, at most 65536")
    return Config(rank=rank, alpha=float(alpha), targets=_targets(plain.get("target_modules")))


def write_config(config: Config) -> bytes:
    """adapter_config.json in its one form: plain PEFT loads it, nothing in it is free text."""
    whole = config.alpha.is_integer()
    return model_json.write_object(
        {
            "base_model_name_or_path": None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": int(config.alpha) if whole else config.alpha,
            "lora_dropout": 0.0,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": config.rank,
            "target_modules": list(config.targets),
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": False,
        }
    )


def canonical_config(raw: bytes) -> tuple[bytes, Config]:
    """The one form of an adapter_config.json, and what it says; errors as of `parse_config`."""
    config = parse_config(raw)
    return write_config(config), config


def _check_field(name: str, value: object) -> None:
    off = value in (None, False, "") or value == [] or value == {}
    if name in _MUST_BE_OFF:
        if not off:
            unsupported(f"{name} is {_short(value)}, and only plain LoRA is taken")
    elif name == "bias":
        if value not in ("none", None):
            unsupported(f"bias is {_short(value)}, and biases are not adapted here")
    elif name == "init_lora_weights":
        if not any(value is init or value == init for init in _INITS):
            unsupported(f"init_lora_weights is {_short(value)}, which changes the base")
    elif name == "auto_mapping":
        if not off:
            raise bad_config("auto_mapping names code to load")
    elif name not in _IGNORED and name not in _READ and not off:
        # A later PEFT may know more fields. One that is off asks for nothing.
        raise bad_config(f"the field {name[:60]!r} is not known here and is not off")


def _targets(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        unsupported("target_modules is a pattern; name the modules in a list")
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_TARGETS:
        raise bad_config(f"target_modules is no list of 1 to {MAX_TARGETS} names")
    if not all(isinstance(name, str) and _TARGET.fullmatch(name) for name in value):
        raise bad_config("target_modules holds something that is no module name")
    return tuple(sorted(set(value)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def bad_config(why: str, fix: str = "save the adapter again with PEFT") -> PeerError:
    """The error for a config that is malformed or says what it may not."""
    return PeerError("E0709", f"{CONFIG_FILE} is refused: {why}", fix=[fix])


def unsupported(why: str) -> NoReturn:
    """Refuse an adapter that is something else than plain LoRA."""
    raise PeerError(
        "E0706",
        f"this adapter is not plain LoRA: {why}",
        fix=["train plain LoRA, or convert the adapter with peft's convert_to_lora"],
    )
