"""The pipe between a learn job and its parent: one job in, events out, end when it closes."""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Collection
from functools import partial
from typing import NoReturn

from p2pllm import jobs
from p2pllm.errors import LocalError
from p2pllm.jobs import Event, Job, Progress

QUIET_S = 0.5  # between two events of one stage: at most two a second
CANCELLED_STATUS = 10  # exit status of the E10 errors
_ENDING = {signal.SIGTERM, signal.SIGINT}


class Channel:
    """Where a job tells its parent how far it is. Made once, before anything else is imported."""

    def __init__(self) -> None:
        # Libraries print to descriptor 1; from here on that is the error stream, and events have
        # a descriptor that nobody else knows.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._stage = ""
        self._said_at = 0.0

    def read_job(self, life: int = 0) -> Job:
        """The job on standard input; from then on its end, SIGTERM and SIGINT end the process.

        They are waited for in threads, since one step of the main thread may take seconds.

        life  another descriptor whose end ends the process
        """
        line = b""
        while not line.endswith(b"\n"):
            # A byte at a time: what follows the line is not ours to take, and a line is short.
            piece = os.read(0, 1)
            if not piece or len(line) > jobs.MAX_LINE_BYTES:
                raise LocalError("E0204", "standard input holds no job")
            line += piece
        job = jobs.decode_job(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        for watch in (self._end_when_told, partial(_end_with_parent, {0, life})):
            threading.Thread(target=watch, daemon=True).start()
        return job

    def progress(self, event: Progress) -> None:
        """Say how far the job is, unless it was said less than half a second ago."""
        now = time.monotonic()
        last = event.total > 0 and event.done >= event.total
        if event.stage != self._stage or last or now - self._said_at >= QUIET_S:
            self._stage, self._said_at = event.stage, now
            self.send(event)

    def send(self, event: Event) -> None:
        """Write one event."""
        data = jobs.encode_event(event)
        try:
            with self._writing:
                while data:
                    data = data[os.write(self._out, data) :]
        except BrokenPipeError:
            os._exit(CANCELLED_STATUS)

    def _end_when_told(self) -> NoReturn:
        # Every file a job leaves is put in place whole, so it may stop between any two lines.
        name = signal.Signals(signal.sigwait(_ENDING)).name
        self.send(jobs.failed(LocalError("E1001", f"the job was cancelled ({name})")))
        os._exit(CANCELLED_STATUS)


def _end_with_parent(pipes: Collection[int]) -> NoReturn:
    # Nothing is read: the next line would be the next job, and that is not ours.
    watched = select.poll()
    for pipe in pipes:
        watched.register(pipe, 0)
    watched.poll()
    sys.stderr.write("the parent is gone\n")
    os._exit(CANCELLED_STATUS)
