"""Run learn jobs in a child process: job in, progress out, report back; cancel is kill.

The process stays for the next job for a while, since most of a short one is its start.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

import msgspec
import trio

from node.config import child_environment
from node.jobs import Report
from p2pllm.errors import LocalError
from p2pllm.jobs import (
    KILLED,
    MAX_LINE_BYTES,
    Failed,
    Job,
    Progress,
    Result,
    decode_event,
    encode_job,
)
from p2pllm.jobs import Report as LearnReport

GRACE_S = 1.0  # a cancelled child has this long to leave before it is killed
LOG_LINES = 12  # of the child's standard error, told when it dies
LOG_BYTES = 8192


class Child(msgspec.Struct):
    """A process that does learn jobs, one after the other."""

    process: trio.Process
    errors: IO[bytes]
    unread: bytes = b""  # what it wrote after its last whole line


class Learner:
    """Runs learn jobs, one at a time: two of them on one machine only slow each other down."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._one = trio.Lock()
        self._kept: Child | None = None

    async def run(self, job: Job, report: Report) -> LearnReport:
        """The report of a job; raises what the job raised, E1002 if it crashed, E1003 if killed."""
        if self._one.locked():
            report("waiting", message="another learning job is running")
        async with self._one:
            outcome = await self._outcome(job, report)
        if isinstance(outcome, Failed):
            raise outcome.error()
        return outcome.report

    async def close(self) -> None:
        """End the process that waits for a job."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await _end(kept)

    async def _outcome(self, job: Job, report: Report) -> Result | Failed:
        line = encode_job(job)
        waited, self._kept = self._kept, None
        if waited is None:
            report("start", message="loading the learning libraries")
        while True:
            child = waited or await self._start()
            try:
                outcome = await _talk(child, line, report)
                if outcome is not None:
                    self._kept = child
                    return outcome
                if waited is None or child.process.returncode != 0:
                    raise _crash(child.process.returncode, _tail(child.errors))
                waited = None  # it left before it had the job, since there was none for a while
            finally:
                if self._kept is not child:
                    await _end(child)

    async def _start(self) -> Child:
        child = await _open()
        self._nursery.start_soon(self._reap, child)
        return child

    async def _reap(self, child: Child) -> None:
        """Let go of a process that left because no job came."""
        await child.process.wait()
        if self._kept is child:
            await self.close()


@asynccontextmanager
async def open_learner() -> AsyncIterator[Learner]:
    """A learner whose process ends with the block."""
    async with trio.open_nursery() as nursery:
        learner = Learner(nursery)
        try:
            yield learner
        finally:
            nursery.cancel_scope.cancel()
            await learner.close()


async def _open() -> Child:
    errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `_end`
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "p2pllm.learn", "--warm"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=child_environment(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1"),
    )
    return Child(process, errors)


async def _talk(child: Child, job: bytes, report: Report) -> Result | Failed | None:
    """How a job ended; None if the process did without a word."""
    assert child.process.stdin is not None
    try:
        await child.process.stdin.send_all(job)
        while True:
            event = decode_event(await _line(child))
            if not isinstance(event, Progress):
                return event
            _forward(event, report)
    except (trio.BrokenResourceError, trio.EndOfChannel):
        await child.process.wait()
        return None


def _forward(event: Progress, report: Report) -> None:
    fields = {"message": event.message, "done": event.done, "total": event.total}
    fields |= {"unit": event.unit, "loss": event.loss, "eta_s": event.eta_s}
    report(
        event.stage, **{name: value for name, value in fields.items() if value not in ("", None)}
    )


async def _line(child: Child) -> bytes:
    """The next line it writes; EndOfChannel if there will be none."""
    assert child.process.stdout is not None
    while b"\n" not in child.unread:
        more = await child.process.stdout.receive_some()
        if not more:
            raise trio.EndOfChannel
        child.unread += more
        if len(child.unread) > MAX_LINE_BYTES and b"\n" not in child.unread:
            raise LocalError("E1002", "a job wrote a line without end")
    line, _, child.unread = child.unread.partition(b"\n")
    return line


def _tail(errors: IO[bytes]) -> list[str]:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - LOG_BYTES))
    return errors.read().decode(errors="replace").splitlines()[-LOG_LINES:]


async def _end(child: Child) -> None:
    process = child.process
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(GRACE_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            await pipe.aclose()
    child.errors.close()


def _crash(returncode: int | None, errors: list[str]) -> LocalError:
    if returncode in (-signal.SIGKILL, KILLED + signal.SIGKILL):
        return LocalError(
            "E1003",
            "the job was killed, most likely because memory ran out",
            fix=[
                "use a smaller --batch, --seq or --rank, or close other programs",
                "give the command again: it goes on where it can, or begins anew",
            ],
        )
    return LocalError("E1002", f"the job ended with status {returncode}", why=errors)
