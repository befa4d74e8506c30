"""The process that stays: job after job in forks, and nothing left when it is told to end."""

import signal
import time
from pathlib import Path

import psutil

from p2pllm.jobs import KILLED, CheckJob, Failed, Result, encode_job
from tests.p2pllm.learn.test_process import (
    DEADLINE_S,
    Child,
    child,
    endless,
    events,
    give,
    wait_for,
)


def outcome(process: Child) -> Result | Failed:
    return next(event for event in events(process) if isinstance(event, Result | Failed))


def test_jobs_come_one_after_the_other_and_a_killed_one_is_told(
    base_dir: Path, adapter_dir: Path, text: Path, tmp_path: Path
) -> None:
    check = encode_job(CheckJob(base_dir=str(base_dir), adapter_dir=str(adapter_dir)))
    with child("--warm") as process:
        took = []
        for line, wanted in ((check, Result), (b"{}\n", Failed), (check, Result)):
            began = time.monotonic()
            give(process, line)
            assert isinstance(outcome(process), wanted)
            took.append(time.monotonic() - began)
        assert took[2] < took[0] / 2  # nothing was loaded again
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "train")
        [worker] = psutil.Process(process.pid).children()
        worker.kill()
        assert process.wait(DEADLINE_S) == KILLED + signal.SIGKILL


def test_it_ends_with_its_job_when_told(base_dir: Path, text: Path, tmp_path: Path) -> None:
    with child("--warm") as process:
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "train")
        [worker] = psutil.Process(process.pid).children()
        process.terminate()
        last = outcome(process)
        assert process.wait(DEADLINE_S) == 0
        assert not worker.is_running()
    assert isinstance(last, Failed)
    assert last.code == "E1001"


def test_a_job_ends_with_the_process_that_forked_it(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    with child("--warm") as process:
        give(process, endless(base_dir, text, tmp_path / "adapter"))
        wait_for(process, "train")
        [worker] = psutil.Process(process.pid).children()
        process.kill()
        worker.wait(DEADLINE_S)
