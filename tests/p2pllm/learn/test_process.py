"""The child process: a job in, events out, and nothing left when it is told to end."""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2pllm.jobs import (
    CheckJob,
    CheckReport,
    Event,
    Failed,
    Progress,
    Result,
    TuneJob,
    decode_event,
    encode_job,
)
from p2pllm.learn import __main__ as edge

ROOT = Path(__file__).parents[3]
DEADLINE_S = 60.0  # for a busy machine; each of these takes a few seconds

Child = subprocess.Popen[bytes]


@contextmanager
def child(*flags: str) -> Iterator[Child]:
    process = subprocess.Popen(
        [sys.executable, "-m", "p2pllm.learn", *flags],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def give(process: Child, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def events(process: Child) -> Iterator[Event]:
    assert process.stdout is not None
    for line in process.stdout:
        yield decode_event(line)


def wait_for(process: Child, stage: str) -> None:
    for event in events(process):
        if isinstance(event, Progress) and event.stage == stage:
            return
    pytest.fail(f"the job ended before {stage}")


def endless(base_dir: Path, text: Path, out_dir: Path) -> bytes:
    return encode_job(
        TuneJob(
            base_dir=str(base_dir),
            data=(str(text),),
            out_dir=str(out_dir),
            targets=("q_proj",),
            steps=1_000_000,
            seq=16,
            eval_tokens=64,
        )
    )


def test_a_job_ends_with_its_report(base_dir: Path, adapter_dir: Path) -> None:
    with child() as process:
        give(process, encode_job(CheckJob(base_dir=str(base_dir), adapter_dir=str(adapter_dir))))
        *before, last = events(process)
        assert process.wait(DEADLINE_S) == 0
    assert all(isinstance(event, Progress) for event in before)
    assert isinstance(last, Result)
    assert isinstance(last.report, CheckReport)
    assert last.report.tensors == 8


@pytest.mark.parametrize("line", [b"", b"{}\n", b'{"job": "tune"}\n', b"\xff\n"])
def test_what_is_no_job_is_refused_at_once(line: bytes) -> None:
    with child() as process:
        give(process, line)
        assert process.stdin is not None
        process.stdin.close()
        *_before, last = events(process)
        assert process.wait(DEADLINE_S) == 2
    assert isinstance(last, Failed)
    assert last.code == "E0204"


def test_a_tuning_speaks_twice_a_second_and_ends_when_told(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    with child() as process:
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "train")
        seen = [event for event, _ in zip(events(process), range(2), strict=False)]
        # Tiny steps take milliseconds, so half a second holds many of them.
        first, second = (event.done for event in seen if isinstance(event, Progress))
        assert second - first > 5
        process.terminate()
        *_before, last = events(process)
        assert process.wait(DEADLINE_S) == 10
    assert isinstance(last, Failed)
    assert last.code == "E1001"
    assert not (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_a_key_press_ends_a_job_that_has_only_begun(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    with child() as process:
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "start")
        process.send_signal(signal.SIGINT)
        *_before, last = events(process)
        assert process.wait(DEADLINE_S) == 10
    assert isinstance(last, Failed)
    assert last.code == "E1001"


FAULTS: list[tuple[Exception, str]] = [
    (MemoryError(), "E1003"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "E1003"),
    (OSError(errno.ENOSPC, "No space left on device"), "E0802"),
    (RuntimeError("I/O error: No space left on device (os error 28)"), "E0802"),
    (ZeroDivisionError("division by zero"), "E1002"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS, ids=lambda value: repr(value)[:40])
def test_a_fault_that_no_rule_foresees_is_sorted(fault: Exception, code: str) -> None:
    assert edge._crash(fault).code == code


def test_a_job_ends_with_its_parent(base_dir: Path, text: Path, tmp_path: Path) -> None:
    with child() as process:
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "start")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 10
