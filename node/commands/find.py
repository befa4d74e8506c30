"""Finding models: `search` asks the DHT, `show` tells all about one."""

import re

import click

from node import render
from node.client import Client, Document
from node.commands.models import gain
from node.commands.session import Session, complete_refs, verb

SEARCH_S = 60.0  # a search waits for slow peers of the DHT; the daemon's own limit is lower


@verb(name="search")
@click.argument("text", required=False)
@click.option("--lang", help="Language, such as en.")
@click.option("--domain", help="Domain, such as medical.")
@click.option("--sub", help="Sub-domain, such as cardiology.")
@click.option("--size", help="'<200MB', '200MB-2GB', '>1GB': what a pull would fetch at most.")
@click.option("--kind", type=click.Choice(["base", "adapter"]), help="Only these.")
@click.option("--base", metavar="REF", shell_complete=complete_refs, help="Adapters that fit it.")
@click.option("--licence", metavar="SPDX", help="Only this licence.")
@click.option("--limit", type=click.IntRange(1), help="At most so many [100]; 1000 are the most.")
@click.pass_context
def search(ctx: click.Context, /, session: Session, base: str | None, **filters: object) -> None:
    """Find models in the swarm; every record is verified here.

    SIZE is what the model takes with its base, FETCH without it. GAIN is how much lower its
    publisher measured the loss than its base's, in nats a token: a claim, until you measure it.
    Ends with status 4 where nothing matches.
    """
    client = session.client(SEARCH_S)
    query = {key: value for key, value in filters.items() if value is not None}
    if base:
        query["model"] = _model_id(client, base)
    document = client.post("search", query)
    session.show(
        document, "p2pllm.search/1", _found, lambda d: [str(one["ref"]) for one in d["results"]]
    )
    if not document.get("complete", True):
        session.say("not every part of the index answered: there may be more")
    if not document["results"]:
        session.say("nothing matches; try fewer filters, and p2pllm status for how many peers")
        ctx.exit(4)


def _model_id(client: Client, base: str) -> object:
    if re.fullmatch(r"[0-9a-f]{64}", base):
        return base
    return client.get("models/show", ref=base)["model"]


def _found(document: Document) -> list[str]:
    if not document["results"]:
        return []
    heads = ("MODEL", "KIND", "SIZE", "FETCH", "GAIN", "LICENCE", "PEERS", "HERE")
    rows = [
        (
            str(one["ref"]),
            one.get("kind"),
            render.size(one.get("size_bytes")),
            render.size(one.get("download_bytes")),
            gain(one.get("gain")),
            one.get("licence"),
            str(len(one.get("peers", []))),
            "yes" if one.get("here") else "no",
        )
        for one in document["results"]
    ]
    return render.table(heads, rows)


@verb(name="show")
@click.argument("ref", shell_complete=complete_refs)
@click.option("--providers", is_flag=True, help="Ask the DHT who hands it out, too.")
def show(session: Session, ref: str, providers: bool) -> None:
    """All about one model: from what, by whom, under which licence, which files."""
    client = session.client(SEARCH_S)
    document = client.get("models/show", ref=ref)
    if providers:
        document["providers"] = client.get("models/providers", ref=ref)["peers"]
    session.show(document, "p2pllm.model/1", model_lines, lambda d: [str(d["ref"])])


def model_lines(model: Document) -> list[str]:
    """The description of a model for people."""
    lora = model.get("lora") or {}
    head = {
        "model": model.get("ref"),
        "kind": model.get("kind"),
        "manifest": model.get("manifest"),
        "weights of base" if model.get("kind") == "adapter" else "model id": model.get("model"),
        "licence": model.get("licence"),
        "by": model.get("by"),
        "made": render.moment(model.get("created_at")),
        "state": model.get("state"),
        "size": render.size(model.get("size_bytes")),
        "base params": render.number(model.get("params")),
        "lora": lora_line(lora) if lora else None,
        "tag": model.get("tag"),
        "parents": ", ".join(model.get("parents") or []),
        "directory": model.get("path"),
        "providers": ", ".join(str(p) for p in model.get("providers") or []),
    }
    lines = render.fields(head)
    if report := model.get("report"):
        lines += ["measured by its publisher", *("  " + line for line in _report(report))]
    if files := model.get("files"):
        rows = [
            (str(f.get("path")), render.size(f.get("size")), str(f.get("blake3"))) for f in files
        ]
        lines += [
            "files",
            *("  " + line for line in render.table(("NAME", "SIZE", "BLAKE3"), rows)),
        ]
    if text := model.get("description"):
        lines += ["description", *("  " + render.clean(part) for part in str(text).split("\n"))]
    return lines


def lora_line(lora: Document) -> str:
    """A LoRA in a line."""
    targets = ", ".join(str(target) for target in lora.get("targets") or [])
    return f"rank {lora.get('rank')}, alpha {lora.get('alpha')}, on {targets}"


def _report(report: Document) -> list[str]:
    return render.fields(render.flat(report))
