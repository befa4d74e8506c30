"""Real daemons for tests: start, ask, kill, and see what they leave behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from node.client import Client
from p2pllm.errors import P2pllmError

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 60.0
_pause = threading.Event()  # never set: a wait on it is a poll interval


class Daemon:
    """One `python -m node` on a home of its own."""

    def __init__(self, home: Path, *flags: str, **environment: str) -> None:
        self.home = home
        self.client = Client(home / "run" / "api.sock", 60.0)
        home.mkdir(parents=True, exist_ok=True)
        with (home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "node", "--home", str(home), *flags],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def wait(self, ready: Callable[[dict[str, Any]], Any], what: str = "") -> dict[str, Any]:
        """The status once it is as wanted."""

        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.log()
            status = self.client.running()
            return status if status is not None and ready(status) else None

        return until(look, what or f"{self.home.name}\n{self.log()[-2000:]}")

    def up(self) -> "Daemon":
        self.wait(lambda s: s["state"] not in ("starting", "degraded"), "up")
        return self

    @property
    def node(self) -> str:
        return str(self.client.get("identity")["peer_id"])

    @property
    def address(self) -> str:
        return str(self.client.get("identity")["addresses"][0])

    def job(self, **request: Any) -> dict[str, Any]:
        """The result of a job; raises what the job failed with."""
        name = self.client.post("jobs", request)["job"]
        for event in self.client.events(name):
            if event["event"] == "result":
                return dict(event["result"])
            if event["event"] == "error":
                card = event["error"]
                raise P2pllmError(card["code"], card["message"], why=card["why"], fix=card["fix"])
        raise AssertionError(f"job {name} ended without a result")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def cpu_s(self) -> float:
        """Seconds of a core that it and its children have taken."""
        times = [one.cpu_times() for one in (psutil.Process(self.process.pid), *self.children())]
        return float(sum(one.user + one.system for one in times))

    def kill(self) -> None:
        """kill -9, as a crash."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def until(look: Callable[[], Any], what: str, seconds: float = WAIT_S, pause_s: float = 0.1) -> Any:
    """The first true answer of `look`, which is asked again and again until a deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        _pause.wait(pause_s)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


@contextmanager
def homes() -> Iterator[Path]:
    """A folder with a short name, since unix sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="p2", dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def running(*daemons: Daemon) -> Iterator[None]:
    """Stop these at the end, whatever happens."""
    try:
        yield
    finally:
        for daemon in daemons:
            if daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGTERM)
        for daemon in daemons:
            daemon.process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
