"""The parts of a running node that a verb may need, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from node.config import Config
from node.events import Events
from node.judgement import Judgement
from node.learning import Learner
from node.library import Library
from node.models import Models
from node.network import Network
from p2pllm.errors import LocalError
from p2pllm.keys import Identity
from p2pllm.store import Store


@dataclass(frozen=True)
class Services:
    """Opened by the daemon, closed by it, handed to whatever answers a request."""

    config: Config
    identity: Identity
    store: Store
    library: Library
    models: Models
    network: Network
    trust: Judgement
    learner: Learner
    events: Events
    pid: int
    started_at: float  # Unix seconds
    working: set[Path]  # folders that jobs write to now
    transfers: trio.Lock  # one pull at a time: it uses several peers, and two could share blobs

    @property
    def memory_bytes(self) -> int:
        """What a learning job may use; 0 leaves it to what the machine has free."""
        return int(self.config.learn.max_memory_gib * 1024**3)

    @contextmanager
    def work_folder(self, name: str) -> Iterator[Path]:
        """HOME/work/NAME for one job at a time; its parent exists, it itself may."""
        folder = self.config.home / "work" / name
        if folder in self.working:
            raise LocalError("E0204", "the same request is being worked on", fix=["p2pllm jobs ls"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.working.add(folder)
        try:
            yield folder
        finally:
            self.working.discard(folder)
