"""Rounds with blocks over real nodes: cut, tune apart, gather, push down; losses fall."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.daemons import Daemon, homes, running
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PLACE = "en/medical"
SHAPES = ({"ffn": 0.75}, {"ffn": 0.5, "heads": 0.5})
PUSH = {"kind": "push", "licence": "Apache-2.0", "consent": True}


class Swarm:
    """A keeper, which has the whole base, and a client for each shape, which never has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeper = Daemon(folder / "keeper")
        self.clients: list[Daemon] = []

    def begin(self) -> None:
        """Bring everybody together, and a block of the keeper's base to each client."""
        seed = ("--bootstrap", self.keeper.up().address)
        for number in range(len(SHAPES)):
            self.clients.append(Daemon(self.folder / f"c{number}", *seed))
        for daemon in self.all:
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= len(SHAPES), "all in the DHT")
        source = tiny.save_base(self.folder / "base", tiny.llama())
        base = self.keeper.job(kind="import", source=str(source), name="tiny", lang="en")
        self.base = str(base["ref"])
        self.held = self.text("held", 8)
        self.blocks = [self.block(number) for number in range(len(SHAPES))]

    @property
    def all(self) -> list[Daemon]:
        return [self.keeper, *self.clients]

    def text(self, name: str, count: int) -> str:
        """Text of one client alone, or of all of them."""
        words = [tiny.WORDS[4 * number : 4 * number + 4] for number in range(len(SHAPES))]
        own = [words[int(name)]] if name.isdigit() else words
        documents = [
            " ".join(f"{name} {number} {' '.join(some)}" for _ in range(20))
            for number in range(count)
            for some in own
        ]
        return str(tiny.write_jsonl(self.folder / f"{name}.jsonl", documents))

    def block(self, number: int) -> str:
        """A block of one shape, cut by the keeper and fetched by its client."""
        asked = {"ref": self.base, "data": [self.text("general", 20)], "name": f"small{number}"}
        cut = self.keeper.job(kind="block", **asked, **SHAPES[number], steps=0, seq=32)
        return self.send(self.keeper, str(cut["ref"]), self.clients[number])

    def send(self, by: Daemon, ref: str, to: Daemon) -> str:
        """Publish what a node holds, and fetch it at another; what it is called from then on."""
        pushed = by.job(**PUSH, ref=ref)
        to.job(kind="pull", ref=pushed["ref"])
        return str(pushed["ref"])

    def round(self, number: int, start: list[str]) -> tuple[str, list[str]]:
        """The head that comes of a round, and what each client starts its next one from."""
        changes = []
        for client, daemon in enumerate(self.clients):
            asked: dict[str, Any] = {
                "base": self.blocks[client],
                "data": [self.text(str(client), 40)],
            }
            asked |= {"start": start[client]} if start else {"rank": 4}
            asked |= {"place": PLACE, "name": f"change{client}-{number}", "lr": 0.02}
            tuned = daemon.job(kind="tune", **asked, steps=15, seq=32)
            changes.append(self.send(daemon, str(tuned["ref"]), self.keeper))
        gather = {"kind": "gather", "place": PLACE}
        head = self.keeper.job(**gather, what=changes, into=self.base, name=f"head-{number}")
        down = []
        for client, block in enumerate(self.blocks):
            asked = {"what": [head["ref"]], "into": block, "name": f"down{client}-{number}"}
            made = self.keeper.job(**gather, **asked)
            down.append(self.send(self.keeper, str(made["ref"]), self.clients[client]))
        return str(head["ref"]), down

    def loss(self, daemon: Daemon, ref: str) -> float:
        return float(daemon.job(kind="eval", ref=ref, data=[self.held], split="all")["loss"])


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with homes() as folder:
        made = Swarm(folder)
        try:
            made.begin()
            yield made
        finally:
            with running(*made.all):
                pass


def test_losses_fall_from_round_to_round_at_everybody(swarm: Swarm) -> None:
    keeper = [swarm.loss(swarm.keeper, swarm.base)]
    clients = [[swarm.loss(*pair)] for pair in zip(swarm.clients, swarm.blocks, strict=True)]
    down: list[str] = []
    for number in (1, 2):
        head, down = swarm.round(number, down)
        keeper.append(swarm.loss(swarm.keeper, head))
        for client, losses in enumerate(clients):
            losses.append(swarm.loss(swarm.clients[client], down[client]))
    for losses in (keeper, *clients):
        assert losses[0] > losses[1] > losses[2], (keeper, clients)
    for number, client in enumerate(swarm.clients):
        bases = {one["name"] for one in client.client.get("models")["models"]} & {"tiny"}
        assert not bases, f"client {number} was sent the whole base"
