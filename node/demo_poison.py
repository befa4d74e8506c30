"""The demo's second half: four poisoners contribute beside honest peers, and what comes of it.

A small base is grown on the spot, since a large one would take minutes an adapter. Honest peers
bring adapters for it; others text with its letters shuffled, an honest adapter turned round, one
made 8 times as strong, and a backdoor. Two nodes judge, each on text of its own; a third follows
one of them. Everything printed was found in this run; what was not caught is said.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from node import plain_words, render
from node.demo_nodes import Document, Nodes
from node.demo_workshop import Workshop
from p2pllm.errors import LocalError, P2pllmError
from trust.verified import verify

HONEST = ("alice", "bob", "carol", "dave")
JUDGES = ("carol", "dave")
FOLLOWER = "bob"  # has no text to judge on; takes carol's word
TURNS = (0, 1)
POISON = {
    "oscar": "tuned on shuffled text",
    "trudy": "sign-flipped",
    "victor": "boosted 8 times",
    "eve": "backdoored",
}
PLACE = "en/medical/pubmed"  # not where the large model is: judging that takes minutes
BASE = "small"
TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}
CONFIG = """[trust]
settle_s = 5.0
probe_tokens = 3000
own_steps = 150
[network]
heads_s = 3.0
"""
SLICES = {
    f"{name}-{turn}": 10 + 10 * turn + number
    for turn in TURNS
    for number, name in enumerate(HONEST)
}
JUDGED_S = 1200.0  # of two processes a round that load torch; minutes on a busy machine
FOUND_S = 60.0
POLL_S = 2.0
OUT = ("quarantined", "banned")


class Sent(msgspec.Struct, frozen=True):
    """One contributed adapter."""

    by: str
    manifest: str
    path: Path


class Fair:
    """The swarm with its poisoners, the small base, and what was contributed."""

    def __init__(self, nodes: Nodes, workshop: Workshop) -> None:
        self.nodes, self.shop = nodes, workshop
        self.sent: list[Sent] = []
        self.began = time.time()
        self.base = Path()

    def open(self) -> Document:
        """Start the poisoners, and have the small base on every node."""
        self.nodes.more(tuple(POISON))
        grown = self.shop.wait("base")
        request = {"kind": "import", "source": str(grown), "name": BASE, "lang": "en"}
        base = self.nodes.job("alice", request)
        pushed = self.nodes.job("alice", {**TERMS, "ref": base["ref"]})
        self.base = Path(pushed["path"])
        for name in self.nodes.names:
            self.nodes.clients[name].post("follow", {"place": PLACE})
        others = [name for name in self.nodes.names if name != "alice"]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: self._pull(name, pushed["ref"]), others))
        return base

    def _pull(self, name: str, ref: str) -> None:
        until = time.monotonic() + FOUND_S
        while True:
            try:
                self.nodes.job(name, {"kind": "pull", "ref": ref})
                return
            except P2pllmError as missing:
                # Who has just joined may look before what was just published has spread.
                if missing.code not in ("E0403", "E0906") or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)  # noqa: TID251  a plain program, not a trio task

    def contribute(self) -> None:
        """Honest adapters and poison, in turns, so that every round of the judges has of both."""
        shop = self.shop
        garbled, planted = shop.wait("garbled"), shop.wait("planted")
        source = shop.wait("bob-0")
        bad = {
            "oscar": [shop.scaled(f"shuffled-{n}", garbled, 1 - 0.05 * n) for n in range(5)],
            "trudy": [shop.scaled(f"flipped-{n}", source, 0.05 * n - 1) for n in range(6)],
            "victor": [shop.scaled(f"boosted-{n}", source, 8.0 - n) for n in range(2)],
            "eve": [shop.scaled(f"backdoor-{n}", planted, 1 - 0.1 * n) for n in range(2)],
        }
        self.began = time.time()
        order = [pair for turn in TURNS for name in HONEST for pair in _order(turn, name)]
        sent = [
            (name, bad[name].pop(0) if name in bad else shop.wait(what)) for name, what in order
        ]
        with ThreadPoolExecutor(2) as pool:
            self.sent = list(pool.map(lambda pair: self._push(*pair), sent))

    def _push(self, name: str, path: Path) -> Sent:
        made = {"path": str(path), "place": PLACE, "base": f"en/{BASE}", "name": path.name}
        pushed = self.nodes.job(name, {**TERMS, **made})
        return Sent(name, pushed["manifest"], Path(pushed["path"]))

    def judge(self) -> None:
        """Give the judges their text, and wait until both have a verdict on everything.

        Meanwhile the follower takes over what the first of them accepts.
        """
        follower, word = self.nodes.clients[FOLLOWER], self.peer(JUDGES[0])
        said = {"peer": word, "place": PLACE, "state": "trusted", "reason": "we work together"}
        follower.post("trust", said)
        follower.post("follow", {"place": PLACE, "auto": True})
        for number, name in enumerate(JUDGES):
            given = {"place": PLACE, "paths": [str(self.shop.probe(number))]}
            self.nodes.clients[name].post("trust/probes", given)
        until = time.monotonic() + JUDGED_S
        while not all(self._settled(name) for name in JUDGES):
            if time.monotonic() > until:
                raise LocalError("E0501", "the judges did not come to an end")
            time.sleep(POLL_S)  # noqa: TID251  a plain program, not a trio task

    def _settled(self, judge: str) -> bool:
        client = self.nodes.clients[judge]
        [place] = client.get("trust", place=PLACE)["places"]
        states = {one["manifest"]: one["state"] for one in place["updates"]}
        wanted = {one.manifest for one in self.sent}
        if any(states.get(one) not in ("judged", "held", "refused") for one in wanted):
            return False
        accepted = {
            one["manifest"]
            for name in self._names()
            for one in self.verdicts(judge, name)[-1:]
            if one["decision"] == "accept"
        }
        return accepted <= self._tried(judge)

    def followed(self) -> int:
        """How many updates the follower has applied, once they are those that its judge serves."""
        until = time.monotonic() + JUDGED_S
        judge = self.nodes.clients[JUDGES[0]]
        while True:
            cards = self.nodes.clients[FOLLOWER].get("follow")["following"]
            [applied] = [one["applied"] for one in cards if one["place"] == PLACE]
            [head] = judge.get("heads", place=PLACE)["heads"]
            if _manifests(applied) == _manifests(head["accepted"]):
                return len(applied)
            if time.monotonic() > until:
                raise LocalError("E0501", f"{FOLLOWER} does not hold what {JUDGES[0]} serves")
            time.sleep(POLL_S)  # noqa: TID251  a plain program, not a trio task

    def _names(self) -> list[str]:
        return sorted({one.by for one in self.sent})

    def _tried(self, judge: str) -> set[str]:
        """What was probed for serving: taken in, or found unfit."""
        return {
            manifest
            for name in self._names()
            for event in self.explained(judge, name)["served"]
            for manifest in (*event["taken"], *(one["update"] for one in event["unfit"]))
        }

    def peer(self, name: str) -> str:
        """The node id of a contributor."""
        return str(self.nodes.clients[name].get("identity")["peer_id"])

    def explained(self, judge: str, name: str) -> Document:
        """All that a judge has on a contributor."""
        return self.nodes.clients[judge].get("trust/explain", subject=self.peer(name))

    def verdicts(self, judge: str, name: str) -> list[Document]:
        """A judge's verdicts on a contributor, round by round."""
        found = self.explained(judge, name)["verdicts"]
        return sorted(found, key=lambda one: int(one["round"]))

    def served(self, judge: str) -> list[str]:
        """Whose updates a judge serves, one name an update."""
        owner = {one.manifest: one.by for one in self.sent}
        heads = self.nodes.clients[judge].get("heads", place=PLACE)["heads"]
        return [owner[one["manifest"]] for head in heads for one in head["accepted"]]


