"""The measuring job from end to end: what it tells, what it must not depend on, what it refuses."""

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from p2pllm import summary
from p2pllm.errors import LocalError, P2pllmError, PeerError
from p2pllm.ids import content_id
from p2pllm.jobs import (
    Laid,
    Probe,
    Result,
    Secret,
    SketchJob,
    VitalsJob,
    VitalsReport,
    encode_job,
)
from p2pllm.learn import vitals
from p2pllm.names import Place
from p2pllm.summary import Sketch, UpdateSummary
from tests.p2pllm.learn import tiny
from tests.p2pllm.learn.test_process import child, events, give
from tests.vectors.values import IDENTITY

MODEL, WEIGHTS = content_id(b"model"), content_id(b"weights")
WEIGHTS_FILE = "adapter_model.safetensors"


@pytest.fixture
def job(base_dir: Path, adapter_dir: Path, text: Path) -> VitalsJob:
    return VitalsJob(
        base_dir=str(base_dir),
        adapter_dir=str(adapter_dir),
        model=MODEL,
        weights=WEIGHTS,
        place=Place("en", "medical"),
        probes=(Probe("medical", (str(text),)),),
        secret=Secret(b"0123456789abcdef"),
        max_tokens=300,
    )


@pytest.fixture
def other_dir(tmp_path: Path) -> Path:
    return tiny.cleaned(tiny.save_adapter(tmp_path / "foreign-2", seed=2), tmp_path / "adapter-2")


def measured(job: VitalsJob) -> UpdateSummary:
    return vitals.vitals(job, lambda event: None).summary


def changed(job: VitalsJob, **changes: object) -> VitalsJob:
    return msgspec.structs.replace(job, **changes)


def rewrite(adapter_dir: Path, gauge: torch.Tensor) -> None:
    """Other factors of the same change."""
    path = adapter_dir / WEIGHTS_FILE
    tensors = load_file(path)
    for name in [name for name in tensors if "lora_A" in name]:
        twin = name.replace("lora_A", "lora_B")
        tensors[name] = torch.linalg.solve(gauge, tensors[name]).contiguous()
        tensors[twin] = tensors[twin] @ gauge
    save_file(tensors, path, metadata={"format": "pt"})


def test_an_update_alone_has_no_relation_and_no_merge(job: VitalsJob) -> None:
    found = measured(job)
    assert (found.relation, found.merged, found.sketch_true) == (None, None, None)
    [here] = found.alone.influences
    assert here.domain == "medical"
    assert here.tokens == 300
    assert here.after != here.before
    assert here.descent is not None
    assert found.geometry.norm > 0
    assert len(found.geometry.modules) == 4


def test_other_factors_of_the_same_change_are_measured_alike(
    job: VitalsJob, adapter_dir: Path
) -> None:
    before = measured(job)
    torch.manual_seed(1)
    rewrite(adapter_dir, 40 * (torch.randn(4, 4) + 6 * torch.eye(4)))
    after = measured(job)
    assert after.geometry.norm == pytest.approx(before.geometry.norm, rel=1e-4)
    assert after.geometry.modules == pytest.approx(before.geometry.modules, rel=1e-4)
    assert summary.cosine(after.sketch, before.sketch) > 0.9999
    [one], [other] = before.alone.influences, after.alone.influences
    assert other.after == pytest.approx(one.after, rel=1e-3)
    assert other.descent == pytest.approx(one.descent, abs=1e-3)


def test_an_update_is_measured_on_what_was_accepted_too(job: VitalsJob, other_dir: Path) -> None:
    found = measured(changed(job, accepted=(Laid(str(other_dir), 0.5),)))
    assert found.relation is not None
    assert found.merged is not None
    assert abs(found.relation.cosine) < 1
    [alone], [merged] = found.alone.influences, found.merged.influences
    assert merged.before != alone.before
    assert alone.descent is None
    assert merged.descent is not None


def test_updates_measured_together_are_measured_as_if_alone(
    job: VitalsJob, other_dir: Path, tmp_path: Path
) -> None:
    empty_dir = tmp_path / "empty"
    shutil.copytree(other_dir, empty_dir)
    path = empty_dir / WEIGHTS_FILE
    save_file({name: 0 * tensor for name, tensor in load_file(path).items()}, path)
    empty, other = (changed(job, adapter_dir=str(folder)) for folder in (empty_dir, other_dir))
    first, fault, second = vitals.together([job, empty, other], lambda event: None)
    assert isinstance(fault, PeerError)
    assert fault.code == "E0705"
    assert (first, second) == (measured(job), measured(other))


