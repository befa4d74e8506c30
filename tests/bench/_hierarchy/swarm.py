"""Twelve real daemons and what they follow: started together, asked, cut in two, killed."""

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from node.trust_db import Line, TrustDb
from p2pllm.errors import P2pllmError
from p2pllm.jobs import TuneJob
from p2pllm.learn.tune import tune
from p2pllm.names import parse_place
from tests.node.daemons import Daemon, running, until
from tests.node.test_judging import taught
from tests.p2pllm.learn import tiny

LANGUAGES, DOMAINS = ("en", "es", "fr"), ("medical", "law")
SUB = "en/medical/heart"
SPLIT = "en/medical"  # where the halves disagree
QUICK = {
    "P2PLLM_NETWORK__HEADS_S": "2",
    "P2PLLM_NETWORK__PRESENCE_S": "5",
    "P2PLLM_TRUST__SETTLE_S": "1",
    "P2PLLM_TRUST__REVIEW_S": "10",
    "P2PLLM_TRUST__PROBE_TOKENS": "600",
    "P2PLLM_TRUST__OWN_STEPS": "20",
}
TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}
WAIT_S = 300.0
JUDGE_S, TRIES = 240.0, 3


class Node:
    """One daemon and what it follows."""

    def __init__(self, home: Path, places: list[str], half: int) -> None:
        self.home, self.places, self.half = home, places, half
        self.name = ""  # its node id
        self.daemon: Daemon
        self.seen: dict[tuple[str, str], float] = {}  # when each update was applied, first told
        self.again: set[tuple[str, str]] = set()  # those that were applied a second time

    def start(self, *seeds: str, port: int = 0) -> None:
        flags = [flag for place in self.places for flag in ("--follow", place)]
        flags += [flag for address in seeds for flag in ("--bootstrap", address)]
        flags += ["--listen", f"/ip4/127.0.0.1/tcp/{port}"] if port else []
        self.daemon = Daemon(self.home, *flags, **QUICK)

    @property
    def alive(self) -> bool:
        return self.daemon.process.poll() is None

    def get(self, what: str, **query: str) -> dict[str, Any]:
        return dict(self.daemon.client.get(what, **query))

    def following(self, place: str) -> dict[str, Any]:
        cards = self.get("follow")["following"]
        return next(dict(card) for card in cards if card["place"] == place)

    def applied(self, place: str) -> dict[str, float]:
        """What is applied, and when it was."""
        found = {one["manifest"]: one["at"] for one in self.following(place)["applied"]}
        for update, at in found.items():
            if self.seen.setdefault((place, update), at) != at:
                self.again.add((place, update))
        return found

    def head(self, place: str) -> list[tuple[str, float]]:
        spots = self.get("tree", place=place)["places"]
        spot = next((one for one in spots if one["place"] == place), {"head": []})
        return [(one["manifest"], one["weight"]) for one in spot["head"]]

    def accepted(self, place: str) -> set[str]:
        """What this node's own head holds, by its own verdicts."""
        found = self.get("heads", place=place)["heads"]
        return {pair["manifest"] for head in found for pair in head["accepted"]}

    def book(self, place: str) -> list[Line]:
        """The ledger of a place, as it is on disk."""
        with closing(TrustDb(self.home / "trust.db")) as db:
            return db.ledger(parse_place(place))

    def joined(self, others: int) -> bool:
        """Whether it knows others by the DHT, and a peer at each of its places."""
        swarm = self.get("status")["swarm"]
        met = {topic["place"]: topic["peers"] for topic in swarm["topics"]}
        return swarm["dht_peers"] >= others and all(met.get(place) for place in self.places)

    def forget(self, nodes: Iterable["Node"]) -> None:
        """Lose the addresses of these, as behind a wall; the daemon is down."""
        lost = tuple(node.name for node in nodes)
        with sqlite3.connect(self.home / "node.db") as db:
            rows = db.execute("SELECT value FROM facts WHERE name = 'peers'").fetchall()
            known = json.loads(rows[0][0]) if rows else []
            left = [address for address in known if not address.endswith(lost)]
            db.execute("UPDATE facts SET value = ? WHERE name = 'peers'", (json.dumps(left),))