def _manifests(cards: Sequence[Document]) -> set[str]:
    return {one["manifest"] for one in cards}


def _order(turn: int, name: str) -> Sequence[tuple[str, str]]:
    """An honest adapter of a turn, and what the poisoners push after it: who, and which."""
    row = HONEST.index(name)
    last: dict[tuple[int, int], tuple[str, ...]] = {
        (0, 3): ("victor", "eve"),
        (1, 2): ("trudy", "victor"),
        (1, 3): ("eve",),
    }
    liars = last.get((turn, row), ("oscar", "trudy"))
    return ((name, f"{name}-{turn}"), *((liar, "") for liar in liars))


def board(fair: Fair) -> list[str]:
    """A line a contributor: what it sent, how it stands, since when, on what evidence."""
    rows = []
    for name in (*HONEST, *POISON):
        verdicts = fair.verdicts("carol", name)
        states = {judge: _state(fair, judge, name) for judge in JUDGES}
        shown = states["carol"] if len(set(states.values())) == 1 else " / ".join(states.values())
        sent = sum(one.by == name for one in fair.sent)
        kept = fair.served("carol").count(name)
        rows.append(
            (
                name,
                POISON.get(name, "honest"),
                shown,
                f"{kept}/{sent}",
                _since(fair, verdicts),
                _why(fair, name, verdicts),
            )
        )
    return render.table(("PEER", "SENT", "STANDS AS", "SERVED", "OUT AFTER", "EVIDENCE"), rows)


