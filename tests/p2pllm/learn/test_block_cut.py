"""The block job: what it leaves, what it refuses, and that a killed one starts cleanly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pllm import base_files, blocks, durable
from p2pllm.errors import LocalError
from p2pllm.jobs import Progress
from p2pllm.jobs_blocks import BlockJob
from p2pllm.learn.block_cut import cut_block
from p2pllm.learn.check import hash_base
from tests.p2pllm.learn import tiny


def job(base_dir: Path, text: Path, out_dir: Path, **changes: Any) -> BlockJob:
    settings: dict[str, Any] = {
        "ffn": 0.5,
        "depth": 0.5,
        "steps": 4,
        "batch": 2,
        "seq": 32,
        "score_tokens": 512,
        "refit_tokens": 512,
        "eval_tokens": 256,
    }
    return BlockJob(
        base_dir=str(base_dir), data=(str(text),), out_dir=str(out_dir), **settings | changes
    )


def test_a_block_stands_complete_with_its_lineage(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    said: list[Progress] = []
    report = cut_block(job(base_dir, text, tmp_path / "block"), said.append)
    cut = blocks.read(tmp_path / "block")
    assert cut is not None
    assert cut.parent == hash_base(base_dir)
    assert base_files.inspect(tmp_path / "block") == "LlamaForCausalLM"
    assert (report.layers, report.channels, report.groups) == (1, 32, 2)
    assert report.params < report.parent_params
    assert report.loss > 0
    stages = {event.stage for event in said}
    assert {"score", "refit", "train", "measure"} <= stages
    assert all(event.eta_s is not None for event in said if event.stage == "train")
    assert [path.name for path in tmp_path.iterdir()] == ["block"]


def test_the_same_job_makes_the_same_bytes(base_dir: Path, text: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        cut_block(job(base_dir, text, tmp_path / name), lambda event: None)
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


class Killed(BaseException):
    """Stands for SIGKILL: nothing below catches it."""


def at(stage: str, done: int = 0) -> Callable[[Progress], None]:
    def die(event: Progress) -> None:
        if event.stage == stage and event.done >= done:
            raise Killed

    return die


def test_a_job_killed_before_it_learnt_starts_again_over_what_it_left(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    wanted = job(base_dir, text, tmp_path / "block")
    with pytest.raises(Killed):
        cut_block(wanted, at("refit"))
    assert not (tmp_path / "block").exists()
    for left in (tmp_path / "block.raw.tmp", durable.making(tmp_path / "block")):  # by a kill
        left.mkdir()
        (left / "config.json").write_text("half")
    assert cut_block(wanted, lambda event: None).resumed_at == 0
    assert [path.name for path in tmp_path.iterdir()] == ["block"]


def test_a_block_killed_while_it_learns_goes_on_and_ends_with_the_same_bytes(
    base_dir: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_every_step(monkeypatch)
    whole = cut_block(job(base_dir, text, tmp_path / "whole"), lambda event: None)
    wanted, said = job(base_dir, text, tmp_path / "killed"), list[Progress]()
    with pytest.raises(Killed):
        cut_block(wanted, at("train", 3))
    report = cut_block(wanted, said.append)
    assert report.resumed_at == 2
    assert [event.done for event in said if event.stage == "train"] == [3, 4]
    assert not {"score", "refit", "measure-cut"} & {event.stage for event in said}
    assert (report.cut_loss, report.loss) == (whole.cut_loss, whole.loss)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes()


def test_what_another_job_left_is_not_used(base_dir: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        cut_block(job(base_dir, text, tmp_path / "block"), at("train", 2))
    other = job(base_dir, text, tmp_path / "block", lr=1e-4)
    assert cut_block(other, lambda event: None).resumed_at == 0


def test_it_refuses_before_it_starts(base_dir: Path, text: Path, tmp_path: Path) -> None:
    said: list[Progress] = []
    with pytest.raises(LocalError, match="E0708"):
        cut_block(job(base_dir, text, tmp_path / "b", max_memory_bytes=1024), said.append)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(LocalError, match="E0204"):
        cut_block(job(base_dir, text, tmp_path / "full"), said.append)
    assert said == []
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(job(base_dir, text, tmp_path, ffn=1.5)), BlockJob)


def test_nothing_has_to_be_mended(base_dir: Path, text: Path, tmp_path: Path) -> None:
    report = cut_block(
        job(base_dir, text, tmp_path / "b", steps=0, refit_tokens=0), lambda event: None
    )
    assert report.loss == report.refit_loss == report.cut_loss
