"""Gathering what blocks learnt: the mean over those who have an entry, and the way down."""

from pathlib import Path
from typing import Any

import pytest
import torch

from p2pllm import adapter, blocks
from p2pllm.errors import LocalError, PeerError
from p2pllm.jobs_blocks import Gathered, GatherJob
from p2pllm.learn import adapter_io, algebra, carve, delta, model
from p2pllm.learn.algebra import Update
from p2pllm.learn.check import hash_base
from p2pllm.learn.delta import Delta
from p2pllm.learn.gather import gather
from tests.p2pllm.learn import planted

LAYERS: list[dict[int, tuple[Any, Any]]] = [
    {0: (range(32), [0, 1]), 1: (range(32), [0, 1])},
    {1: (range(16, 40), [1])},
]


@pytest.fixture
def parts(base_dir: Path, tmp_path: Path) -> list[Gathered]:
    """Two blocks of unlike shapes, an adapter on each."""
    made = []
    for number, layers in enumerate(LAYERS):
        cut = blocks.make(hash_base(base_dir), blocks.frame_in(base_dir), layers)
        block = tmp_path / f"block{number}"
        carve.cut_block(base_dir, cut, block)
        network = model.load_base(block, model.load_config(block), torch.float32)
        own = tmp_path / f"own{number}"
        adapter_io.write(planted.noise(network, number, 2 + 2 * number), block, own)
        made.append(Gathered(str(own), str(block), number + 1.0))
    return made


def change(adapter_dir: Path | str, base_dir: Path | str) -> Delta:
    return delta.read(Path(adapter_dir), adapter.inspect(Path(adapter_dir), Path(base_dir)))


def whole(found: Delta, name: str) -> torch.Tensor:
    return found[name].b @ found[name].a


def job(base_dir: Path, parts: list[Gathered], out_dir: Path, **more: Any) -> GatherJob:
    return GatherJob(base_dir=str(base_dir), parts=tuple(parts), out_dir=str(out_dir), **more)


def test_the_mean_of_two_blocks_stands_on_their_parent(
    base_dir: Path, parts: list[Gathered], tmp_path: Path
) -> None:
    report = gather(job(base_dir, parts, tmp_path / "out"), lambda event: None)
    assert report.adapters == 2
    assert report.energy == pytest.approx(1.0)
    found = change(tmp_path / "out", base_dir)
    one, two = (change(part.adapter_dir, str(part.block_dir)) for part in parts)
    name = "model.layers.1.self_attn.q_proj"
    # Group 1 of layer 1 is in both blocks, group 0 in the first alone.
    first, second = whole(one, name), whole(two, "model.layers.0.self_attn.q_proj")
    got = whole(found, name)
    updates = [
        Update(
            changed,
            part.weight,
            carve.parts(blocks.decode((Path(str(part.block_dir)) / blocks.CUT_FILE).read_bytes())),
        )
        for changed, part in zip((one, two), parts, strict=True)
    ]
    a, b = (update.weight for update in algebra.balanced(updates))
    assert torch.allclose(got[16:], (a * first[16:] + b * second) / (a + b), atol=1e-5)
    assert torch.allclose(got[:16], first[:16], atol=1e-5)


def test_the_parents_adapter_goes_down_to_a_block(
    base_dir: Path, parts: list[Gathered], tmp_path: Path
) -> None:
    gather(job(base_dir, parts, tmp_path / "up"), lambda event: None)
    into = str(parts[1].block_dir)
    down = job(base_dir, [Gathered(str(tmp_path / "up"))], tmp_path / "down", into_dir=into)
    gather(down, lambda event: None)
    name = "self_attn.v_proj"
    upper = whole(change(tmp_path / "up", base_dir), f"model.layers.1.{name}")
    lower = whole(change(tmp_path / "down", into), f"model.layers.0.{name}")
    assert torch.allclose(lower, upper[8:], atol=1e-5)


def test_a_block_of_another_parent_is_refused(
    base_dir: Path, parts: list[Gathered], tmp_path: Path
) -> None:
    with pytest.raises(PeerError, match="E0702"):
        gather(job(base_dir, parts, tmp_path / "out", parent="cd" * 32), lambda event: None)
    network = model.load_base(base_dir, model.load_config(base_dir), torch.float32)
    adapter_io.write(planted.noise(network, 0, 2), base_dir, tmp_path / "on-base")
    no_block = [Gathered(str(tmp_path / "on-base"), str(base_dir))]
    with pytest.raises(PeerError, match="E0702"):
        gather(job(base_dir, no_block, tmp_path / "out"), lambda event: None)
    with pytest.raises(LocalError, match="E0708"):
        gather(job(base_dir, parts, tmp_path / "o", max_memory_bytes=1), lambda event: None)
    assert not (tmp_path / "out").exists()
