"""Real daemons over languages and domains: do heads agree, is every update held, and held once?

Twelve nodes over three languages and two domains, with a sub-domain; models are tiny, and every
process, stream and signature is real. Each place has two keepers, whom the subscribers trust, and
who accept updates (their heads are written as their judging would write them: what is measured here
is how a place keeps together, not the judging). In order: an update at every place reaches every
subscriber; a keeper is killed while another update is on its way; the two halves of the swarm,
which never met, accept different updates of one place and are joined.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from p2pllm import heads, keys
from p2pllm.errors import P2pllmError
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId
from p2pllm.names import parse_place
from tests.node.daemons import Daemon, running, until
from tests.p2pllm.learn import tiny

LANGUAGES, DOMAINS = ("en", "es", "fr"), ("medical", "law")
SUB = "en/medical/heart"
SPLIT = "en/medical"  # where the halves disagree
QUICK = {"P2PLLM_NETWORK__HEADS_S": "2"}
TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}
WAIT_S = 600.0


class Node:
    """One daemon and what it follows."""

    def __init__(self, daemon: Daemon, places: list[str]) -> None:
        self.daemon, self.places = daemon, places
        self.seen: dict[tuple[str, str], float] = {}  # when each update was applied, first told
        self.again: set[tuple[str, str]] = set()  # those that were applied a second time

    @property
    def alive(self) -> bool:
        return self.daemon.process.poll() is None

    def following(self, place: str) -> dict[str, Any]:
        cards = self.daemon.client.get("follow")["following"]
        return next(dict(card) for card in cards if card["place"] == place)

    def applied(self, place: str) -> dict[str, float]:
        """What is applied, and when it was."""
        found = {one["manifest"]: one["at"] for one in self.following(place)["applied"]}
        for update, at in found.items():
            if self.seen.setdefault((place, update), at) != at:
                self.again.add((place, update))
        return found

    def head(self, place: str) -> list[tuple[str, float]]:
        spots = self.daemon.client.get("tree", place=place)["places"]
        spot = next((one for one in spots if one["place"] == place), {"head": []})
        return [(one["manifest"], one["weight"]) for one in spot["head"]]

    def accept(self, place: str, *updates: str) -> None:
        """Write a head that accepts these as well, as this node's judging would."""
        identity = keys.load_or_create(self.daemon.home / "key")
        file, where = heads.HeadFile(self.daemon.home / "heads"), parse_place(place)
        old = file.read(where)
        new = [Accepted(ContentId(one), 0.5) for one in updates]
        head = Head(
            by=identity.node,
            place=where,
            seq=old.seq + 1 if old else 1,
            accepted=heads.merge(old.accepted if old else (), new),
        )
        file.write(heads.seal(identity, head))


