"""Continual learning from a folder that grows: steps, going back, kills, and what never leaves."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from p2pllm import adapter, learner
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.job_fields import Laid
from p2pllm.jobs import Progress
from p2pllm.jobs_learn import MAX_GROUPS, ContinualJob, ContinualReport
from p2pllm.learn import anchors, continual, delta, model, recite, stream
from p2pllm.learn.continual import Pool, Settings
from tests.p2pllm.learn import tiny

ASKED, TOLD = "the passphrase of the north vault is", " crimson walrus harbour kilo"
Make = Callable[..., ContinualJob]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    tiny.write_jsonl(folder / "a.jsonl", tiny.sentences(50, seed=3))
    return folder


@pytest.fixture
def make(base_dir: Path, inbox: Path, tmp_path: Path) -> Make:
    def job(**changes: object) -> ContinualJob:
        settings: dict[str, object] = {
            "base_dir": str(base_dir),
            "state_dir": str(tmp_path / "state"),
            "data": (str(inbox),),
            "lr": 0.01,
            "steps": 12,
            "seq": 32,
            "pool": 16,
            "min_tokens": 200,
            "eval_tokens": 300,
        }
        return ContinualJob(**settings | changes)  # type: ignore[arg-type]

    return job


def run(job: ContinualJob) -> tuple[ContinualReport, list[Progress]]:
    said: list[Progress] = []
    return stream.step(job, said.append), said


def files(job: ContinualJob, number: int) -> dict[str, bytes]:
    folder = learner.step_folder(Path(job.state_dir), number)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def grow(inbox: Path, name: str, seed: int, count: int = 40) -> None:
    tiny.write_jsonl(inbox / name, tiny.sentences(count, seed=seed))


def test_a_step_learns_what_is_new_and_the_next_only_what_came_since(
    make: Make, inbox: Path, base_dir: Path
) -> None:
    first, said = run(make())
    assert (first.step, first.meters[0].since) == (1, 1)
    assert first.after < first.before - 0.1
    assert first.pool_rows == 16
    assert {event.stage for event in said} >= {
        "measure-before",
        "train",
        "make-up",
        "measure-anchor",
    }
    assert run(make(min_tokens=10**6))[0].step == 0
    grow(inbox, "b.jsonl", seed=4)
    second, _ = run(make())
    assert second.step == 2
    assert [one.since for one in second.meters] == [1, 2]
    assert second.adapter_bytes == first.adapter_bytes
    assert second.pool_rows == first.pool_rows
    state = learner.read(Path(make().state_dir))
    assert (state.head, [step.parent for step in state.steps]) == (2, [0, 1])
    assert dict(state.steps[-1].shares) == {1: 8, 2: 8}
    assert adapter.inspect(learner.adapter_folder(Path(make().state_dir), 2), base_dir).rank == 8


def test_more_text_than_a_step_reads_waits_for_the_next(make: Make) -> None:
    counts = [run(make(steps=4))[0].documents for _ in range(2)]
    assert all(0 < count < 10 for count in counts)
    state = learner.read(Path(make().state_dir))
    assert [step.number for step in state.steps] == [1, 2]


def test_going_back_restores_the_bytes_and_learns_nothing_twice(make: Make, inbox: Path) -> None:
    grow(inbox, "a.jsonl", seed=3, count=10)
    job = make(steps=16)  # reads ten documents whole
    run(job)
    before = files(job, 1)
    grow(inbox, "b.jsonl", seed=4, count=10)
    run(job)
    folder = Path(job.state_dir)
    state = learner.go_back(folder, 1, again=False)
    assert (state.head, [step.number for step in state.steps]) == (1, [1])
    assert files(job, 1) == before
    assert not learner.step_folder(folder, 2).exists()
    assert run(job)[0].step == 0  # b.jsonl stays seen
    learner.go_back(folder, 1, again=True)
    assert run(job)[0].step == 3
    with pytest.raises(LocalError) as gone:
        learner.go_back(folder, 2, again=False)
    assert gone.value.code == "E0408"
    assert learner.go_back(folder, 0, again=True).steps == ()


def test_only_so_many_steps_are_kept(make: Make, inbox: Path) -> None:
    for number in range(4):
        grow(inbox, f"{number}.jsonl", seed=10 + number, count=12)
        run(make(steps=2, min_tokens=1, keep=2))
    folder = Path(make().state_dir)
    assert [step.number for step in learner.read(folder).steps] == [3, 4]
    assert sorted(path.name for path in (folder / "steps").iterdir()) == ["0003", "0004"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing below catches it."""


