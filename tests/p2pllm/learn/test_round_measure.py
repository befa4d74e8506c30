"""A round measured in one process, and what may be laid on what is served."""

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from p2pllm.ids import content_id
from p2pllm.job_fields import Laid, Probe, Secret
from p2pllm.jobs import Result, decode_event, decode_job, encode_event, encode_job
from p2pllm.jobs_round import Candidate, MergeJob, RoundJob
from p2pllm.learn import round_measure
from p2pllm.names import Place
from tests.p2pllm.learn import tiny

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    text = tiny.write_jsonl(tmp_path / "probe.jsonl", tiny.sentences(60, seed=3))
    return Probe("medical", (str(text),))


@pytest.fixture
def job(tmp_path: Path, base_dir: Path, adapter_dir: Path, probe: Probe) -> RoundJob:
    broken = tiny.cleaned(tiny.save_adapter(tmp_path / "foreign-2", seed=2), tmp_path / "broken")
    tensors = load_file(broken / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, broken / WEIGHTS)
    return RoundJob(
        base_dir=str(base_dir),
        model=content_id(b"model"),
        place=Place("en", "medical"),
        probes=(probe,),
        candidates=tuple(
            Candidate(adapter_dir=str(path), weights=content_id(path.name.encode()))
            for path in (adapter_dir, broken)
        ),
        own_dir=str(tmp_path / "own"),
        own_steps=5,
        secret=Secret(b"0123456789abcdef"),
        epoch=3,
        max_tokens=300,
    )


def test_a_round_tells_every_updates_numbers_and_who_has_none(job: RoundJob) -> None:
    again = decode_job(encode_job(job))
    assert again == job
    report = round_measure.measured(job, lambda event: None)
    assert report.own.probe == report.found[0].summary.probe
    assert report.own.model == job.model
    assert report.last is None
    refused = report.found[1].unmeasured
    assert (refused.kind, refused.code) == ("peer", "E0609")
    assert decode_event(encode_event(Result(report=report))) == Result(report=report)
    weights = Path(job.own_dir, WEIGHTS)
    trained = weights.stat().st_mtime_ns
    again = round_measure.measured(job, lambda event: None)
    assert weights.stat().st_mtime_ns == trained
    assert again.own.shift == report.own.shift


def test_what_harms_the_probe_together_is_left_out(
    tmp_path: Path, base_dir: Path, adapter_dir: Path, probe: Probe
) -> None:
    loud = tiny.cleaned(tiny.save_adapter(tmp_path / "foreign-3", seed=3), tmp_path / "loud")
    tensors = load_file(loud / WEIGHTS)
    grown = {name: 40 * part if "lora_B" in name else part for name, part in tensors.items()}
    save_file(grown, loud / WEIGHTS)
    torch.manual_seed(0)
    job = MergeJob(
        base_dir=str(base_dir),
        probes=(probe,),
        before=(),
        kept=(),
        added=(Laid(str(loud), 0.5), Laid(str(adapter_dir), 0.1)),
        factor=1.01,
        margin=0.0,
        secret=Secret(b"0123456789abcdef"),
        epoch=0,
        max_tokens=300,
    )
    report = round_measure.tried(job, lambda event: None)
    assert report.whole > 1.01 * report.before
    assert report.stays == (1,)
    assert report.after <= 1.01 * report.before
    calm = msgspec.structs.replace(job, added=job.added[1:])
    assert round_measure.tried(calm, lambda event: None).stays == (0,)
