"""Adapters of any make become the change they make, and plain LoRA; or are refused: why."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import HiraConfig, LoHaConfig, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from p2pllm import adapter
from p2pllm.errors import LocalError, P2pllmError, PeerError
from p2pllm.learn import adapter_io, delta, model
from p2pllm.learn.delta import Factors
from p2pllm.learn.graft import grafted
from tests.p2pllm.learn import planted, tiny

PROBE = torch.arange(40).view(2, 20) * 7


def answers(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = network(input_ids=PROBE).logits
        return logits


def loaded(base_dir: Path) -> Any:
    return model.load_base(base_dir, model.load_config(base_dir), torch.float32)


def foreign(directory: Path, config: Any) -> Path:
    """An adapter of any kind, as PEFT saves it, with noise in place of training."""
    config.task_type = "CAUSAL_LM"
    network = get_peft_model(tiny.llama(), config)
    torch.manual_seed(5)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and "magnitude" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif parameter.requires_grad:
            parameter.data *= 1.3
    network.save_pretrained(directory)
    return directory


def test_what_is_written_is_read_again_and_passes_inspection(
    base_dir: Path, tmp_path: Path
) -> None:
    change = planted.noise(tiny.llama(), 1)
    del change["model.layers.1.self_attn.q_proj"]  # a target it has not: written as zero
    lora = adapter_io.write(change, base_dir, tmp_path / "made")
    assert lora == adapter.inspect(tmp_path / "made", base_dir)
    again = delta.read(tmp_path / "made", lora)
    gap = delta.stack([(again, 1.0), (change, -1.0)])
    assert delta.norm(gap) < 1e-6 * delta.norm(change)
    plain = PeftModel.from_pretrained(loaded(base_dir), str(tmp_path / "made"))
    with grafted(loaded(base_dir), change) as network:
        assert torch.allclose(answers(plain), answers(network), atol=1e-5)


def test_the_scale_of_rslora_is_alpha_by_the_root_of_the_rank(
    base_dir: Path, tmp_path: Path
) -> None:
    made = tiny.save_adapter(tmp_path / "rs", r=9, lora_alpha=6, use_rslora=True)
    tensors = load_file(made / "adapter_model.safetensors")
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    by_hand = 6 / math.sqrt(9) * (tensors[name.replace("_A", "_B")] @ tensors[name])
    found = adapter_io.read(made, base_dir)
    factors = found.delta["model.layers.0.self_attn.q_proj"]
    assert torch.allclose((factors.b @ factors.a).float(), by_hand, atol=1e-6)
    assert "rslora" in found.how
    plain = PeftModel.from_pretrained(loaded(base_dir), str(made))
    with grafted(loaded(base_dir), found.delta) as network:
        assert torch.allclose(answers(plain), answers(network), atol=1e-4)


def test_patterns_of_ranks_and_alphas_are_folded(base_dir: Path, tmp_path: Path) -> None:
    pattern = {"rank_pattern": {"layers.1.self_attn.v_proj": 7}, "alpha_pattern": {"q_proj": 3}}
    made = tiny.save_adapter(tmp_path / "p", layers_to_transform=[1], **pattern)
    found = adapter_io.read(made, base_dir)
    assert set(found.delta) == {f"model.layers.1.self_attn.{kind}_proj" for kind in "qv"}
    assert found.delta["model.layers.1.self_attn.v_proj"].a.shape[0] == 7
    plain = PeftModel.from_pretrained(loaded(base_dir), str(made))
    with grafted(loaded(base_dir), found.delta) as network:
        assert torch.allclose(answers(plain), answers(network), atol=1e-4)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], use_dora=True), "DoRA"),
        (LoKrConfig(r=4, alpha=8, target_modules=["q_proj", "v_proj"]), "LOKR"),
        (LoHaConfig(r=4, alpha=8, target_modules=["up_proj"]), "LOHA"),
        (HiraConfig(r=2, target_modules=["q_proj"]), "HIRA"),
    ],
)
def test_other_kinds_are_factored_from_what_they_do_to_the_weights(
    base_dir: Path, tmp_path: Path, config: Any, kind: str
) -> None:
    made = foreign(tmp_path / "foreign", config)
    found = adapter_io.read(made, base_dir)
    assert found.how.startswith(kind)
    lora = adapter_io.write(found.delta, base_dir, tmp_path / "plain")
    wanted = answers(PeftModel.from_pretrained(loaded(base_dir), str(made)))
    change = answers(model.load_adapter(loaded(base_dir), tmp_path / "plain", lora))
    before = answers(loaded(base_dir))
    assert (change - wanted).norm() < 0.03 * (wanted - before).norm()  # 0.9999 of the energy


def with_tensor(made: Path, name: str) -> None:
    path = made / "adapter_model.safetensors"
    save_file(load_file(path) | {name: torch.ones(4)}, path)


def with_nan(made: Path, name: str) -> None:
    path = made / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[min(tensors)][0] = math.nan
    save_file(tensors, path)


BREAKS: list[tuple[str, Callable[[Path], None]]] = [
    ("E0706", lambda made: tiny.edit_config(made, lora_bias=True)),
    ("E0706", lambda made: tiny.edit_config(made, init_lora_weights="pissa")),
    ("E0706", lambda made: tiny.edit_config(made, modules_to_save=["lm_head"])),
    ("E0706", lambda made: tiny.edit_config(made, fan_in_fan_out=True)),
    ("E0706", lambda made: with_tensor(made, "base_model.model.x.lora_magnitude_vector")),
    ("E0709", lambda made: tiny.edit_config(made, use_new_thing=True)),
    ("E0709", lambda made: tiny.edit_config(made, alpha_pattern={"q_proj": -1})),
    ("E0709", lambda made: tiny.edit_config(made, peft_type="NOSUCH")),
    ("E0609", lambda made: with_nan(made, "")),
    ("E0606", lambda made: (made / "adapter_model.safetensors").write_bytes(b"\x80\x02" * 40)),
]


@pytest.mark.parametrize(("code", "spoil"), BREAKS)
def test_what_cannot_be_folded_is_refused_with_its_reason(
    base_dir: Path, tmp_path: Path, code: str, spoil: Any
) -> None:
    made = tiny.save_adapter(tmp_path / "foreign")
    spoil(made)
    with pytest.raises(P2pllmError) as refused:
        adapter_io.read(made, base_dir)
    assert refused.value.code == code


def test_a_change_of_another_base_is_not_written(base_dir: Path, tmp_path: Path) -> None:
    wrong = {"model.layers.9.self_attn.q_proj": Factors(torch.ones(32, 1), torch.ones(1, 32))}
    with pytest.raises(PeerError, match=r"layers\.9"):
        adapter_io.write(wrong, base_dir, tmp_path / "made")
    size = {"model.layers.0.self_attn.q_proj": Factors(torch.ones(31, 1), torch.ones(1, 32))}
    with pytest.raises(PeerError) as refused:
        adapter_io.write(size, base_dir, tmp_path / "made")
    assert refused.value.code == "E0704"
    wide = {"model.layers.0.self_attn.q_proj": Factors(torch.ones(32, 1025), torch.ones(1025, 32))}
    with pytest.raises(LocalError) as refused2:
        adapter_io.write(wide, base_dir, tmp_path / "made")
    assert refused2.value.code == "E0204"
    assert not (tmp_path / "made").exists()
