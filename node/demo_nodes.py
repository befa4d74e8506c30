"""Several real daemons on this machine, for the demo: start them, ask them, end them."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import node
from node.client import Client
from p2pllm.errors import LocalError, Unavailable

WAIT_S = 60.0  # for a daemon to be as wanted; a busy machine needs ten
STOP_S = 30.0
POLL_S = 0.1
Document = dict[str, Any]


class Nodes:
    """Daemons under one folder, each with a key, a home and an endpoint of its own."""

    def __init__(self, folder: Path, names: Sequence[str], follow: str, config: str = "") -> None:
        self.folder = folder
        self.names = tuple(names)
        self.clients = {name: Client(folder / name / "run" / "api.sock", 120.0) for name in names}
        self._follow = follow
        self._config = config  # what stands in each home's config.toml
        self._processes: list[subprocess.Popen[bytes]] = []

    def more(self, names: Sequence[str]) -> None:
        """Further daemons join those that are up."""
        seed, known = self.address(self.names[0]), len(self.names) + len(names) - 1
        self.names += tuple(names)
        for name in names:
            self.clients[name] = Client(self.folder / name / "run" / "api.sock", 120.0)
            self._start(name, "--bootstrap", seed)
        for name in self.names:
            self.wait(name, lambda s: s["state"] == "online" and s["swarm"]["dht_peers"] >= known)

    def start(self) -> None:
        """All of them up and joined; the first is the seed of the others."""
        first, *others = self.names
        self._start(first)
        seed = self.address(first)
        for name in others:
            self._start(name, "--bootstrap", seed)
        known = len(others)
        for name in self.names:
            self.wait(name, lambda s: s["state"] == "online" and s["swarm"]["dht_peers"] >= known)

    def _start(self, name: str, *flags: str) -> None:
        home = self.folder / name
        home.mkdir(parents=True)
        (home / "config.toml").write_text(self._config)
        command = [sys.executable, "-m", "node", "--home", str(home), "--follow", self._follow]
        command += ["--attached", *flags]  # so that it ends however we do
        with (home / "log").open("wb") as log:
            # Its own process group, so that Ctrl-C reaches us first and we end all in order.
            child = subprocess.Popen(
                command,
                cwd=Path(node.__file__).parent.parent,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(child)
        self.wait(name, lambda status: status["state"] in ("online", "isolated"))

    def wait(self, name: str, ready: Callable[[Document], bool]) -> Document:
        """The node's status once it is as wanted."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            status = self.clients[name].running()
            if status is not None and ready(status):
                return status
            time.sleep(POLL_S)  # noqa: TID251  a plain program, not a trio task
        log = (self.folder / name / "log").read_text(errors="replace")
        raise Unavailable("E0501", f"{name} did not come up", why=log.splitlines()[-8:])

    def address(self, name: str) -> str:
        """Where a node can be dialled."""
        return str(self.clients[name].get("identity")["addresses"][0])

    def job(
        self, name: str, request: Document, tell: Callable[[Document], None] | None = None
    ) -> Document:
        """The result of a long request to a node; `tell` hears how far it is."""
        client = self.clients[name]
        job = client.post("jobs", request)["job"]
        for event in client.events(job):
            if event["event"] == "progress" and tell is not None:
                tell(event)
            if event["event"] == "result":
                result: Document = event["result"]
                return result
            if event["event"] == "error":
                card = event["error"]
                raise LocalError(card["code"], card["message"], why=card["why"], fix=card["fix"])
        raise LocalError("E1002", f"job {job} of {name} ended without a result")

    def ask(self, name: str, *words: str) -> Document:
        """The answer of a verb of the command line, as a person at that node gets it."""
        command = [sys.executable, "-m", "node.cli", "--home", str(self.folder / name), "--json"]
        done = subprocess.run(
            [*command, *words],
            cwd=Path(node.__file__).parent.parent,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            why = (done.stdout + done.stderr).splitlines()[-3:]
            raise LocalError("E0101", f"{words[0]} of {name} ended with {done.returncode}", why=why)
        answer: Document = json.loads(done.stdout.splitlines()[-1])
        return answer

    def stop(self) -> list[int]:
        """End all daemons; the status of each."""
        for child in self._processes:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        return [child.wait(timeout=STOP_S) for child in self._processes]


@contextmanager
def running(folder: Path, names: Sequence[str], follow: str, config: str = "") -> Iterator[Nodes]:
    """Daemons for the length of the block."""
    nodes = Nodes(folder, names, follow, config)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()
