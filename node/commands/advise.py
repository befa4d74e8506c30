"""What fits: `profile` measures this device, `recommend` picks a model for it and a task."""

import re
from collections.abc import Iterable

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, finish, run_job
from node.commands.pull import pulled
from node.commands.session import Session, verb
from p2pllm.assistant.amounts import memory
from p2pllm.assistant.dialogue import licences_of
from p2pllm.assistant.reading import normal
from p2pllm.assistant.text import plain
from p2pllm.errors import LocalError

SEARCH_S = 60.0  # slow peers of the DHT; the daemon's own limit is lower


@verb(name="profile")
@click.option("--calibrate", is_flag=True, help="Measure its speed now: some ten seconds.")
def profile(session: Session, calibrate: bool) -> None:
    """What this device is: memory, cores, accelerators, and its calibration with its date."""
    if calibrate:
        session.flags.long = True  # it reports events, so an error is one too
        run_job(session, {"kind": "calibrate"}, profile_lines, "profile")
        return
    session.show(session.client().get("profile"), "p2pllm.profile/1", profile_lines)


def profile_lines(document: Document) -> list[str]:
    """A profile for people."""
    found = document.get("calibration") or {}
    limit = document.get("cgroup_bytes") or 0
    head = {
        "system": document.get("system"),
        "processor": document.get("processor"),
        "cores": document.get("cores"),
        "memory": render.size(document.get("memory_bytes")),
        "free": render.size(document.get("free_bytes")),
        "cgroup": render.size(limit) if limit else None,
        "accelerators": ", ".join(document.get("accelerators") or []) or None,
        "calibrated": render.moment(found.get("measured_at")) if found else "no",
    }
    if not found:
        return [*render.fields(head), "next: p2pllm profile --calibrate"]
    streamed = 1 / max(float(found["seconds"][0]), 1e-15)
    head |= {
        "weights": f"{streamed / 1e9:.1f} GB/s with {found.get('threads')} threads",
        "layer": f"{float(found['seconds'][2]) * 1e6:.0f} us",
        "prompt": f"{float(found['prompt_flops']) / 1e9:.0f} GFLOP/s",
        "spread": render.signed_percent(float(found.get("spread") or 0)),
    }
    return render.fields(head)


@verb(name="recommend")
@click.argument("task")
@click.option("--lang", required=True, help="Language, such as en.")
@click.option("--domain", default="", help="Domain, such as medical.")
@click.option("--sub", default="", help="Sub-domain, such as cardiology.")
@click.option("--max-mem", metavar="SIZE", help="Memory it may take, such as 2GB [what is free].")
@click.option("--min-speed", type=click.FloatRange(0), default=0.0, help="Tokens a second.")
@click.option("--licence", "licences", metavar="SPDX", multiple=True, help="Only these licences.")
@click.option("--context", type=click.IntRange(16), default=512, help="Tokens it must hold [512].")
@click.option("--examples", metavar="PATH", multiple=True, help="Measure the picks on this text.")
@click.option("--explain", is_flag=True, help="Say what was refused and what would help.")
@click.option("--pull", is_flag=True, help="Fetch the first pick.")
@click.pass_context
def recommend(ctx: click.Context, /, session: Session, task: str, **given: object) -> None:
    """Which models fit this device and a task best: at most three, each with its reasons.

    Ends with status 4 where none fits.
    """
    body = _body(task, given)
    document = advise(session, body)
    if examples := given["examples"]:
        assert isinstance(examples, tuple)
        if measured := _bake(session, document, absolute(examples)):
            document = advise(session, {**body, "measured": measured})
    explain = bool(given["explain"])
    session.show(
        document,
        "p2pllm.recommend/1",
        lambda d: advice_lines(d, explain),
        lambda d: [str(one["ref"]) for one in d["picks"]],
    )
    if not document["picks"]:
        ctx.exit(4)
    if given["pull"]:
        fetch(session, document)


def advise(session: Session, body: Document) -> Document:
    """What the daemon recommends."""
    return session.client(SEARCH_S).post("recommend", body)


def fetch(session: Session, document: Document) -> None:
    """Clone the first pick of an answer."""
    body = {"kind": "pull", "ref": document["picks"][0]["ref"]}
    run_job(session, body, lambda result: pulled(result, dry_run=False))


def _body(task: str, given: dict[str, object]) -> Document:
    known = ("lang", "min_speed", "context")
    domain, sub = (normal_word(name, str(given[name])) for name in ("domain", "sub"))
    licences = given["licences"]
    assert isinstance(licences, tuple)
    named = [spdx for one in licences for spdx in licences_of(str(normal("licence", one)))]
    body = {name: given[name] for name in known} | {"domain": domain, "sub": sub}
    body |= {"task": str(normal("task", task))[:100], "licences": named + list(licences)}
    if given["max_mem"]:
        body["max_memory_bytes"] = bytes_of(str(given["max_mem"]))
    return body


def normal_word(slot: str, word: str) -> str:
    """A domain or sub-domain as places spell it; what no list knows stays as it was typed."""
    if not word or re.fullmatch(r"[a-z0-9-]{1,32}", word):
        return word
    return str(normal(slot, word))


def bytes_of(text: str) -> int:
    """Bytes out of '2GB', '512 MiB'; LocalError E0204 for anything else."""
    found = list(memory(plain(text)))
    if found:
        return round(found[0].value)
    if text.isdigit():
        return int(text)
    raise LocalError("E0204", f"not a size: {text[:40]!r}", fix=["write 2GB, 512MiB or bytes"])


def _bake(session: Session, document: Document, data: list[str]) -> dict[str, float]:
    """Bits a byte of the picks that are here, on the user's own text: first a little, then more."""
    here = [one for one in document["picks"] if one["here"]]
    measured: dict[str, float] = {}
    for tokens in (1024, 4096):
        for one in here:
            body = {"kind": "eval", "ref": one["ref"], "data": data, "split": "all"}
            result = finish(session, {**body, "max_tokens": tokens})
            measured[one["manifest"]] = float(result["bits_per_byte"])
        here = sorted(here, key=lambda one: measured[one["manifest"]])[: (len(here) + 1) // 2]
    return measured


def advice_lines(document: Document, explain: bool) -> Iterable[str]:
    """Picks with their reasons; with `explain`, what was refused and would help."""
    picks = document.get("picks") or []
    if not picks:
        yield f"none of {document.get('considered')} models fits"
    for number, one in enumerate(picks, 1):
        yield f"{number}. {render.clean(one.get('ref'))}"
        yield from (f"     {render.clean(line)}" for line in one.get("reasons") or [])
    if explain or not picks:
        yield from _explained(document)
    if not document.get("complete", True):
        yield "not every part of the index answered: there may be more"
    if picks and not picks[0].get("here"):
        yield f"next: p2pllm pull {render.clean(picks[0].get('ref'))}"


def _explained(document: Document) -> Iterable[str]:
    refused = document.get("refused") or {}
    told = ", ".join(f"{count} by {render.clean(name)}" for name, count in refused.items())
    yield f"considered {document.get('considered')}; refused: {told or 'none'}"
    yield f"the limit that costs most: {render.clean(document.get('binding'))}"
    for miss in document.get("helps") or []:
        need, ref = render.clean(miss.get("needs")), render.clean(miss.get("ref"))
        yield f"  {render.clean(miss.get('limit'))}: {need} would allow {ref}"
