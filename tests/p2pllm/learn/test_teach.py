"""The distill job: it helps, goes on after a kill, and refuses what cannot be taught."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from p2pllm import adapter
from p2pllm.errors import P2pllmError
from p2pllm.ids import content_id
from p2pllm.jobs import Progress, TuneJob
from p2pllm.jobs_teach import DistillJob, DistillReport
from p2pllm.learn import checkpoint, teach, tune
from p2pllm.logit_cache import Caching
from tests.p2pllm.learn import tiny

Make = Callable[..., DistillJob]


@pytest.fixture(scope="module")
def teacher_adapter(base_dir: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The larger model has learnt the text."""
    out_dir = tmp_path_factory.mktemp("teacher") / "adapter"
    job = TuneJob(
        base_dir=str(base_dir), data=(str(text),), out_dir=str(out_dir), lr=0.02, seq=32, steps=40
    )
    tune.tune(job, lambda event: None)
    return out_dir


@pytest.fixture(scope="module")
def student_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    tiny.save_base(folder / "foreign", tiny.llama(seed=5, num_hidden_layers=1))
    return tiny.imported(folder / "foreign", folder / "base")


@pytest.fixture
def make(
    base_dir: Path, student_dir: Path, teacher_adapter: Path, text: Path, tmp_path: Path
) -> Make:
    def job(**changes: object) -> DistillJob:
        settings: dict[str, object] = {
            "teacher_dir": str(base_dir),
            "teacher_adapter": str(teacher_adapter),
            "teacher": content_id(b"teacher"),
            "base_dir": str(student_dir),
            "data": (str(text),),
            "out_dir": str(tmp_path / "adapter"),
            "lr": 0.02,
            "steps": 12,
            "seq": 32,
            "eval_tokens": 400,
        }
        return DistillJob(**settings | changes)  # type: ignore[arg-type]

    return job


def run(job: DistillJob) -> tuple[DistillReport, list[Progress]]:
    said: list[Progress] = []
    return teach.teach(job, said.append), said


def refusal(job: DistillJob) -> str:
    with pytest.raises(P2pllmError) as caught:
        run(job)
    return caught.value.code


def test_a_taught_student_foretells_held_out_text_better(make: Make) -> None:
    job = make()
    report, said = run(job)
    assert report.teacher_loss < report.loss < report.base_loss - 0.1
    assert report.bytes_per_token == pytest.approx(24 * 4 + 2 * 32 / 31)
    assert report.train_tokens == report.cached_tokens == 12 * 4 * 32
    assert adapter.inspect(Path(job.out_dir), Path(job.base_dir)).rank == 16
    assert sorted(p.name for p in Path(job.out_dir).iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    stages = {event.stage for event in said}
    assert stages >= {"measure-teacher", "teach", "measure-base", "train", "measure"}
    assert all(e.eta_s is not None for e in said if e.stage in ("teach", "train"))


class Killed(BaseException):
    """Stands for SIGKILL: nothing below catches it."""


@pytest.mark.parametrize("stage", ["teach", "train"])
def test_a_killed_lesson_goes_on_and_ends_with_the_same_bytes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    tiny.save_every_step(monkeypatch)
    monkeypatch.setattr("p2pllm.learn.logits.PART", 512)
    whole, job = make(out_dir=str(tmp_path / "whole"), steps=6), make(steps=6)
    run(whole)

    def kill(event: Progress) -> None:
        if event.stage == stage and event.done >= event.total // 2:
            raise Killed

    with pytest.raises(Killed):
        teach.teach(job, kill)
    assert [path.name for path in Path(job.out_dir).iterdir()] == [checkpoint.FOLDER]
    report, said = run(job)
    assert (report.resumed_at > 0) == (stage == "train")
    assert any(event.stage == "teach" for event in said) == (stage == "teach")
    for path in Path(whole.out_dir).iterdir():
        assert (Path(job.out_dir) / path.name).read_bytes() == path.read_bytes()


def test_what_cannot_be_taught_is_refused_before_anything_is_loaded(
    make: Make, base_dir: Path, tmp_path: Path
) -> None:
    assert refusal(make(max_memory_bytes=2**20)) == "E0708"
    other = tmp_path / "other"
    other.mkdir()
    for path in base_dir.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    plain = msgspec.json.decode((base_dir / "tokenizer.json").read_bytes())
    plain["model"]["merges"] = plain["model"]["merges"][:-1]
    (other / "tokenizer.json").write_bytes(msgspec.json.encode(plain))
    assert refusal(make(teacher_dir=str(other))) == "E0713"
    drawn = Caching(kind="sampled")
    assert refusal(make(reverse=True, caching=drawn)) == "E0204"
