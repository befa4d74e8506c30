"""Adapters judged by their config and their headers: what fits, and which rule a misfit breaks."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import adapter, adapter_config
from p2pllm.adapter_config import Config
from p2pllm.errors import P2pllmError, PeerError, Unavailable
from p2pllm.manifest import Lora
from p2pllm.weights import Tensor

# What PEFT 0.21 writes for LoraConfig(r=4, lora_alpha=8, target_modules=["v_proj", "q_proj"]).
PEFT = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "someone/some-model",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["v_proj", "q_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
CONFIG = Config(rank=4, alpha=8.0, targets=("q_proj", "v_proj"))
LAYERS = ("model.layers.0.self_attn", "model.layers.1.self_attn")


def raw(**changes: object) -> bytes:
    return json.dumps(PEFT | changes).encode()


def tensor(*shape: int, dtype: str = "F32") -> Tensor:
    return Tensor(dtype, shape, (0, 0))


def base() -> dict[str, Tensor]:
    found = {"model.embed_tokens.weight": tensor(100, 16), "model.norm.weight": tensor(16)}
    for layer in LAYERS:
        found[f"{layer}.q_proj.weight"] = tensor(16, 16)
        found[f"{layer}.v_proj.weight"] = tensor(8, 16)
        found[f"{layer}.o_proj.weight"] = tensor(16, 16)
    return found


def pair(module: str, out: int, rank: int = 4, dtype: str = "F32") -> dict[str, Tensor]:
    return {
        f"base_model.model.{module}.lora_A.weight": tensor(rank, 16, dtype=dtype),
        f"base_model.model.{module}.lora_B.weight": tensor(out, rank, dtype=dtype),
    }


def tensors() -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for layer in LAYERS:
        found |= pair(f"{layer}.q_proj", 16) | pair(f"{layer}.v_proj", 8)
    return found


def code_of(read: Callable[[], object]) -> str:
    try:
        read()
    except P2pllmError as refused:
        return refused.code
    return ""


def config_refusal(text: bytes) -> PeerError:
    with pytest.raises(PeerError) as caught:
        adapter_config.parse_config(text)
    return caught.value


def fit_refusal(found: dict[str, Tensor], config: Config = CONFIG) -> str:
    with pytest.raises(PeerError) as caught:
        adapter.fit(config, found, base())
    return caught.value.code


def test_what_peft_writes_becomes_the_one_form() -> None:
    canonical, config = adapter_config.canonical_config(raw())
    assert config == CONFIG
    assert adapter_config.canonical_config(canonical) == (canonical, CONFIG)
    assert b"someone" not in canonical
    assert json.loads(canonical)["base_model_name_or_path"] is None


def test_the_order_of_fields_and_targets_does_not_change_the_one_form() -> None:
    shuffled = dict(reversed(PEFT.items())) | {"target_modules": ["q_proj", "v_proj", "q_proj"]}
    assert (
        adapter_config.canonical_config(json.dumps(shuffled).encode())[0]
        == (adapter_config.canonical_config(raw())[0])
    )


def test_an_alpha_that_is_no_whole_number_is_kept() -> None:
    _text, config = adapter_config.canonical_config(raw(lora_alpha=2.5))
    assert config.alpha == 2.5


def test_a_field_of_a_later_peft_is_taken_while_it_is_off() -> None:
    assert adapter_config.parse_config(raw(new_trick=None, new_list=[])) == CONFIG
    assert config_refusal(raw(new_trick=3)).code == "E0709"


KINDS: dict[str, object] = {
    "peft_type": "LOHA",
    "task_type": "SEQ_CLS",
    "use_dora": True,
    "use_rslora": True,
    "use_qalora": True,
    "lora_bias": True,
    "bias": "all",
    "fan_in_fan_out": True,
    "modules_to_save": ["lm_head"],
    "rank_pattern": {"q_proj": 8},
    "alpha_pattern": {"q_proj": 8},
    "layers_to_transform": [1],
    "layer_replication": [[0, 1]],
    "init_lora_weights": "pissa",
    "target_parameters": ["x"],
    "trainable_token_indices": [1],
    "target_modules": "all-linear",
    "exclude_modules": ["k_proj"],
}


@pytest.mark.parametrize("field", KINDS)
def test_another_kind_of_adapter_is_refused(field: str) -> None:
    refused = config_refusal(raw(**{field: KINDS[field]}))
    assert refused.code == "E0706"
    assert field in refused.message


BAD: dict[str, object] = {
    "r": 0,
    "lora_alpha": -1,
    "target_modules": [],
    "auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"},
}


@pytest.mark.parametrize("field", BAD)
def test_a_field_out_of_bounds_is_refused(field: str) -> None:
    assert config_refusal(raw(**{field: BAD[field]})).code == "E0709"


@pytest.mark.parametrize("value", [True, "8", 2.0, 10**9, None])
def test_a_rank_that_is_no_small_integer_is_refused(value: object) -> None:
    assert config_refusal(raw(r=value)).code == "E0709"


@pytest.mark.parametrize("name", ["q proj", "../x", "(q|v)_proj", "", 3, "q" * 121])
def test_a_target_that_is_no_module_name_is_refused(name: object) -> None:
    assert config_refusal(raw(target_modules=[name])).code == "E0709"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"r": 1, "r": 2}',
        b'{"lora_alpha": NaN}',
        b"{" + b" " * 70_000 + b"}",
        b'{"a":' * 9_000,
    ],
)
def test_what_is_no_small_json_object_is_refused(text: bytes) -> None:
    assert config_refusal(text).code == "E0709"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    assert code_of(lambda: adapter_config.parse_config(text)) in ("E0706", "E0709")


@given(
    st.dictionaries(
        st.sampled_from(sorted(PEFT)) | st.text(max_size=8),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        max_size=4,
    )
)
def test_whatever_is_read_is_written_in_a_form_that_reads_the_same(
    changes: dict[str, object],
) -> None:
    text = raw(**changes)
    code = code_of(lambda: adapter_config.parse_config(text))
    if code:
        assert code in ("E0706", "E0709")
        return
    canonical, config = adapter_config.canonical_config(text)
    assert adapter_config.canonical_config(canonical) == (canonical, config)


def test_an_adapter_that_fits_is_described() -> None:
    assert adapter.fit(CONFIG, tensors(), base()) == Lora(
        rank=4, alpha=8.0, targets=("q_proj", "v_proj"), tensors=8
    )


def test_no_tensors_are_no_adapter() -> None:
    assert fit_refusal({}) == "E0705"


def test_a_renamed_module_is_refused() -> None:
    renamed = {name.replace("q_proj", "query"): value for name, value in tensors().items()}
    assert fit_refusal(renamed) == "E0703"


def test_a_target_the_base_does_not_have_is_refused() -> None:
    config = Config(rank=4, alpha=8.0, targets=("q_proj", "query", "v_proj"))
    assert fit_refusal(tensors(), config) == "E0703"


def test_a_target_without_tensors_is_refused() -> None:
    config = Config(rank=4, alpha=8.0, targets=("o_proj", "q_proj", "v_proj"))
    assert fit_refusal(tensors(), config) == "E0703"


def test_tensors_that_no_target_names_are_refused() -> None:
    more = tensors() | pair(f"{LAYERS[0]}.o_proj", 16)
    assert fit_refusal(more) == "E0703"


def test_a_layer_left_out_is_refused() -> None:
    some = {name: value for name, value in tensors().items() if LAYERS[0] in name}
    assert fit_refusal(some) == "E0703"


def test_half_a_pair_is_refused() -> None:
    found = tensors()
    found.pop(next(name for name in found if "lora_B" in name))
    assert fit_refusal(found) == "E0703"


@pytest.mark.parametrize("name", ["x", "model.layers.0.self_attn.q_proj.lora_A.weight"])
def test_a_tensor_of_another_name_is_refused(name: str) -> None:
    assert fit_refusal(tensors() | {name: tensor(4, 16)}) == "E0703"


@pytest.mark.parametrize(
    "name",
    [
        f"base_model.model.{LAYERS[0]}.q_proj.lora_magnitude_vector",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.modules_to_save.weight",
    ],
)
def test_tensors_of_another_kind_of_adapter_are_called_that(name: str) -> None:
    assert fit_refusal(tensors() | {name: tensor(4, 16)}) == "E0706"


def test_an_adapted_embedding_is_refused() -> None:
    config = Config(rank=4, alpha=8.0, targets=("embed_tokens", "q_proj", "v_proj"))
    assert fit_refusal(tensors() | pair("model.embed_tokens", 100), config) == "E0706"


def test_whole_numbers_are_no_adapter_weights() -> None:
    found = tensors() | pair(f"{LAYERS[0]}.q_proj", 16, dtype="I8")
    assert fit_refusal(found) == "E0706"


def test_another_rank_than_the_config_says_is_refused() -> None:
    assert fit_refusal(tensors(), Config(rank=8, alpha=8.0, targets=CONFIG.targets)) == "E0704"


def test_a_base_of_another_width_is_refused() -> None:
    found = tensors() | pair(f"{LAYERS[0]}.q_proj", 32)
    assert fit_refusal(found) == "E0704"


def test_another_base_is_refused_by_its_id() -> None:
    adapter.require_base("a" * 64, "a" * 64)
    with pytest.raises(PeerError) as caught:
        adapter.require_base("a" * 64, "b" * 64)
    assert caught.value.code == "E0702"
    assert caught.value.details == {"wanted": "a" * 64, "got": "b" * 64}


def save(path: Path, found: dict[str, Tensor]) -> None:
    header, end = {}, 0
    for name, entry in found.items():
        size = entry.count * 4
        header[name] = {
            "dtype": "F32",
            "shape": list(entry.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("adapter", "base"):
        (tmp_path / name).mkdir()
    save(tmp_path / "base" / "model.safetensors", base())
    save(tmp_path / "adapter" / "adapter_model.safetensors", tensors())
    config, _settings = adapter_config.canonical_config(raw())
    (tmp_path / "adapter" / "adapter_config.json").write_bytes(config)
    return tmp_path / "adapter", tmp_path / "base"


def test_two_directories_are_compared_by_their_headers(places: tuple[Path, Path]) -> None:
    assert adapter.inspect(*places).tensors == 8


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(places: tuple[Path, Path], name: str) -> None:
    (places[0] / name).unlink()
    with pytest.raises((PeerError, Unavailable)) as caught:
        adapter.inspect(*places)
    assert caught.value.code in ("E0402", "E0606")


def test_a_config_must_be_in_its_one_form(places: tuple[Path, Path]) -> None:
    (places[0] / "adapter_config.json").write_bytes(raw())
    with pytest.raises(PeerError, match="one form") as caught:
        adapter.inspect(*places)
    assert caught.value.code == "E0709"


def test_another_file_is_no_part_of_an_adapter(places: tuple[Path, Path]) -> None:
    (places[0] / "run.py").touch()
    with pytest.raises(PeerError, match=r"run\.py") as caught:
        adapter.inspect(*places)
    assert caught.value.code == "E0709"


def test_a_pickle_beside_the_config_is_refused(places: tuple[Path, Path]) -> None:
    (places[0] / "adapter_model.safetensors").rename(places[0] / "adapter_model.bin")
    with pytest.raises(PeerError) as caught:
        adapter.inspect(*places)
    assert caught.value.code == "E0606"