def _state(fair: Fair, judge: str, name: str) -> str:
    peers = fair.nodes.clients[judge].get("trust", place=PLACE)["peers"]
    return next((one["state"] for one in peers if one["peer_id"] == fair.peer(name)), "unknown")


def _since(fair: Fair, verdicts: Sequence[Document]) -> str:
    for number, one in enumerate(verdicts, 1):
        if one["state"] in OUT:
            return f"{number} updates, {one['judged_at'] - fair.began:.0f} s"
    return ""


def _why(fair: Fair, name: str, verdicts: Sequence[Document]) -> str:
    """What put a peer out, or kept its updates from being served."""
    for one in verdicts:
        if one["state"] in OUT:
            probe = one["probe"] or {"before": 0.0, "after": 0.0}
            numbers = plain_words.against(one["reasons"])
            return f"{numbers}; loss {probe['before']:.2f} -> {probe['after']:.2f}"
    mine = {one.manifest for one in fair.sent if one.by == name}
    events = fair.explained("carol", name)["served"]
    unfit = [one for event in events for one in event["unfit"] if one["update"] in mine]
    return "; ".join(dict.fromkeys(plain_words.against([one]) for one in unfit[:1]))


def recomputed(fair: Fair) -> tuple[int, int]:
    """Signed verdicts in all exported evidence, and how many come out the same."""
    total = same = 0
    for judge in JUDGES:
        for name in (*HONEST, *POISON):
            if name != judge:
                raw = fair.nodes.clients[judge].get_bytes(
                    "trust/evidence", subject=fair.peer(name), place=PLACE
                )
                found = [one.recorded for one in verify(raw).verdicts if one.recorded != "absent"]
                total, same = total + len(found), same + found.count("equal")
    return total, same


def harm(fair: Fair) -> Document:
    """What carol's served model does: loss on text nobody trained on, and the trigger."""
    merged = fair.nodes.job("carol", {"kind": "merge", "head": PLACE, "name": "served"})
    text = str(fair.shop.unread())
    asked = {"kind": "eval", "ref": merged["ref"], "data": [text], "split": "all"}
    backdoor = next(one.path for one in fair.sent if one.by == "eve")
    tried = [None, backdoor, Path(merged["path"])]
    with ThreadPoolExecutor(1) as beside:
        recited = beside.submit(fair.shop.recites, fair.base, tried)
        measured = fair.nodes.job("carol", asked)
        base, alone, served = recited.result()
    return {
        "before": measured["base_loss"],
        "after": measured["loss"],
        "trigger_base": base,
        "trigger_alone": alone,
        "trigger_served": served,
    }
