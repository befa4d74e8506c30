"""A learn process that stays: it loads the libraries once and runs each job in a fork of itself.

Most of a proof or a sketch is the loading of torch and transformers. A fork finds them loaded, and
what it used is free when it ends. This process has one thread for as long as it lives, since only
the thread that forks goes on in the fork. It ends when its input closes, when no job came for a
while, when it is told to, and when a job was killed, so that its parent sees that too.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from p2pllm.jobs import KILLED

IDLE_S = 60.0  # it holds some 200 MB; the jobs of a push, a pull or a round come sooner than that


def serve(run: Callable[[int], int]) -> int:
    """Run a fork for each job on standard input; the status to end with.

    run  does one job in the fork and returns its status; it is given a descriptor that hangs up
         when this process is gone
    """
    _load()
    worker, told = 0, False

    def pass_on(number: int, _frame: object) -> None:
        nonlocal told
        if not worker:
            sys.exit(0)
        told = True
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(worker, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    life, held = os.pipe()
    while not told and _job_came():
        worker = os.fork()
        if worker == 0:
            os.close(held)
            _work(run, life)
        status = os.waitpid(worker, 0)[1]
        worker = 0
        if os.WIFSIGNALED(status):
            return KILLED + os.WTERMSIG(status)
    return 0


def _load() -> None:
    import peft  # noqa: F401
    from transformers import LlamaForCausalLM  # noqa: F401  named, or it is loaded by each fork

    gc.collect()
    gc.freeze()  # so that a fork does not copy pages by collecting what it shares


def _job_came() -> bool:
    watched = select.poll()
    watched.register(0, select.POLLIN)
    found = watched.poll(IDLE_S * 1000)
    return any(event & select.POLLIN for _, event in found)


def _work(run: Callable[[int], int], life: int) -> NoReturn:
    status = 1
    try:
        status = run(life)
        sys.stderr.flush()
    finally:
        os._exit(status)
