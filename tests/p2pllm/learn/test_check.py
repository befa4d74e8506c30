"""The proof that an adapter made elsewhere fits, and the code each misfit ends with."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from p2pllm.errors import P2pllmError
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import CheckJob, CheckReport
from p2pllm.learn.check import check, hash_base
from p2pllm.manifest import model_id_of
from tests.p2pllm.learn import tiny

Tensors = dict[str, torch.Tensor]


def run(base_dir: Path, adapter_dir: Path, model: str = "") -> CheckReport:
    job = CheckJob(base_dir=str(base_dir), adapter_dir=str(adapter_dir), model=model)
    return check(job, lambda event: None)


def refusal(base_dir: Path, adapter_dir: Path, model: str = "") -> str:
    with pytest.raises(P2pllmError) as caught:
        run(base_dir, adapter_dir, model)
    return caught.value.code


def edit(adapter_dir: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = adapter_dir / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_an_adapter_that_peft_wrote_fits(base_dir: Path, adapter_dir: Path) -> None:
    report = run(base_dir, adapter_dir)
    assert report.tensors == 8
    assert report.max_logit_change > 0
    tensors = load_file(adapter_dir / "adapter_model.safetensors")
    deltas = [
        2.0 * tensors[name.replace("lora_A", "lora_B")] @ a
        for name, a in tensors.items()
        if "lora_A" in name
    ]
    whole = sum(float(delta.pow(2).sum()) for delta in deltas) ** 0.5
    assert report.delta_norm == pytest.approx(whole, rel=1e-5)


def test_the_base_is_known_by_its_hash(base_dir: Path, adapter_dir: Path) -> None:
    files = ("config.json", "tokenizer.json", "model.safetensors")
    wanted = model_id_of({name: content_id((base_dir / name).read_bytes()) for name in files})
    assert hash_base(base_dir) == wanted
    assert run(base_dir, adapter_dir, wanted).tensors == 8
    assert refusal(base_dir, adapter_dir, ContentId("0" * 64)) == "E0702"


def test_a_renamed_module_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    edit(adapter_dir, lambda found: {n.replace("q_proj", "query"): t for n, t in found.items()})
    assert refusal(base_dir, adapter_dir) == "E0703"


def test_tensors_of_another_shape_are_refused(base_dir: Path, adapter_dir: Path) -> None:
    edit(adapter_dir, lambda found: {n: torch.zeros(4, 7) for n in found})
    assert refusal(base_dir, adapter_dir) == "E0704"


def test_a_base_of_another_size_is_refused(adapter_dir: Path, tmp_path: Path) -> None:
    foreign = tiny.save_base(tmp_path / "foreign-base", tiny.llama(hidden_size=64))
    wide = tiny.imported(foreign, tmp_path / "wide")
    assert refusal(wide, adapter_dir) == "E0704"


def test_an_adapter_without_tensors_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    edit(adapter_dir, lambda found: {})
    assert refusal(base_dir, adapter_dir) == "E0705"


@pytest.mark.parametrize("half", ["lora_A", "lora_B"])
def test_an_adapter_that_changes_nothing_is_refused(
    base_dir: Path, adapter_dir: Path, half: str
) -> None:
    edit(adapter_dir, lambda found: {n: t * 0 if half in n else t for n, t in found.items()})
    assert refusal(base_dir, adapter_dir) == "E0705"


def test_an_adapter_too_faint_to_change_an_answer_is_refused(
    base_dir: Path, adapter_dir: Path
) -> None:
    edit(adapter_dir, lambda found: {n: t * 1e-18 for n, t in found.items()})
    assert refusal(base_dir, adapter_dir) == "E0705"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(base_dir: Path, adapter_dir: Path, value: float) -> None:
    def spoil(found: Tensors) -> Tensors:
        found[min(found)][0, 0] = value
        return found

    edit(adapter_dir, spoil)
    assert refusal(base_dir, adapter_dir) == "E0609"


def test_finite_weights_whose_answers_are_not_are_refused(
    base_dir: Path, adapter_dir: Path
) -> None:
    edit(adapter_dir, lambda found: {n: t * 1e38 for n, t in found.items()})
    assert refusal(base_dir, adapter_dir) == "E0609"


def test_a_pickle_with_another_name_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    (adapter_dir / "adapter_model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    assert refusal(base_dir, adapter_dir) == "E0606"


def test_a_header_that_lies_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    path = adapter_dir / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes() + b"more")
    assert refusal(base_dir, adapter_dir) == "E0608"


def test_a_config_of_another_kind_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    tiny.edit_config(adapter_dir, use_rslora=True)
    assert refusal(base_dir, adapter_dir) == "E0706"


def test_a_config_that_names_code_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    tiny.edit_config(adapter_dir, auto_mapping={"parent_library": "evil"})
    assert refusal(base_dir, adapter_dir) == "E0709"


def test_a_config_that_is_not_in_its_one_form_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    tiny.edit_config(adapter_dir, revision="main")
    assert refusal(base_dir, adapter_dir) == "E0709"


def test_a_stowaway_beside_an_adapter_is_refused(base_dir: Path, adapter_dir: Path) -> None:
    (adapter_dir / "sitecustomize.py").write_text("")
    assert refusal(base_dir, adapter_dir) == "E0709"


def test_a_base_that_no_import_made_is_refused(foreign_base: Path, adapter_dir: Path) -> None:
    assert refusal(foreign_base, adapter_dir) == "E0711"


def test_every_field_that_peft_writes_is_known(adapter_dir: Path) -> None:
    LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(adapter_dir)
    fields = json.loads((adapter_dir / "adapter_config.json").read_text())
    from p2pllm import adapter_config  # its lists, not its behaviour, are what is looked at

    known = adapter_config._MUST_BE_OFF | adapter_config._IGNORED | adapter_config._READ
    assert fields.keys() <= known


def test_half_precision_adapters_fit_too(base_dir: Path, adapter_dir: Path) -> None:
    edit(adapter_dir, lambda found: {n: t.to(torch.float16) for n, t in found.items()})
    assert run(base_dir, adapter_dir).max_logit_change > 0


def test_a_base_without_a_tokenizer_is_refused(
    base_dir: Path, adapter_dir: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base_dir, bare)
    (bare / "tokenizer.json").unlink()
    assert refusal(bare, adapter_dir) == "E0711"
