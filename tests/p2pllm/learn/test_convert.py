"""Variants and exports stand whole, say what they cost, and load as plain transformers loads."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from p2pllm import base_files, durable
from p2pllm.errors import LocalError, PeerError
from p2pllm.jobs import EvalJob, Progress, TuneJob
from p2pllm.jobs_files import ExportJob, ExportReport, QuantiseJob
from p2pllm.learn import adapter_io, convert
from p2pllm.learn.evaluate import evaluate
from p2pllm.learn.graft import grafted
from p2pllm.learn.tune import tune
from tests.p2pllm.learn import planted, tiny
from tests.p2pllm.learn.test_adapter_io import answers, loaded


def nothing(_event: Progress) -> None:
    pass


@pytest.fixture(scope="module")
def merged_dir(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter worth exporting."""
    made = tmp_path_factory.mktemp("adapter") / "made"
    adapter_io.write(planted.noise(tiny.llama(), 4), base_dir, made)
    return made


def export(base_dir: Path, out: Path, **more: object) -> ExportReport:
    job = ExportJob(base_dir=str(base_dir), out_dir=str(out), **more)  # type: ignore[arg-type]
    return convert.export(job, nothing)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.01), (4, 0.3)])
def test_a_variant_is_a_base_that_is_measured_beside_the_one_it_was_made_of(
    base_dir: Path, tmp_path: Path, text: Path, bits: int, most: float
) -> None:
    stages = []
    job = QuantiseJob(
        base_dir=str(base_dir),
        out_dir=str(tmp_path / "v"),
        bits=bits,
        data=(str(text),),  # type: ignore[arg-type]
    )
    done = convert.quantise(job, lambda event: stages.append(event.stage))
    assert base_files.inspect(tmp_path / "v") == "LlamaForCausalLM"
    assert done.numbers == f"Q{bits}_0"
    assert done.base_loss is not None
    assert done.loss == pytest.approx(done.base_loss, abs=most)
    assert done.loss != done.base_loss
    assert done.size_bytes < done.base_size_bytes
    assert done.speed is not None
    assert done.speed.read_tokens_s > 0
    assert {"quantise", "measure-base", "measure"} <= set(stages)
    again = evaluate(EvalJob(base_dir=str(tmp_path / "v"), data=(str(text),), split="all"), nothing)
    assert again.loss == pytest.approx(done.loss, abs=1e-6)


def test_a_variant_is_neither_trained_nor_quantised_again(
    base_dir: Path, tmp_path: Path, text: Path
) -> None:
    variant = tmp_path / "v"
    job = QuantiseJob(base_dir=str(base_dir), out_dir=str(variant), bits=8)
    assert convert.quantise(job, nothing).loss is None
    with pytest.raises(PeerError, match="safetensors") as again:
        convert.quantise(
            QuantiseJob(base_dir=str(variant), out_dir=str(tmp_path / "w"), bits=4), nothing
        )
    assert "variant" in again.value.why[0]
    with pytest.raises(PeerError, match="safetensors"):
        tune(
            TuneJob(base_dir=str(variant), data=(str(text),), out_dir=str(tmp_path / "t")), nothing
        )
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("format_", "bits", "most"),
    [("safetensors", 16, 0.05), ("safetensors", 32, 1e-6), ("gguf", 16, 0.01), ("gguf", 32, 1e-6)],
)
def test_a_merged_export_answers_as_the_base_with_the_adapter(
    base_dir: Path, tmp_path: Path, merged_dir: Path, format_: str, bits: int, most: float
) -> None:
    settings = {"adapter_dir": str(merged_dir), "format": format_, "bits": bits}
    done = export(base_dir, tmp_path / "out", **settings)
    assert done.rounding < most
    place = {"gguf_file": "model.gguf"} if format_ == "gguf" else {}
    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype=torch.float32, local_files_only=True, **place
    )
    if format_ == "safetensors":
        wanted_dtype = torch.float32 if bits == 32 else torch.bfloat16
        auto = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
        assert auto.dtype == wanted_dtype
    with grafted(loaded(base_dir), planted.noise(tiny.llama(), 4)) as network:
        wanted = answers(network)
    gap = float((answers(plain.eval()) - wanted).norm())
    assert gap < max(most, 1e-4) * float((wanted - answers(loaded(base_dir))).norm())
    assert set(done.files) >= ({"model.gguf"} if place else {"model.safetensors", "config.json"})


def test_an_adapter_is_exported_alone(base_dir: Path, tmp_path: Path, merged_dir: Path) -> None:
    plain = {"adapter_dir": str(merged_dir), "alone": True}
    assert export(base_dir, tmp_path / "a", format="gguf", **plain).files == ("adapter.gguf",)
    export(base_dir, tmp_path / "b", format="safetensors", **plain)
    for path in merged_dir.iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()


def test_a_base_is_exported_as_it_is(base_dir: Path, tmp_path: Path) -> None:
    done = export(base_dir, tmp_path / "out", format="safetensors")
    assert done.rounding == 0
    assert base_files.inspect(tmp_path / "out")
    assert torch.equal(answers(loaded(tmp_path / "out")), answers(loaded(base_dir)))


def test_refusals_leave_nothing_behind(base_dir: Path, tmp_path: Path) -> None:
    for more, code in (
        ({"format": "gguf", "alone": True}, "E0204"),
        ({"format": "safetensors", "bits": 8}, "E0204"),
        ({"format": "gguf", "max_memory_bytes": 1}, "E0708"),
    ):
        with pytest.raises(LocalError) as refused:
            export(base_dir, tmp_path / "out", **more)
        assert refused.value.code == code
    assert list(tmp_path.iterdir()) == []
    making, mine = durable.making(tmp_path / "out"), tmp_path / "out.tmp"
    for folder in (making, mine):
        folder.mkdir()
        (folder / "half").write_text("what a killed job left, or a user has")
    assert export(base_dir, tmp_path / "out", format="gguf").files == ("model.gguf",)
    assert not making.exists()
    assert (mine / "half").exists()
    with pytest.raises(LocalError, match="not empty"):
        export(base_dir, tmp_path / "out", format="gguf")