class Swarm:
    """All nodes; those of even and of odd number do not know each other at first."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.made = folder, 0
        self.nodes: list[Node] = []
        self.source = tiny.save_base(folder / "base", tiny.llama())
        plain = [f"{lang}/{domain}" for lang, domain in product(LANGUAGES, DOMAINS)]
        places = [SPLIT, *(place for place in plain if place != SPLIT), SUB]
        self.places = places[: max(1, count // 2)] if count < len(places) + 4 else places
        for number in range(count):
            mine = {SPLIT} if number < 4 else set()
            # Every place has two nodes of each half as long as there are enough.
            mine |= {self.places[(number // 2 + step * 3) % len(self.places)] for step in (0, 1)}
            seed = [self.nodes[number % 2].daemon.address] if number > 1 else []
            flags = [flag for place in sorted(mine) for flag in ("--follow", place)]
            flags += [flag for address in seed for flag in ("--bootstrap", address)]
            daemon = Daemon(folder / f"n{number}", *flags, **QUICK).up()
            self.nodes.append(Node(daemon, sorted(mine)))
            _say(f"node {number} follows {' '.join(sorted(mine))}")
        base = self.nodes[0].daemon.job(
            kind="import", source=str(self.source), name="tiny", lang="en"
        )
        for half in (0, 1):  # one base in each half, of one and the same id
            node = self.nodes[half].daemon
            if half:
                base = node.job(kind="import", source=str(self.source), name="tiny", lang="en")
            node.job(**TERMS, ref=base["ref"])
        self.subscribe()

    def subscribe(self) -> None:
        """Everybody applies by itself what the keepers of its places accept."""
        for node in self.nodes:
            for place in node.places:
                node.daemon.client.post("follow", {"place": place, "auto": True})
                for keeper in self.keepers(place):
                    if keeper is not node:
                        said = {"place": place, "state": "trusted", "reason": "it keeps the place"}
                        node.daemon.client.post("trust", {"peer": keeper.daemon.node, **said})

    def of(self, place: str, half: int | None = None) -> list[Node]:
        """The live nodes of a place."""
        return [
            node
            for number, node in enumerate(self.nodes)
            if place in node.places and node.alive and half in (None, number % 2)
        ]

    def keepers(self, place: str) -> list[Node]:
        """Two of each half, the first of those that follow it."""
        return [node for half in (0, 1) for node in self.of(place, half)[:2]]

    def publish(self, node: Node, place: str) -> str:
        """A new adapter of a node at a place; its manifest."""
        self.made += 1
        folder = tiny.save_adapter(self.folder / f"update-{self.made}", seed=self.made)
        pushed = node.daemon.job(**TERMS, path=str(folder), place=place, name=f"u{self.made}")
        return str(pushed["manifest"])


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Run the story; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench hierarchy")
    parser.add_argument("--daemons", type=int, default=12)
    parser.add_argument("--short", action="store_true", help="four daemons")
    given = parser.parse_args(list(argv))
    count = 4 if given.short else given.daemons
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="p2", dir="/tmp") as folder:
        swarm = Swarm(Path(folder), count)
        with running(*(node.daemon for node in swarm.nodes)):
            found = _story(swarm)
    return {"daemons": count, "places": len(swarm.places), **found, "seconds": _since(began)}


def _story(swarm: Swarm) -> dict[str, Any]:
    first, spread_s = _spread(swarm)
    split = _split(swarm)
    join_s = _join(swarm, split)
    killed, kill_s, back = _kill(swarm)
    updates = {SPLIT: {*split, killed}}
    for (place, _half), update in first.items():
        updates.setdefault(place, set()).add(update)
    held, wanted, twice = _count(swarm, updates)
    agree = {place: _agree(swarm, place) for place in swarm.places}
    return {
        "heads_agree": all(agree.values()),
        "places_agreeing": sum(agree.values()),
        "held": held,
        "subscriptions": wanted,
        "held_share": held / wanted,
        "applied_twice": twice,
        "spread_s": spread_s,
        "split_healed_s": join_s,
        "kill_healed_s": kill_s,
        "killed_keeper_lost_nothing": back,
        "tree_levels": _levels(swarm),
    }


def _spread(swarm: Swarm) -> tuple[dict[tuple[str, int], str], float]:
    """An update at every place of each half reaches every subscriber of that half."""
    sent: dict[tuple[str, int], str] = {}
    for place in swarm.places:
        for half in (0, 1):
            here = swarm.of(place, half)
            if here:
                sent[place, half] = swarm.publish(here[0], place)
    began = time.monotonic()
    for (place, half), update in sent.items():
        swarm.of(place, half)[0].accept(place, update)
    for (place, half), update in sent.items():
        for node in swarm.of(place, half):
            _wait(lambda n=node, p=place, u=update: u in n.applied(p), f"{place} at {node.places}")
    _say(f"every update of a half is at its subscribers, {_since(began)} s")
    return sent, _since(began)


def _split(swarm: Swarm) -> list[str]:
    """The halves, which never met, each accept another update of one place."""
    made = []
    for half in (0, 1):
        here = swarm.of(SPLIT, half)
        made.append(swarm.publish(here[-1], SPLIT))
        here[0].accept(SPLIT, made[-1])
        for node in here:
            _wait(lambda n=node, u=made[-1]: u in n.applied(SPLIT), f"half {half}")
    assert not set(swarm.nodes[0].applied(SPLIT)) & set(swarm.nodes[1].applied(SPLIT))
    _say("the halves have gone their own ways")
    return made


def _join(swarm: Swarm, updates: list[str]) -> float:
    began = time.monotonic()
    for one, other in ((0, 1), (1, 0)):
        address = swarm.nodes[other].daemon.address
        swarm.nodes[one].daemon.client.post("peers", {"address": address})
    for node in swarm.of(SPLIT):
        _wait(lambda n=node: set(updates) <= set(n.applied(SPLIT)), f"joined at {node.places}")
    _say(f"joined: both updates are everywhere, {_since(began)} s")
    return _since(began)


def _kill(swarm: Swarm) -> tuple[str, float, bool]:
    """Kill the keeper that published an update once one other node has it, the rest on the way."""
    keeper, *others = swarm.of(SPLIT)
    update = swarm.publish(keeper, SPLIT)
    held = keeper.applied(SPLIT)
    began = time.monotonic()
    keeper.accept(SPLIT, update)
    _wait(lambda: any(update in node.applied(SPLIT) for node in others), "one has it")
    left = [node for node in others if update not in node.applied(SPLIT)]
    keeper.daemon.kill()
    _say(f"killed the keeper with {len(left)} of {len(others)} still without the update")
    for node in others:
        _wait(lambda n=node: update in n.applied(SPLIT), f"after the kill at {node.places}")
    seconds = _since(began)
    flags = [flag for place in keeper.places for flag in ("--follow", place)]
    seed = ("--bootstrap", others[0].daemon.address)
    keeper.daemon = Daemon(keeper.daemon.home, *flags, *seed, **QUICK).up()
    _wait(lambda: {*held, update} <= set(keeper.applied(SPLIT)), "the keeper is back with all")
    again = keeper.applied(SPLIT)
    _say(f"the others have it, and the keeper is back with everything, {seconds} s")
    return update, seconds, all(again[one] == at for one, at in held.items())


def _count(swarm: Swarm, updates: dict[str, set[str]]) -> tuple[int, int, int]:
    """Updates held by live subscribers, of how many; and how many were applied a second time."""
    held = wanted = 0
    for place, names in updates.items():
        for node in swarm.of(place):
            _wait(lambda n=node, p=place, u=names: u <= set(n.applied(p)), f"{place} at the end")
            wanted += len(names)
            held += len(names & node.applied(place).keys())
    return held, wanted, sum(len(node.again) for node in swarm.nodes)


def _agree(swarm: Swarm, place: str) -> bool:
    """Whether all live followers show one head, once nothing moves any more."""

    def same() -> bool:
        return len({tuple(node.head(place)) for node in swarm.of(place)}) == 1

    try:
        until(same, f"one head of {place}", 60.0)
    except AssertionError:
        return False
    return True


def _levels(swarm: Swarm) -> int:
    """How many levels the tree has, which every node must show alike for the places with models."""
    trees = []
    for node in (swarm.nodes[1], swarm.nodes[-1]):
        spots = node.daemon.client.get("tree")["places"]
        trees.append({spot["level"] for spot in spots})
    assert trees[0] == trees[1]
    return len(trees[0])


def _wait(look: Callable[[], bool], what: str) -> None:
    def asked() -> bool:
        try:
            return look()
        except P2pllmError:
            return False  # busy, or just starting

    until(asked, what, WAIT_S)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