class Swarm:
    """All nodes, of which those of odd number will be cut off from the others for a while."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.made = folder, 0
        self.training = threading.Lock()
        plain = [f"{lang}/{domain}" for lang, domain in product(LANGUAGES, DOMAINS)]
        places = [SPLIT, SUB, *(place for place in plain if place != SPLIT)]
        self.places = places[: max(1, count // 2)] if count < len(places) + 4 else places
        self.nodes = []
        for number in range(count):
            mine = {SPLIT, SUB} & set(self.places) if number < 4 else set()
            # With twelve, every place has two nodes of each half at least, one of them a keeper.
            mine |= {self.places[(number // 2 + 2 * s) % len(self.places)] for s in (0, 1, 2)}
            self.nodes.append(Node(folder / f"n{number}", sorted(mine), number % 2))
        self.base = folder  # where the first node has the model
        self.keeping = {place: self._two(place) for place in self.places}

    def _two(self, place: str) -> list[Node]:
        first = [[n for n in self.nodes if place in n.places and n.half == h][:1] for h in (0, 1)]
        return [node for one in first for node in one]

    @contextmanager
    def up(self) -> Iterator[None]:
        """All daemons, ended at the end, whatever happens."""
        try:
            yield
        finally:
            with running(*(node.daemon for node in self.nodes if hasattr(node, "daemon"))):
                pass

    def join(self) -> float:
        """Start everybody by one seed; seconds from there until all know others everywhere."""
        first, *others = self.nodes
        first.start()
        first.daemon.up()
        began = time.monotonic()
        for node in others:
            node.start(first.daemon.address)
        for node in self.nodes:
            node.daemon.up()
            node.name = node.daemon.node
        few = min(3, len(self.nodes) - 1)
        self.each(lambda node: wait(lambda: node.joined(few), f"{node.home.name} joined"))
        return since(began)

    def clone(self) -> float:
        """The base at one node, then at all; keepers get text to judge by, the others follow."""
        source = tiny.save_base(self.folder / "base", taught())
        first, *others = self.nodes
        base = first.daemon.job(kind="import", source=str(source), name="tiny", lang="en")
        base = first.daemon.job(**TERMS, ref=base["ref"])
        self.base = Path(base["path"])
        began = time.monotonic()
        self.each(lambda node: node.daemon.job(kind="pull", ref=base["ref"]), others)
        took = since(began)
        self.each(self._subscribe)
        return took

    def _subscribe(self, node: Node) -> None:
        for place in node.places:
            first, second = self.keeping[place]
            node.daemon.client.post("follow", {"place": place, "auto": True})
            # At one place subscribers know the first keeper alone; the keepers know each other.
            for keeper in [first] if place == SUB and node is not first else [first, second]:
                if keeper is not node:
                    said = {"place": place, "state": "trusted", "reason": "it keeps the place"}
                    node.daemon.client.post("trust", {"peer": keeper.name, **said})
            if node in (first, second):
                text = tiny.write_jsonl(node.home / "probe.jsonl", tiny.sentences(80, seed=11))
                given = {"place": place, "paths": [str(text)]}
                node.daemon.client.post("trust/probes", given)

    def each(self, act: Callable[[Node], object], nodes: Sequence[Node] = ()) -> None:
        """Do something with every live node, several at once."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(act, nodes or [node for node in self.nodes if node.alive]))

    def of(self, place: str, half: int | None = None) -> list[Node]:
        """The live nodes of a place."""
        here = [node for node in self.nodes if place in node.places and node.alive]
        return [node for node in here if half in (None, node.half)]

    def publish(self, node: Node, place: str) -> str:
        """A new adapter of a node at a place, trained on text like that of the place; its id."""
        with self.training:
            self.made += 1
            name, source = f"u{self.made}", tiny.sentences(60, seed=self.made)
            text = tiny.write_jsonl(self.folder / f"{name}.jsonl", source)
            job = TuneJob(
                base_dir=str(self.base),
                data=(str(text),),
                out_dir=str(self.folder / name),
                steps=25,
                batch=4,
                seq=32,
                lr=0.01,
                seed=self.made,
            )
            tune(job, lambda _event: None)
        pushed = node.daemon.job(**TERMS, path=str(self.folder / name), place=place, name=name)
        return str(pushed["manifest"])

    def accept(self, place: str, node: Node, keepers: Sequence[Node]) -> str:
        """An update of a node that a keeper of the place has accepted; of several, if need be."""
        for _ in range(TRIES):
            update = self.publish(node, place)
            try:
                until(
                    lambda made=update: any(made in each.accepted(place) for each in keepers),
                    f"{update} of {place} is accepted",
                    JUDGE_S,
                )
            except AssertionError:
                say(f"no keeper of {place} accepted {update}")
                continue
            return update
        raise AssertionError(f"{TRIES} updates of {place}, and none was accepted")

    def busy(self, seconds: float) -> dict[str, float]:
        """What each live daemon takes of a core with all its processes, while nobody asks."""
        nodes = [node for node in self.nodes if node.alive]
        before = {node: node.daemon.cpu_s() for node in nodes}
        threading.Event().wait(seconds)
        return {n.home.name: round((n.daemon.cpu_s() - before[n]) / seconds, 3) for n in nodes}

    def reaches(self, place: str, update: str, nodes: Sequence[Node]) -> None:
        """Return once all of these have applied it."""
        for node in nodes:
            wait(lambda n=node: update in n.applied(place), f"{update} of {place} at {node.home}")


def wait(look: Callable[[], object], what: str, pause: float = 0.1) -> None:
    def asked() -> object:
        try:
            return look()
        except P2pllmError:
            return False  # busy, or just starting

    until(asked, what, WAIT_S, pause)


def since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
