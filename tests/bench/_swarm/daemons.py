"""Eight real daemons, two of them poisoners: who is served, who is out, and who comes back."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench._swarm.pool import PLACE, Ground
from tests.node.daemons import Daemon, homes, running, until

TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}
SLOW_S = 900.0  # a round of all judges, on two cores that others use as well
SETTINGS = {
    "P2PLLM_TRUST__SETTLE_S": "45",  # a round takes all that was pushed by then
    "P2PLLM_TRUST__REVIEW_S": "30",  # what is held is judged again, on turned probes
    "P2PLLM_TRUST__PROBE_TOKENS": "3000",
    "P2PLLM_TRUST__OWN_STEPS": "100",
    "P2PLLM_TRUST__AUDIT": "1",  # every node looks at what a quarantined peer sends
    "OMP_NUM_THREADS": "1",
}
PUSHERS = 3  # at once; each starts a process that proves the fit
OUT = ("quarantined", "banned")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Swarm:
    """The daemons; the first ones judge, the poisoners only publish."""

    def __init__(self, folder: Path, made: Ground, judges: int, poisoners: int) -> None:
        self.made = made
        follow = ("--follow", str(PLACE))
        first = Daemon(folder / "n0", *follow, **SETTINGS).up()
        seed = ("--bootstrap", first.address)
        count = judges + poisoners
        more = [Daemon(folder / f"n{n}", *seed, *follow, **SETTINGS) for n in range(1, count)]
        self.all = [first, *more]
        self.judges, self.poisoners = self.all[:judges], self.all[judges:]
        self.nodes = {daemon.node: n for n, daemon in enumerate(self.up())}
        self.poison: list[str] = []
        self.ever_served: set[tuple[int, str]] = set()  # judge, manifest
        self.ever_out: set[tuple[int, str]] = set()  # judge, peer
        self.holders: set[tuple[str, str]] = set()  # manifest, node that hands it out
        self._bring_base()

    def up(self) -> list[Daemon]:
        for daemon in self.all:
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= len(self.all) - 1, "all in the DHT")
        return self.all

    def _bring_base(self) -> None:
        source = str(self.made.base)
        base = self.all[0].job(kind="import", source=source, name="tiny", lang="en")
        base = self.all[0].job(**TERMS, ref=base["ref"])
        for daemon in self.all[1:]:
            daemon.job(kind="pull", ref=base["ref"])

    def begin(self) -> None:
        """Give every judge its own probes; until then what they hear waits."""
        for number, daemon in enumerate(self.judges):
            given = {"place": str(PLACE), "paths": [str(self.made.probe(number))]}
            daemon.client.post("trust/probes", given)

    def push(self, sends: Sequence[tuple[int, Path]]) -> list[str]:
        """Publish folders, each by the node of this number; their manifests."""
        with ThreadPoolExecutor(PUSHERS) as pushers:
            return list(pushers.map(lambda one: self._push(*one), sends))

    def _push(self, number: int, folder: Path) -> str:
        request = {"path": str(folder), "place": str(PLACE), "name": folder.name, "base": "tiny"}
        return str(self.all[number].job(**TERMS, **request)["manifest"])

    def look(self) -> None:
        """Note who serves what and whom each judge keeps out now."""
        for number, daemon in enumerate(self.judges):
            for head in daemon.client.get("heads", place=str(PLACE))["heads"]:
                self.ever_served |= {(number, pair["manifest"]) for pair in head["accepted"]}
            for peer in daemon.client.get("trust", place=str(PLACE))["peers"]:
                if peer["state"] in OUT:
                    self.ever_out.add((number, peer["peer_id"]))
        for card in self.judges[0].client.post("search", {"lang": "en"})["results"]:
            if card["manifest"] in self.poison:
                self.holders |= {(card["manifest"], peer) for peer in card["peers"]}

    def judged(self, sent: Sequence[str]) -> None:
        """Wait until every judge has judged all of these, or refused them for their publisher."""

        def done() -> bool:
            self.look()
            return all(not self._open(daemon, sent) for daemon in self.judges)

        until(done, "every judge judged the wave", SLOW_S)

    def decided(self) -> bool:
        """Whether each judge has each poisoner out, or will not judge its updates again."""
        self.look()
        return not any(self._undecided(daemon) for daemon in self.judges)

    def _undecided(self, daemon: Daemon) -> bool:
        card = daemon.client.get("trust", place=str(PLACE))
        out = {one["peer_id"] for one in card["peers"] if one["state"] in OUT}
        held = {one["peer_id"] for one in card["places"][0]["updates"] if one["state"] == "held"}
        return any(one.node in held - out for one in self.poisoners)

    def _open(self, daemon: Daemon, sent: Sequence[str]) -> list[str]:
        [place] = daemon.client.get("trust", place=str(PLACE))["places"]
        states = {one["manifest"]: one["state"] for one in place["updates"]}
        return [one for one in sent if states.get(one) not in ("judged", "held", "refused")]

    def states(self, peer: str) -> list[str]:
        """How each judge sees a peer."""
        found = []
        for daemon in self.judges:
            cards = daemon.client.get("trust", place=str(PLACE))["peers"]
            found.append(next((c["state"] for c in cards if c["peer_id"] == peer), "unknown"))
        return found

    def applied(self) -> float:
        """The share of judges that ever served poison, by their ledgers and by what was seen."""
        took = {number for number, manifest in self.ever_served if manifest in self.poison}
        for number, daemon in enumerate(self.judges):
            for peer in (one.node for one in self.poisoners):
                events = daemon.client.get("trust/explain", subject=peer)["served"]
                if any(set(event["taken"]) & set(self.poison) for event in events):
                    took.add(number)
        return len(took) / len(self.judges)

    def hops(self) -> int:
        """How far poison went: 1 if only its publishers hand it out, 2 if anybody else does."""
        publishers = {one.node for one in self.poisoners}
        return 1 + any(holder not in publishers for _, holder in self.holders)

    def fatal(self, peer: str) -> list[int | None]:
        """For each judge the number of the verdict that put the peer out."""
        found = []
        for daemon in self.judges:
            verdicts = daemon.client.get("trust/explain", subject=peer)["verdicts"]
            ordered = sorted(verdicts, key=lambda one: one["round"])
            out = [n for n, one in enumerate(ordered, 1) if one["state"] in OUT]
            found.append(out[0] if out else None)
        return found

    def touched(self) -> int:
        """Pairs of a judge and an honest peer that it ever kept out."""
        honest = {one.node for one in self.judges}
        return sum(peer in honest for _, peer in self.ever_out)

    def recomputed(self) -> tuple[int, int]:
        """Verdicts in the evidence against the poisoners, and how many come out the same."""
        from trust.verified import verify

        total = same = 0
        for daemon in self.judges:
            for one in self.poisoners:
                found = verify(daemon.client.get_bytes("trust/evidence", subject=one.node))
                signed = [
                    verdict.recorded for verdict in found.verdicts if verdict.recorded != "absent"
                ]
                total, same = total + len(signed), same + signed.count("equal")
        return total, same


@contextmanager
def open_swarm(made: Ground, judges: int, poisoners: int) -> Iterator[Swarm]:
    with homes() as folder:
        swarm = Swarm(folder, made, judges, poisoners)
        with running(*swarm.all):
            yield swarm


def poison(swarm: Swarm, turns: int) -> dict[str, Any]:
    """Honest updates and twice as many of each poisoner; judged when all are pushed."""
    made, count = swarm.made, len(swarm.judges)
    makers = (_flipped(made), made.garbled)
    sent: list[str] = []
    for turn in range(turns):
        honest = [(n, made.honest(f"h{n}-{turn}", 1000 * n + turn)) for n in range(count)]
        bad = [
            (count + at, makers[at % 2](f"p{at}-{tag}", 50_000 + 1000 * at + tag))
            for at in range(len(swarm.poisoners))
            for tag in (2 * turn, 2 * turn + 1)
        ]
        pushed = swarm.push([*honest, *bad])
        swarm.poison += pushed[count:]
        sent += pushed
        say(f"turn {turn + 1} of {turns} pushed")
    swarm.begin()
    swarm.judged(sent)
    say(f"judged once: {[swarm.states(one.node) for one in swarm.poisoners]}")
    until(swarm.decided, "every poisoner is out, or nothing of it is held", SLOW_S)
    seen = [swarm.states(one.node) for one in swarm.poisoners]
    fatal = [swarm.fatal(one.node) for one in swarm.poisoners]
    say(f"all judged: poisoners {seen}, out at update {fatal}; applied {swarm.applied()}")
    return {"states": seen, "verdicts_to_quarantine": fatal}


def _flipped(made: Ground) -> Callable[[str, int], Path]:
    return lambda name, seed: made.scaled(name, made.honest(f"{name}-of", seed), -1.0)


def rehabilitation(swarm: Swarm, waves: int, each: int) -> dict[str, Any]:
    """The first poisoner sends honest updates from now on; the others are honest as before."""
    made, number = swarm.made, len(swarm.judges)
    peer = swarm.all[number].node
    for wave in range(waves):
        mine = range(wave * each, (wave + 1) * each)
        sends = [(number, made.honest(f"r{tag}", 90_000 + tag)) for tag in mine]
        sends += [
            (other, made.honest(f"hr{other}-{wave}", 70_000 + 100 * other + wave))
            for other in range(number)
        ]
        swarm.judged(swarm.push(sends))
        seen = swarm.states(peer)
        say(f"rehabilitation {wave + 1}: {seen}")
        if not any(state in OUT for state in seen):
            return {"rehabilitated": 1.0, "honest_updates_to_return": (wave + 1) * each}
    back = sum(state not in OUT for state in seen) / len(seen)
    return {"rehabilitated": round(back, 3), "honest_updates_to_return": None}
