"""The parts of a running node that a verb may need, in one place."""

from dataclasses import dataclass

import trio

from node.config import Config
from node.events import Events
from node.learning import Learner
from node.library import Library
from node.models import Models
from node.network import Network
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
    learner: Learner
    events: Events
    pid: int
    started_at: float  # Unix seconds
    transfers: trio.Lock  # one pull at a time: it uses several peers, and two could share blobs

    @property
    def memory_bytes(self) -> int:
        """What a learning job may use; 0 leaves it to what the machine has free."""
        return int(self.config.learn.max_memory_gib * 1024**3)
