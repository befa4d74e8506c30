"""Knowledge carried up and down by a job: what is learnt, what is kept, and when nothing is."""

import random
from pathlib import Path
from statistics import fmean

import msgspec
import pytest
import torch
from transformers import LlamaForCausalLM

from p2pllm import adapter, corpus
from p2pllm.errors import LocalError
from p2pllm.ids import content_id
from p2pllm.job_fields import EVERY, Laid
from p2pllm.jobs import TuneJob, decode_job, encode_job
from p2pllm.jobs_transfer import Side, TransferJob
from p2pllm.learn import handover
from p2pllm.learn.tune import tune
from tests.node.test_gate_flow import turned
from tests.node.test_judging import taught
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has read one kind of text, and an adapter on it that has read another."""
    folder = tmp_path_factory.mktemp("handover")
    tiny.imported(tiny.save_base(folder / "source", met()), folder / "base")
    tiny.write_jsonl(folder / "new.jsonl", plain(80, seed=1))
    tiny.write_jsonl(folder / "old.jsonl", numbered(80, seed=2))
    job = TuneJob(
        base_dir=str(folder / "base"),
        data=(str(folder / "new.jsonl"),),
        out_dir=str(folder / "knows"),
        steps=80,
        batch=8,
        seq=32,
        lr=0.005,
        targets=EVERY,
    )
    tune(job, lambda event: None)
    return folder


def plain(count: int, seed: int) -> list[str]:
    """Without the full stops, which are a third of the tokens: that counts as repeating oneself."""
    return [text.replace(".", "") for text in tiny.sentences(count, seed)]


def numbered(count: int, seed: int) -> list[str]:
    """What the base has read, with a number now and then that nobody can foretell."""
    source = random.Random(seed)
    return [
        " ".join(f"{word} {source.randrange(10, 99)}" for word in text.split()[:40])
        for text in turned(count, seed)
    ]


def met() -> LlamaForCausalLM:
    """A base that has met both kinds of text, one only just: what it never met is odd to it."""
    model = taught()
    ids = torch.tensor(tiny.tokenizer().encode(" ".join(plain(20, seed=8))).ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(12):
        rows = torch.stack([ids[at : at + 33] for at in range(step * 7, step * 7 + 400, 50)])
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def job_of(world: Path, out: Path, **changes: object) -> TransferJob:
    base, model = str(world / "base"), content_id(b"model")
    made = TransferJob(
        direction="up",
        source=Side(base, model, (Laid(str(world / "knows"), 1.0),)),
        target=Side(base, model),
        new=(str(world / "new.jsonl"),),
        kept=(str(world / "old.jsonl"),),
        out_dir=str(out / "made"),
        rows=32,
        seq=32,
        steps=30,
        lr=0.01,
        rank=4,
    )
    return msgspec.structs.replace(made, **changes)


def test_going_up_the_target_learns_from_made_up_rows_alone(world: Path, tmp_path: Path) -> None:
    job = job_of(world, tmp_path)
    assert decode_job(encode_job(job)) == job
    report = handover.run(job, lambda event: None)
    assert report.learnt
    assert report.made_up > 0
    assert report.loss < report.base_loss - 0.5 * (report.base_loss - report.source_loss)
    assert min(len(report.gains), len(report.spared)) > 15
    assert fmean(report.spared) > -0.05
    assert adapter.inspect(Path(job.out_dir), world / "base").rank == 4
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "answers are not left behind"


def test_from_a_source_that_knows_no_more_nothing_is_learnt(world: Path, tmp_path: Path) -> None:
    job = job_of(world, tmp_path)
    job = msgspec.structs.replace(job, source=job.target)
    report = handover.run(job, lambda event: None)
    assert not report.learnt
    assert report.source_loss == report.base_loss
    assert not (tmp_path / "made").exists()


def test_too_little_text_is_refused(world: Path, tmp_path: Path) -> None:
    short = tiny.write_jsonl(tmp_path / "short.jsonl", corpus.in_order(turned(2, seed=3)))
    with pytest.raises(LocalError) as refused:
        handover.run(job_of(world, tmp_path, kept=(str(short),)), lambda event: None)
    assert refused.value.code == "E0406"
