"""Documents scored one by one under two sets; which part of the text is scored."""

from pathlib import Path

import pytest

from p2pllm import probes
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from p2pllm.job_fields import Laid, Probe, Secret
from p2pllm.jobs import decode_job, encode_job
from p2pllm.jobs_round import Candidate, RoundJob
from p2pllm.jobs_shadow import MAX_DOCUMENTS, ShadowJob, Text
from p2pllm.learn import round_measure, shadow
from p2pllm.names import Place
from tests.p2pllm.learn import tiny

SECRET = b"0123456789abcdef"


@pytest.fixture
def job(tmp_path: Path, base_dir: Path, adapter_dir: Path) -> ShadowJob:
    text = str(tiny.write_jsonl(tmp_path / "text.jsonl", tiny.sentences(60, seed=3)))
    parts = ("probes", "anchors", "live", "all")
    return ShadowJob(
        base_dir=str(base_dir),
        texts=tuple(Text("medical", (text,), part) for part in parts),
        before=(),
        after=(Laid(str(adapter_dir), 0.5),),
        secret=Secret(SECRET),
        epoch=2,
    )


def test_every_document_is_scored_once_in_the_part_it_is_in(job: ShadowJob) -> None:
    assert decode_job(encode_job(job)) == job
    report = shadow.shadow(job, lambda event: None)
    counts = {one.part: len(one.gains) for one in report.found}
    assert counts["all"] == MAX_DOCUMENTS
    assert counts["probes"] + counts["anchors"] + counts["live"] == 60
    assert any(gain != 0 for one in report.found for gain in one.gains)
    again = shadow.shadow(job, lambda event: None)
    assert again.found == report.found


def test_parts_do_not_overlap_in_any_epoch() -> None:
    texts = tiny.sentences(60, seed=3)
    kept = set(probes.reserve(texts, SECRET))
    for epoch in range(8):
        used, rest = (f(texts, SECRET, epoch) for f in (probes.active, probes.resting))
        assert not set(used) & set(rest)
        assert set(used) | set(rest) | kept == set(texts)


def test_the_same_set_on_both_sides_changes_nothing(job: ShadowJob) -> None:
    both = (Laid(job.after[0].adapter_dir, 0.5),)
    same = ShadowJob(
        base_dir=job.base_dir,
        texts=job.texts[:1],
        before=both,
        after=both,
        secret=job.secret,
        epoch=2,
    )
    [found] = shadow.shadow(same, lambda event: None).found
    assert found.gains
    assert set(found.gains) == {0.0}


def round_of(tmp_path: Path, job: ShadowJob, adapter_dir: Path) -> RoundJob:
    text = job.texts[0].data
    return RoundJob(
        base_dir=job.base_dir,
        model=content_id(b"model"),
        place=Place("en", "medical"),
        probes=(Probe("medical", text),),
        candidates=(Candidate(adapter_dir=str(adapter_dir), weights=content_id(b"w")),),
        texts=job.texts[:2],
        own_dir=str(tmp_path / "own"),
        own_steps=2,
        secret=job.secret,
        epoch=2,
        max_tokens=100,
    )


def test_a_round_scores_each_sound_update_alone(
    tmp_path: Path, job: ShadowJob, adapter_dir: Path
) -> None:
    asked = round_of(tmp_path, job, adapter_dir)
    [found] = round_measure.measured(asked, lambda event: None).found
    assert [one.part for one in found.shadow] == ["probes", "anchors"]
    half = shadow.shadow(job, lambda event: None).found[0]
    assert found.shadow[0].gains != half.gains, "alone is at its full weight"


def test_a_loss_that_is_no_number_is_the_updates_fault(
    tmp_path: Path, job: ShadowJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow.transfer, "losses", lambda *_given: [float("nan")])
    with pytest.raises(PeerError) as bad:
        shadow.shadow(job, lambda event: None)
    assert bad.value.code == "E0609"
    asked = round_of(tmp_path, job, Path(job.after[0].adapter_dir))
    monkeypatch.setattr(shadow.Reader, "__init__", lambda *_given: None)
    monkeypatch.setattr(shadow.Reader, "gains", _no_number)
    [found] = round_measure.measured(asked, lambda event: None).found
    assert (found.summary, found.unmeasured.code) == (None, "E0609")


def _no_number(*_given: object) -> None:
    raise PeerError("E0609", "no number")
