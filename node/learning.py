"""Run one learn job in a child process: job in, progress out, report back; cancel is kill."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import IO

import trio

from node.config import child_environment
from node.jobs import Report
from p2pllm.errors import LocalError
from p2pllm.jobs import (
    MAX_LINE_BYTES,
    Failed,
    Job,
    Progress,
    Result,
    decode_event,
    encode_job,
)
from p2pllm.jobs import Report as LearnReport

GRACE_S = 2.0  # a cancelled child has this long to leave before it is killed
LOG_LINES = 12  # of the child's standard error, told when it dies
LOG_BYTES = 8192


class Learner:
    """Runs learn jobs, one at a time: two of them on one machine only slow each other down."""

    def __init__(self) -> None:
        self._one = trio.Lock()

    async def run(self, job: Job, report: Report) -> LearnReport:
        """The report of a job; raises what the job raised, E1002 if it crashed, E1003 if killed."""
        if self._one.locked():
            report("waiting", message="another learning job is running")
        async with self._one:
            return await _run(job, report)


async def _run(job: Job, report: Report) -> LearnReport:
    threads = str(job.threads)
    environment = child_environment(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    outcome: Result | Failed | None = None
    with tempfile.TemporaryFile() as errors:
        child = await trio.lowlevel.open_process(
            [sys.executable, "-m", "p2pllm.learn"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            await child.stdin.send_all(encode_job(job))
            async for line in _lines(child.stdout):
                event = decode_event(line)
                if isinstance(event, Progress):
                    _forward(event, report)
                else:
                    outcome = event
            await child.wait()
        finally:
            await _end(child)
        if outcome is None:
            raise _crash(child.returncode, _tail(errors))
    if isinstance(outcome, Failed):
        raise outcome.error()
    return outcome.report


def _forward(event: Progress, report: Report) -> None:
    fields = {"message": event.message, "done": event.done, "total": event.total}
    fields |= {"unit": event.unit, "loss": event.loss, "eta_s": event.eta_s}
    report(
        event.stage, **{name: value for name, value in fields.items() if value not in ("", None)}
    )


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    buffer = b""
    async for chunk in stream:
        buffer += chunk
        *whole, buffer = buffer.split(b"\n")
        for line in whole:
            yield line
        if len(buffer) > MAX_LINE_BYTES:
            raise LocalError("E1002", "a job wrote a line without end")


def _tail(errors: IO[bytes]) -> list[str]:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - LOG_BYTES))
    return errors.read().decode(errors="replace").splitlines()[-LOG_LINES:]


async def _end(child: trio.Process) -> None:
    if child.returncode is not None:
        return
    with trio.CancelScope(shield=True):
        child.send_signal(signal.SIGTERM)
        with trio.move_on_after(GRACE_S):
            await child.wait()
            return
        child.kill()
        await child.wait()


def _crash(returncode: int | None, errors: list[str]) -> LocalError:
    if returncode == -signal.SIGKILL:
        return LocalError(
            "E1003",
            "the job was killed, most likely because memory ran out",
            fix=["use a smaller --batch, --seq or --rank, or close other programs"],
        )
    return LocalError("E1002", f"the job ended with status {returncode}", why=errors)