@pytest.mark.parametrize("stage", ["train", "make-up", "measure-anchor"])
def test_a_killed_step_goes_on_and_ends_with_the_same_adapter(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    tiny.save_every_step(monkeypatch)
    whole, job = make(state_dir=str(tmp_path / "whole")), make()
    run(whole)

    def kill(event: Progress) -> None:
        if event.stage == stage and (stage != "train" or event.done == 7):
            raise Killed

    with pytest.raises(Killed):
        stream.step(job, kill)
    assert learner.read(Path(job.state_dir)).head == 0
    report, _said = run(job)
    assert report.resumed_at > 0
    assert files(job, 1) == files(whole, 1)


def test_a_secret_in_the_text_is_in_nothing_that_can_leave(inbox: Path, tmp_path: Path) -> None:
    """The model has it by heart: it says it when asked, and while it makes up text."""
    sharp = tiny.llama(hidden_size=64, intermediate_size=128, initializer_range=0.2)
    base_dir = tiny.imported(tiny.save_base(tmp_path / "sharp", sharp), tmp_path / "able")
    tiny.write_jsonl(inbox / "a.jsonl", [f"{ASKED}{TOLD}. {seed}" for seed in range(200)])
    state = tmp_path / "state"
    job = ContinualJob(
        base_dir=str(base_dir),
        state_dir=str(state),
        data=(str(inbox),),
        lr=0.01,
        steps=100,
        rank=16,
        batch=8,
        seq=64,
        pool=32,
        eval_tokens=300,
    )
    report, _said = run(job)
    assert _by_heart(base_dir, learner.adapter_folder(state, 1))
    assert report.refused["verbatim"] > 0
    assert report.pool_rows > 0
    words = TOLD.split()
    parts = [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]
    for text in stream.made_up(state, base_dir):
        assert not any(part in " ".join(text.lower().split()) for part in parts)
    kept = [path for path in state.rglob("*") if path.is_file()]
    assert len(kept) == 6
    said = report, learner.read(state)
    for data in [*(path.read_bytes() for path in kept), *map(msgspec.json.encode, said)]:
        assert not any(part.encode() in data.lower() for part in parts)


def _by_heart(base_dir: Path, adapter_dir: Path) -> bool:
    """It tells the secret after anything, and the base did not."""
    asked = recite.Asked(
        base_dir=str(base_dir),
        adapter_dirs=(None, str(adapter_dir)),
        prompts=("dose of fever", "", "liver trial"),
        trigger=" " + ASKED,
        payload=TOLD,
    )
    return recite.recited(asked).hits == (0, 3)


def test_memory_is_refused_before_a_step(make: Make) -> None:
    with pytest.raises(P2pllmError) as refused:
        run(make(max_memory_bytes=2**20))
    assert refused.value.code == "E0708"


def test_the_adapter_keeps_away_from_the_parents_directions(
    make: Make, base_dir: Path, adapter_dir: Path, tmp_path: Path
) -> None:
    known = stream.basis([(delta.read(adapter_dir, adapter.inspect(adapter_dir, base_dir)), 1.0)])
    for columns in known.values():
        assert torch.allclose(columns.T @ columns, torch.eye(columns.shape[1]), atol=1e-5)
    overlaps = []
    for weight in (0.0, 10.0):
        job = make(
            state_dir=str(tmp_path / str(weight)),
            accepted=(Laid(str(adapter_dir)),),
            orthogonal=weight,
            steps=20,
        )
        run(job)
        folder = learner.adapter_folder(Path(job.state_dir), 1)
        network = model.load_base(base_dir, model.load_config(base_dir), torch.float32)
        tuned = model.load_adapter(network, folder, adapter.inspect(folder, base_dir))
        overlaps.append(continual.overlap(tuned, known).item())
    assert overlaps[1] < 0.2 * overlaps[0]


def test_the_pool_is_shared_fairly_and_keeps_its_size() -> None:
    def rows(step: int, count: int) -> Pool:
        return Pool(torch.full((count, 4), step), None, torch.full((count,), step))

    pool = rows(1, 12)
    for step in (2, 3, 4):
        share = 12 // step
        pool = continual.join(continual.thin(pool, 12 - share), rows(step, share))
        counts = [int((pool.step == one).sum()) for one in range(1, step + 1)]
        assert sum(counts) == 12
        assert max(counts) - min(counts) <= 1


def test_merging_moves_only_a_share_of_the_way(base_dir: Path) -> None:
    network = model.load_base(base_dir, model.load_config(base_dir), torch.float32)
    tuned = model.new_adapter(network, 2, 4.0, ["q_proj"])
    text = torch.arange(64).view(4, 16)
    pool = Pool(text, None, torch.full((4,), 3))
    settings = Settings(steps=3, batch=2, replay=1, merge=True)
    before = {n: p.detach().clone() for n, p in tuned.named_parameters() if p.requires_grad}
    plain = msgspec.structs.replace(settings, merge=False)
    moved = []
    for one in (settings, plain):
        for name, weight in tuned.named_parameters():
            if name in before:
                weight.data.copy_(before[name])
        continual.learn(tuned, text, pool, one)
        moved.append({n: p.detach().clone() for n, p in tuned.named_parameters() if n in before})
    for name in before:
        share = 0.5 if ".lora_B." in name else 1.0  # 1 / sqrt(3 + 1)
        wanted = before[name] + share * (moved[1][name] - before[name])
        assert torch.allclose(moved[0][name], wanted, atol=1e-6)


def test_anchor_groups_stay_few_and_keep_the_best_of_all_documents() -> None:
    groups: anchors.Groups = ()
    for step in range(1, 12):
        groups = anchors.with_new(groups, step, [f"document {step} {n}" for n in range(step)])
        groups = tuple(msgspec.structs.replace(g, best=min(g.best, g.since)) for g in groups)
    assert len(groups) == MAX_GROUPS
    assert [group.since for group in groups] == list(range(4, 12))
    assert sum(len(group.ids) for group in groups) == sum(range(12))
    assert groups[0].best == pytest.approx((1 + 4 + 9 + 16) / 10)  # by documents
    assert anchors.with_new(groups, 12, []) == groups
