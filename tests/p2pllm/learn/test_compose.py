"""Several adapters as one: the sum on dense weights, the same bytes in any order, or less of it."""

from pathlib import Path

import pytest
import torch

from p2pllm import adapter
from p2pllm.errors import LocalError, PeerError
from p2pllm.jobs_files import Composed, ComposeJob, ComposeReport, Method
from p2pllm.learn import adapter_io, delta, model
from p2pllm.learn.compose import compose
from p2pllm.learn.delta import Delta
from tests.p2pllm.learn import tiny
from tests.p2pllm.learn.test_adapter_io import answers, loaded


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Composed]:
    """Three adapters of other ranks and modules, one of them rsLoRA."""
    folder = tmp_path_factory.mktemp("parts")
    made = [
        tiny.save_adapter(folder / "one", 1, r=4),
        tiny.save_adapter(folder / "two", 2, r=9, use_rslora=True),
        tiny.save_adapter(folder / "three", 3, r=2, target_modules=["v_proj", "down_proj"]),
    ]
    return [Composed(str(path), weight) for path, weight in zip(made, (0.5, 1.0, 0.7), strict=True)]


def run(base_dir: Path, out: Path, given: list[Composed], **more: object) -> ComposeReport:
    job = ComposeJob(base_dir=str(base_dir), parts=tuple(given), out_dir=str(out), **more)  # type: ignore[arg-type]
    return compose(job, lambda _event: None)


def change_of(made: Path, base_dir: Path) -> Delta:
    return delta.read(made, adapter.inspect(made, base_dir))


def test_an_exact_merge_answers_as_the_summed_weights_do(
    base_dir: Path, tmp_path: Path, parts: list[Composed]
) -> None:
    done = run(base_dir, tmp_path / "made", parts)
    assert (done.adapters, done.rank, done.energy) == (3, 15, 1.0)
    assert len(done.converted) == 1
    network = loaded(base_dir)
    for part in parts:
        for name, factors in adapter_io.read(Path(part.adapter_dir), base_dir).delta.items():
            network.get_submodule(name).weight.data += part.weight * (factors.b @ factors.a).float()
    lora = adapter.inspect(tmp_path / "made", base_dir)
    found = answers(model.load_adapter(loaded(base_dir), tmp_path / "made", lora))
    assert torch.allclose(found, answers(network), atol=1e-4)


def test_order_and_repetition_do_not_show_in_the_bytes(
    base_dir: Path, tmp_path: Path, parts: list[Composed]
) -> None:
    for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 1, 2, 0, 1])):
        run(base_dir, tmp_path / str(number), [parts[at] for at in order])
    files = [(tmp_path / str(n) / adapter.WEIGHTS_FILE).read_bytes() for n in range(3)]
    assert files[0] == files[1] == files[2]


def test_what_is_left_out_is_kept_as_the_residual(
    base_dir: Path, tmp_path: Path, parts: list[Composed]
) -> None:
    run(base_dir, tmp_path / "whole", parts)
    less, rest = tmp_path / "less", tmp_path / "rest"
    done = run(base_dir, less, parts, rank=3, residual_dir=str(rest))
    assert done.rank == 3
    assert done.residual
    assert 0.3 < done.energy < 1
    both = delta.stack([(change_of(less, base_dir), 1.0), (change_of(rest, base_dir), 1.0)])
    gap = delta.stack([(both, 1.0), (change_of(tmp_path / "whole", base_dir), -1.0)])
    assert delta.norm(gap) < 1e-6 * done.norm


def test_an_energy_below_one_takes_the_fewest_directions(
    base_dir: Path, tmp_path: Path, parts: list[Composed]
) -> None:
    done = run(base_dir, tmp_path / "less", parts, energy=0.8)
    assert done.energy >= 0.8
    assert done.rank < 15


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties", "magnitude_prune"])
def test_other_methods_work_on_whole_changes_and_repeat(
    base_dir: Path, tmp_path: Path, parts: list[Composed], method: Method
) -> None:
    names = ("first", "again", "turned")
    for name in names:
        given = parts[::-1] if name == "turned" else parts
        run(base_dir, tmp_path / name, given, method=method, density=0.6, seed=3)
    first, again, turned = (change_of(tmp_path / name, base_dir) for name in names)
    for other in (again, turned):
        gap = delta.stack([(first, 1.0), (other, -1.0)])
        assert delta.norm(gap) < 1e-5 * delta.norm(first)
    if method == "magnitude_prune":
        found = first["model.layers.0.mlp.down_proj"]
        [alone] = [p for p in parts if p.adapter_dir.endswith("three")]
        factors = adapter_io.read(Path(alone.adapter_dir), base_dir).delta[
            "model.layers.0.mlp.down_proj"
        ]
        dense = 0.7 * (factors.b @ factors.a)
        least = dense.abs().flatten().sort(descending=True).values[int(0.6 * dense.numel()) - 1]
        wanted = torch.where(dense.abs() >= least, dense, 0.0)
        assert torch.allclose(found.b @ found.a, wanted, atol=1e-4)


def test_adapters_that_cancel_out_and_too_little_memory_are_refused(
    base_dir: Path, tmp_path: Path, parts: list[Composed]
) -> None:
    twin = tiny.save_adapter(tmp_path / "twin", 1, r=4)
    tiny.edit_config(twin, lora_dropout=0.5)  # the same weights under another hash
    opposite = [Composed(parts[0].adapter_dir, 1.0), Composed(str(twin), -1.0)]
    with pytest.raises(PeerError) as nothing:
        run(base_dir, tmp_path / "made", opposite)
    assert nothing.value.code == "E0705"
    with pytest.raises(LocalError) as little:
        run(base_dir, tmp_path / "made", parts, max_memory_bytes=1)
    assert little.value.code == "E0708"
    assert not (tmp_path / "made").exists()
