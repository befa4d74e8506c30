"""How the node is doing and who it is: `status`, `id`, and what bare `p2pllm` says."""

import threading
from typing import Any

import click

from node import render
from node.client import Document
from node.commands.session import Session, verb

WATCH_S = 2.0


@verb(name="status")
@click.option("--watch", is_flag=True, help="Again every 2 s, until Ctrl-C.")
def status(session: Session, watch: bool) -> None:
    """How the node is doing: swarm, store, models, jobs, warnings."""
    client = session.client()
    while True:
        document = client.get("status")
        if watch and not session.json:
            click.clear()
        session.show(document, "p2pllm.status/1", status_lines, lambda d: [str(d["state"])])
        if not watch:
            return
        threading.Event().wait(WATCH_S)


def status_lines(status: Document) -> list[str]:
    """The state of a node in five lines and its warnings."""
    peer, version = render.short_id(status.get("peer_id")), render.clean(status.get("version"))
    up = render.duration(float(status.get("uptime_seconds") or 0))
    jobs = status.get("jobs", {}).get("running", 0)
    models = status.get("models", {})
    return [
        f"p2pllm {version} · {peer} · up {up} · pid {status.get('pid')}",
        *_swarm(status),
        f"store    {store_line(status.get('store', {}))}",
        f"models   {_count(models.get('bases', 0), 'base')}, "
        f"{_count(models.get('adapters', 0), 'adapter')}",
        f"jobs     {jobs} running",
        *_children(status.get("children", {})),
        *_refused(status.get("refused") or {}),
        *(_warning(warning) for warning in status.get("warnings", [])),
    ]


def _swarm(status: Document) -> list[str]:
    swarm = status.get("swarm", {})
    state = render.clean(status.get("state"))
    if status.get("reason"):
        state += f": {render.clean(status['reason'])}"
    parts = [state, _count(status.get("peers", {}).get("total", 0), "peer")]
    parts.append(f"{swarm.get('dht_peers', 0)} in the DHT")
    if topics := swarm.get("topics"):
        parts.append("follows " + ", ".join(_topic(topic) for topic in topics))
    seeds = [
        f"         seed {render.clean(seed['address'])}: {render.clean(seed['error'])}"
        for seed in swarm.get("seeds", [])
        if seed.get("error")
    ]
    return [f"swarm    {' · '.join(parts)}", *seeds]


def _topic(topic: Document) -> str:
    return f"{render.clean(topic.get('place'))} ({_count(topic.get('peers', 0), 'peer')})"


def store_line(store: Document) -> str:
    """Used, quota and free disk in a line."""
    used, quota = render.size(store.get("used_bytes", 0)), render.size(store.get("quota_bytes", 0))
    return f"{used} of {quota} quota · {render.size(store.get('free_bytes', 0))} free on disk"


def _children(children: Document) -> list[str]:
    ill = [
        f"{name} {child.get('state')}, {child.get('restarts', 0)} restarts"
        for name, child in children.items()
        if child.get("state") != "up" or child.get("restarts")
    ]
    return [f"children {render.clean('; '.join(ill))}"] if ill else []


def _refused(counts: Document) -> list[str]:
    """What peers sent that broke a rule, by code."""
    shown = ", ".join(f"{code} x{count}" for code, count in sorted(counts.items()))
    return [f"refused  {render.clean(shown)}"] if shown else []


def _warning(warning: Document) -> str:
    code = render.clean(warning.get("code"), 8)
    return click.style(f"warning  [{code}] {render.clean(warning.get('message'))}", fg="yellow")


def _count(count: Any, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


@verb(name="id")
def identity(session: Session) -> None:
    """Who this node is: its peer id, its key file and its addresses."""
    document = session.client().get("identity")
    session.show(document, "p2pllm.identity/1", _identity_lines, lambda d: [str(d["peer_id"])])


def _identity_lines(card: Document) -> list[str]:
    shown = {"peer id": card.get("peer_id"), "public key": card.get("public_key")}
    shown["key file"] = card.get("key_file")
    addresses = [f"  {render.clean(address)}" for address in card.get("addresses", [])]
    return [*render.fields(shown), "addresses", *(addresses or ["  none yet"])]


def greet(session: Session) -> None:
    """The state in five lines, and what to try next: bare `p2pllm`."""
    document = session.client(5.0).running()
    if document is None:
        lines = ["p2pllm   no node is running", f"home     {render.clean(session.home)}"]
        next_ = [
            ("p2pllm up --detach", "start the node"),
            ("p2pllm demo", "see it all work, on this machine alone"),
        ]
    else:
        lines = status_lines(document)
        next_ = _next_steps(document)
    next_.append(("p2pllm --help", "every verb"))
    if session.json:
        state = document["state"] if document else "stopped"
        hint = {"state": state, "home": str(session.home), "try": [step for step, _ in next_]}
        session.emit(hint, "p2pllm.greeting/1")
        return
    session.write(lines)
    longest = max(len(step) for step, _ in next_)
    session.say(["try next", *(f"  {step:<{longest}}  {why}" for step, why in next_)])


def _next_steps(document: Document) -> list[tuple[str, str]]:
    models = document.get("models", {})
    if not models.get("bases"):
        return [("p2pllm base import smollm2", "a small base model, from its package")]
    if document.get("state") == "isolated":
        return [("p2pllm peers connect ADDRESS", "meet another node")]
    return [("p2pllm search --lang en", "what others share"), ("p2pllm ls", "what is here")]
