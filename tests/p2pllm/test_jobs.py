"""Jobs and events as lines: what goes in comes out, and what is out of bounds is named."""

import pytest

from p2pllm import jobs
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.jobs import (
    CheckJob,
    CheckReport,
    EvalJob,
    Event,
    Failed,
    ImportJob,
    Job,
    Laid,
    Probe,
    Progress,
    Result,
    Secret,
    SketchJob,
    SketchReport,
    TuneJob,
    VitalsJob,
    VitalsReport,
)
from tests.vectors.values import SUMMARY

TUNE = TuneJob(base_dir="base", data=("notes.txt",), out_dir="out")
VITALS = VitalsJob(
    base_dir="base",
    adapter_dir="adapter",
    model=SUMMARY.model,
    weights=SUMMARY.weights,
    place=SUMMARY.place,
    probes=(Probe("medical", ("notes.txt",)),),
    accepted=(Laid("other", 0.5),),
    claimed=b"signed",
    secret=Secret(b"0123456789abcdef"),
)
JOBS: list[Job] = [
    ImportJob(source="smollm2", out_dir="out"),
    TUNE,
    EvalJob(base_dir="base", data=("notes.txt",), adapter_dir="adapter", split="all"),
    CheckJob(base_dir="base", adapter_dir="adapter", model="0" * 64),
    SketchJob(base_dir="base", adapter_dir="adapter", model=SUMMARY.model),
    VITALS,
]
EVENTS: list[Event] = [
    Progress(stage="train", done=3, total=40, unit="steps", loss=2.5, eta_s=60.0),
    Failed(kind="peer", code="E0606", message="no", why=("a pickle",), details={"n": 1}),
    Result(
        report=CheckReport(
            tensors=8,
            delta_norm=1.5,
            max_logit_change=0.25,
            seconds=1.0,
            memory_estimate=10,
            peak_rss=9,
        )
    ),
    Result(report=SketchReport(norm=1.5, thirds=(1.0, 0.5, 1.0), forms=b"\x80\xff", seconds=0.5)),
    Result(report=VitalsReport(summary=SUMMARY, seconds=2.0, memory_estimate=10, peak_rss=9)),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_is_one_line_and_comes_out_as_it_went_in(job: Job) -> None:
    line = jobs.encode_job(job)
    assert line.index(b"\n") == len(line) - 1
    assert jobs.decode_job(line) == job


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_comes_out_as_it_went_in(event: Event) -> None:
    line = jobs.encode_event(event)
    assert line.index(b"\n") == len(line) - 1
    assert jobs.decode_event(line) == event


BOUNDS: dict[str, object] = {
    "rank": 0,
    "alpha": 0.0,
    "targets": ("q proj",),
    "lr": -1.0,
    "steps": 0,
    "batch": 0,
    "seq": 1,
    "seed": -1,
    "held_out": 1.0,
    "threads": 0,
    "data": (),
    "base_dir": "",
    "max_memory_bytes": -1,
}


@pytest.mark.parametrize("field", BOUNDS)
def test_a_field_out_of_bounds_is_named_before_a_child_starts(field: str) -> None:
    job = TuneJob(**{"base_dir": "b", "data": ("d",), "out_dir": "o"} | {field: BOUNDS[field]})  # type: ignore[arg-type]
    with pytest.raises(LocalError, match=field) as caught:
        jobs.encode_job(job)
    assert caught.value.code == "E0204"


def test_a_secret_is_not_shown() -> None:
    assert "0123456789abcdef" not in repr(VITALS)
    assert Secret(b"0123456789abcdef") == VITALS.secret


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[1]", b'{"job": "dance"}', b"\xff", b'{"job":"tune"}']
)
def test_what_is_no_job_is_refused(line: bytes) -> None:
    with pytest.raises(LocalError) as caught:
        jobs.decode_job(line)
    assert caught.value.code == "E0204"


@pytest.mark.parametrize("line", [b"", b"Loading weights: 100%", b'{"event": "dance"}'])
def test_what_is_no_event_is_the_childs_fault(line: bytes) -> None:
    with pytest.raises(LocalError) as caught:
        jobs.decode_event(line)
    assert caught.value.code == "E1002"


@pytest.mark.parametrize("kind", [PeerError, LocalError, Unavailable])
def test_an_error_is_the_same_on_both_sides_of_the_pipe(kind: type[P2pllmError]) -> None:
    error = kind("E0708", "too much", why=["8 GiB"], fix=["less"], details={"needed_bytes": 9})
    event = jobs.decode_event(jobs.encode_event(jobs.failed(error)))
    assert isinstance(event, Failed)
    came = event.error()
    assert type(came) is kind
    assert (came.code, came.message, came.why, came.fix, came.details) == (
        error.code,
        error.message,
        error.why,
        error.fix,
        error.details,
    )
