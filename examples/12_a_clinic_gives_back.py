"""A clinic asks, clones, tunes and gives back, and a parent decides: the papers' healthcare story.

Run: python examples/12_a_clinic_gives_back.py     (SmolLM2-135M, minutes; --short: a tiny base)
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from node.demo import write_text
from node.demo_nodes import Document, Nodes, running
from p2pllm import corpus
from p2pllm.learn.seedling import grow

PLACE, NAMES = "en/medical", ("hospital", "ward", "clinic")  # the hospital keeps the place
CONFIG = "[trust]\nsettle_s = 1.0\nprobe_tokens = 1500\nown_steps = 25\n[network]\nheads_s = 1.0\n"
WISH = "summarise medical notes in English on our clinic tablet with 2 GB of memory"
TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}


def wait(look: Callable[[], list[Document]]) -> Document:
    """The first of what there is, once there is something; a judge may take minutes."""
    until = time.monotonic() + 900
    while not (found := look()):
        threading.Event().wait(0.5)
        assert time.monotonic() < until, "it did not come to an end"
    return found[0]


def run(nodes: Nodes, source: str, tuning: Document) -> None:
    """What the papers tell, step by step; each ends the program if it is not so."""
    hospital, ward = nodes.clients["hospital"], nodes.clients["ward"]
    base = nodes.job("hospital", {"kind": "import", "source": source, "name": "base", "lang": "en"})
    nodes.job("hospital", {**TERMS, "ref": base["ref"]})
    hospital.post("trust/probes", {"place": PLACE, "paths": [f"{nodes.folder}/hospital.txt"]})
    said = {"place": PLACE, "state": "trusted", "reason": "we work there"}
    ward.post("trust", {**said, "peer": hospital.get("identity")["peer_id"]})
    ward.post("follow", {"place": PLACE, "auto": True})

    device = nodes.ask("clinic", "profile")
    print(f"device    {device['cores']:g} cores, {device['memory_bytes'] / 1e9:.0f} GB of memory")
    pick = nodes.ask("clinic", "ask", WISH)["pick"]
    print(f"ask       {WISH}\npick      {pick['ref']}, {pick['memory_bytes'] / 1e6:.0f} MB at work")
    clone = nodes.job("clinic", {"kind": "pull", "ref": pick["ref"]})
    print(f"clone     {clone['fetched'][0]['chunks']} chunks, each verified")
    tuning |= {"kind": "tune", "base": clone["ref"], "place": PLACE, "name": "notes"}
    tuned = nodes.job("clinic", {**tuning, "data": [f"{nodes.folder}/clinic.txt"]})
    print(f"tune      held-out loss {tuned['base_loss']:.3f} -> {tuned['loss']:.3f}")
    given = nodes.job("clinic", {**TERMS, "ref": tuned["ref"]})
    print(f"give back {given['ref']}, announced to {given['announced_to']} peers")

    told = partial(hospital.get, "trust/explain", subject=given["manifest"])
    verdict = wait(lambda: told()["verdicts"])
    print(f"judge     {verdict['decision']}; its author is on {verdict['state']}")
    gate = wait(lambda: [one for one in told()["gate"] if one["outcome"] != "hold"])
    print(f"parent    {gate['outcome']}, a gain of {gate['gain']:.4f} nats/token on its own text:")
    for check in gate["checks"]:
        print(f"          {check['code']} {check['value']:.3g} (limit {check['limit']:.3g})")
    held = wait(lambda: ward.get("follow")["following"][0]["applied"])
    assert held["manifest"] == given["manifest"]
    print("peers     the ward was told, holds it and applied it, once")


with tempfile.TemporaryDirectory(prefix="p2", dir="/tmp") as name:
    folder, short = Path(name), "--short" in sys.argv
    documents, source = corpus.read_docs([write_text(folder)]), "smollm2"
    for number, who in enumerate(NAMES):  # each its own text
        chosen = documents[number : 200 if short else 600 : 3]
        (folder / f"{who}.txt").write_text("\n\n".join(chosen))
    if short:
        backwards = [one[::-1] for one in documents[1:200:3]]  # so that there is much to learn
        source = str(grow(folder / "base", backwards, steps=60))
    tuning = {"steps": 40, "lr": 1e-2, "batch": 8, "seq": 64} if short else {"steps": 40}
    with running(folder, NAMES, PLACE, CONFIG) as nodes:
        run(nodes, source, tuning)
