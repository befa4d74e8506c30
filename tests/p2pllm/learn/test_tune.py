"""Tuning: it helps, it can be repeated and resumed, and it says no before it takes memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from p2pllm import corpus, device
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.jobs import EvalJob, Progress, TuneJob, TuneReport
from p2pllm.learn import checkpoint, tune
from p2pllm.learn.evaluate import evaluate
from tests.p2pllm.learn import tiny

Make = Callable[..., TuneJob]


@pytest.fixture
def make(base_dir: Path, text: Path, tmp_path: Path) -> Make:
    def job(**changes: object) -> TuneJob:
        settings: dict[str, object] = {
            "base_dir": str(base_dir),
            "data": (str(text),),
            "out_dir": str(tmp_path / "adapter"),
            "targets": ("down_proj", "q_proj", "v_proj"),
            "lr": 0.02,
            "steps": 30,
            "batch": 4,
            "seq": 32,
            "eval_tokens": 400,
        }
        return TuneJob(**settings | changes)  # type: ignore[arg-type]

    return job


def run(job: TuneJob) -> tuple[TuneReport, list[Progress]]:
    said: list[Progress] = []
    return tune.tune(job, said.append), said


def refusal(job: TuneJob) -> str:
    with pytest.raises(P2pllmError) as caught:
        run(job)
    return caught.value.code


def written(job: TuneJob) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(job.out_dir).iterdir()}


def test_tuning_helps_and_a_later_evaluation_finds_the_same_numbers(make: Make) -> None:
    job = make()
    report, said = run(job)
    assert report.loss < report.base_loss - 0.15
    assert report.bits_per_byte < report.base_bits_per_byte
    assert (report.tokens, report.train_tokens, report.steps) == (400, 30 * 4 * 32, 30)
    found = evaluate(
        EvalJob(
            base_dir=job.base_dir,
            adapter_dir=job.out_dir,
            data=job.data,
            max_tokens=job.eval_tokens,
        ),
        said.append,
    )
    assert (found.base_loss, found.loss) == (report.base_loss, report.loss)
    assert found.bits_per_byte == report.bits_per_byte
    assert (found.text, found.bytes, found.documents) == (
        report.text,
        report.bytes,
        report.documents,
    )


def test_progress_counts_steps_and_says_what_is_left(make: Make) -> None:
    _report, said = run(make(steps=5))
    train = [event for event in said if event.stage == "train"]
    assert [event.done for event in train] == [1, 2, 3, 4, 5]
    assert all(event.loss and event.eta_s is not None for event in train)
    assert train[-1].eta_s < train[0].eta_s
    assert {event.stage for event in said} >= {"measure-base", "train", "measure"}


def test_plain_peft_loads_the_result_and_answers_as_measured(make: Make, base_dir: Path) -> None:
    job = make(steps=3)
    run(job)
    assert sorted(written(job)) == ["adapter_config.json", "adapter_model.safetensors"]
    plain = AutoModelForCausalLM.from_pretrained(base_dir)
    probe = torch.arange(20)[None]
    with torch.no_grad():
        before = plain(probe).logits
        tuned = PeftModel.from_pretrained(plain, job.out_dir)
        assert not torch.equal(tuned(probe).logits, before)


def test_the_same_job_makes_the_same_bytes(make: Make, tmp_path: Path) -> None:
    jobs = [make(steps=4, out_dir=str(tmp_path / name)) for name in "ab"]
    reports = [run(job)[0] for job in jobs]
    assert written(jobs[0]) == written(jobs[1])
    assert reports[0].loss == reports[1].loss


def test_another_seed_makes_another_adapter(make: Make, tmp_path: Path) -> None:
    jobs = [make(steps=2, seed=seed, out_dir=str(tmp_path / str(seed))) for seed in (0, 1)]
    for job in jobs:
        run(job)
    assert written(jobs[0]) != written(jobs[1])


def test_a_tuning_goes_on_with_an_adapter_in_its_shape(make: Make, tmp_path: Path) -> None:
    first = make(steps=20, rank=4, alpha=12.0, out_dir=str(tmp_path / "first"))
    before, _said = run(first)
    job = make(steps=1, lr=1e-9, targets=("k_proj",), start_dir=first.out_dir)
    after, _said = run(job)
    assert (after.base_loss, after.text) == (before.base_loss, before.text)
    assert after.loss == pytest.approx(before.loss, abs=1e-4)
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert sorted(written(job)) == list(names)
    assert written(job)[names[0]] == written(first)[names[0]]
    further, _said = run(make(steps=20, start_dir=first.out_dir, out_dir=str(tmp_path / "on")))
    assert further.loss < before.loss


class Killed(BaseException):
    """Stands for SIGKILL: nothing below catches it."""


def test_a_killed_tuning_goes_on_and_ends_with_the_same_bytes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(steps=12, out_dir=str(tmp_path / "whole"))
    run(whole)
    tiny.save_every_step(monkeypatch)
    job = make(steps=12)

    def kill(event: Progress) -> None:
        if event.stage == "train" and event.done == 7:
            raise Killed

    with pytest.raises(Killed):
        tune.tune(job, kill)
    assert sorted(written_names(job)) == ["resume"]
    report, said = run(job)
    assert report.resumed_at == 6
    assert [event.done for event in said if event.stage == "train"] == [7, 8, 9, 10, 11, 12]
    assert not any(event.stage == "measure-base" for event in said)
    assert written(job) == written(whole)


def written_names(job: TuneJob) -> list[str]:
    return [path.name for path in Path(job.out_dir).iterdir()]


def interrupted(job: TuneJob, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.save_every_step(monkeypatch)

    def kill(event: Progress) -> None:
        if event.stage == "train" and event.done == 3:
            raise Killed

    with pytest.raises(Killed):
        tune.tune(job, kill)
    return Path(job.out_dir) / checkpoint.FOLDER / "state.safetensors"


def test_the_checkpoint_of_another_job_is_not_used(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(make(), monkeypatch)
    report, _said = run(make(steps=4, lr=0.01))
    assert report.resumed_at == 0


@pytest.mark.parametrize("damage", ["cut", "noise", "gone"])
def test_a_damaged_checkpoint_is_not_used(
    make: Make, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = interrupted(make(steps=4), monkeypatch)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "cut" else b"\x80\x04" * 99)
    report, _said = run(make(steps=4))
    assert report.resumed_at == 0


def test_a_checkpoint_is_safetensors_and_json(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with safe_open(interrupted(make(), monkeypatch), framework="pt") as file:
        assert '"step":2' in file.metadata()["state"]
        assert {key.split(".")[0] for key in file.keys()} == {"value", "exp_avg", "exp_avg_sq"}  # noqa: SIM118


def test_documents_measured_on_are_not_trained_on(make: Make, text: Path, tmp_path: Path) -> None:
    documents = corpus.read_docs([text])
    other = tiny.write_jsonl(tmp_path / "other.jsonl", documents[:5])
    texts = tune.read_texts(make(eval_data=(str(other),)))
    assert texts.held == documents[:5]
    assert texts.train == documents[5:]
    split = tune.read_texts(make())
    assert not set(split.train) & set(split.held)
    assert len(split.train) + len(split.held) == len(documents)


def test_text_that_is_all_measured_on_leaves_nothing_to_train(make: Make, text: Path) -> None:
    assert refusal(make(eval_data=(str(text),))) == "E0406"


def test_less_text_than_one_sequence_is_refused(make: Make, tmp_path: Path) -> None:
    short = tiny.write_jsonl(tmp_path / "short.jsonl", tiny.sentences(1, seed=1))
    other = tiny.write_jsonl(tmp_path / "other.jsonl", tiny.sentences(2, seed=2))
    job = make(data=(str(short),), eval_data=(str(other),), seq=4096)
    assert refusal(job) == "E0406"


def test_a_bound_on_memory_is_kept_before_anything_is_loaded(make: Make) -> None:
    with pytest.raises(LocalError) as caught:
        run(make(max_memory_bytes=2**20))
    assert caught.value.code == "E0708"
    assert caught.value.details["allowed_bytes"] == 2**20


def test_the_machines_own_memory_is_a_bound_too(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "free_bytes", lambda: 0)
    assert refusal(make()) == "E0708"


def test_a_target_the_base_does_not_have_is_refused(make: Make) -> None:
    assert refusal(make(targets=("query",))) == "E0703"
    assert refusal(make(targets=("embed_tokens",))) == "E0706"


def test_a_rate_that_diverges_ends_with_its_own_code(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pllm.learn.training.rate_at", lambda job, step: float("nan"))
    assert refusal(make(steps=3)) == "E0609"


def test_large_batches_are_cut_without_changing_the_step(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [make(steps=2, batch=8, out_dir=str(tmp_path / name)) for name in "ab"]
    whole, _said = run(jobs[0])
    monkeypatch.setattr("p2pllm.learn.training.MICRO_TOKENS", 32)
    cut, _said = run(jobs[1])
    assert cut.loss == pytest.approx(whole.loss, abs=2e-3)