def test_a_copy_of_what_was_accepted_shows(job: VitalsJob) -> None:
    found = measured(changed(job, accepted=(Laid(job.adapter_dir),)))
    assert found.relation is not None
    assert found.relation.cosine == pytest.approx(1)
    assert found.relation.left == pytest.approx(1)


def test_the_sketch_that_went_ahead_is_held_against_the_weights(job: VitalsJob) -> None:
    ahead = vitals.sketched(
        SketchJob(base_dir=job.base_dir, adapter_dir=job.adapter_dir, model=MODEL)
    )
    true = Sketch(
        by=IDENTITY.node,
        model=MODEL,
        weights=WEIGHTS,
        norm=ahead.norm,
        thirds=ahead.thirds,
        forms=ahead.forms,
    )
    for claim, verdict in (
        (true, True),
        (msgspec.structs.replace(true, forms=ahead.forms[::-1]), False),
        (msgspec.structs.replace(true, norm=2 * ahead.norm), False),
        (msgspec.structs.replace(true, weights=MODEL), False),
    ):
        record = summary.seal(IDENTITY, claim)
        assert measured(changed(job, claimed=record)).sketch_true is verdict


def test_the_probe_turns_with_the_epoch_and_hides_behind_the_secret(job: VitalsJob) -> None:
    probe = measured(job).probe
    assert measured(job).probe == probe
    assert measured(changed(job, epoch=1)).probe != probe
    assert measured(changed(job, secret=Secret(b"another secret.."))).probe != probe


@pytest.mark.parametrize(
    ("scale", "code"), [(float("nan"), "E0609"), (0.0, "E0705"), (1e9, "E0609")]
)
def test_what_cannot_be_measured_is_refused(
    job: VitalsJob, adapter_dir: Path, scale: float, code: str
) -> None:
    path = adapter_dir / WEIGHTS_FILE
    tensors = {name: tensor * scale for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(P2pllmError) as caught:
        measured(job)
    assert caught.value.code == code


def test_a_forged_sketch_is_refused(job: VitalsJob) -> None:
    with pytest.raises(P2pllmError) as caught:
        measured(changed(job, claimed=b"\0" * 200))
    assert caught.value.code in ("E0602", "E0603")


def test_an_accepted_update_that_is_broken_is_not_the_candidates_fault(
    job: VitalsJob, adapter_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(adapter_dir, tmp_path / "wrong")
    path = tmp_path / "wrong" / WEIGHTS_FILE
    save_file({name: torch.ones(4, 7) for name in load_file(path)}, path)
    with pytest.raises(LocalError) as caught:
        measured(changed(job, accepted=(Laid(str(tmp_path / "wrong")),)))
    assert caught.value.code == "E0704"


def test_a_base_that_is_broken_is_not_the_candidates_fault(
    job: VitalsJob, base_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(base_dir, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x80\x04 no weights")
    with pytest.raises(LocalError):
        measured(changed(job, base_dir=str(tmp_path / "broken")))


def test_an_adapter_of_another_shape_is_its_publishers_fault(
    job: VitalsJob, adapter_dir: Path
) -> None:
    path = adapter_dir / WEIGHTS_FILE
    save_file({name: torch.ones(4, 7) for name in load_file(path)}, path)
    with pytest.raises(PeerError) as caught:
        measured(job)
    assert caught.value.code == "E0704"


def test_too_little_memory_is_said_before_anything_is_loaded(job: VitalsJob) -> None:
    with pytest.raises(P2pllmError) as caught:
        measured(changed(job, max_memory_bytes=1000))
    assert caught.value.code == "E0708"


def test_the_child_process_answers_with_a_summary(job: VitalsJob) -> None:
    with child() as process:
        give(process, encode_job(job))
        [*_progress, last] = events(process)
    assert isinstance(last, Result), last
    report = last.report
    assert isinstance(report, VitalsReport)
    assert report.summary == measured(job)
    assert report.peak_rss < report.memory_estimate * 1.5
