"""Places: the tree of them, and those this node follows: hears, judges, serves, applies."""

import click

from node import render
from node.client import Document
from node.commands.session import Session, verb

TREE_S = 60.0  # the tree is read out of the DHT


@verb(name="follow")
@click.argument("place", required=False)
@click.option("--auto/--no-auto", default=None, help="Apply accepted updates without asking.")
@click.option("--rollback", metavar="ID", help="Undo an applied update, for good.")
@click.option("--stop", is_flag=True, help="No more.")
def follow(
    session: Session, place: str | None, auto: bool | None, rollback: str | None, stop: bool
) -> None:
    """Follow a place: hear its updates, judge them, serve what is good. Without one, list them.

    Updates are judged with text of your own: p2pllm trust probes add PLACE FILE. With --auto what
    this node accepted, or a keeper you trust, is fetched and applied, each update once. A keeper
    is trusted when it proved itself here, or you say so: p2pllm trust set PEER trusted.
    """
    if place is None:
        if rollback or stop or auto is not None:
            raise click.UsageError("name the place")
        document = session.client().get("follow")
    else:
        body: Document = {"place": place, "follow": not stop}
        body |= {} if auto is None else {"auto": auto}
        body |= {"back": rollback} if rollback else {}
        document = session.client().post("follow", body)
    session.show(document, "p2pllm.follow/1", _lines, lambda d: [str(one) for one in d["places"]])


def _lines(document: Document) -> list[str]:
    lines = []
    for one in document.get("following") or []:
        how = "applies by itself" if one["auto"] else "asks before it applies"
        counts = f"{len(one['keepers'])} keepers, {len(one['applied'])} applied"
        waiting = f", {len(one['waiting'])} waiting" if one["waiting"] else ""
        lines.append(f"{render.clean(one['place'])}: {how}; {counts}{waiting}")
        for update in one["applied"]:
            share = f"weight {update['weight']:.2f}, {render.moment(update['at'])}"
            lines.append(f"  {render.clean(update['manifest'])[:16]}  {share}")
    return lines or ["no place is followed; p2pllm follow en/medical"]


@verb(name="tree")
@click.argument("place", required=False)
def tree(session: Session, place: str | None) -> None:
    """The places of the swarm under one master, or those below PLACE: sizes, trust, heads, gain.

    Put together here, from what the DHT says now and the heads this node heard; without a network
    from this node's own models and those heads. A line that ends in ! stands on an edge where size
    or cost rises on the way down.
    """
    document = session.client(TREE_S).get("tree", place=place)
    session.show(
        document, "p2pllm.tree/1", _tree_lines, lambda d: [str(p["place"]) for p in d["places"]]
    )
    if alone := document.get("isolated"):
        session.say(f"this node is isolated: {render.clean(alone)}")
        session.say("shown is what it holds, and the heads it heard before")
    elif not document.get("complete", True):
        session.say("not every part of the index answered: there may be more")


def _tree_lines(document: Document) -> list[str]:
    heads = ("PLACE", "MODELS", "PARAMS", "SIZE", "TRUST", "HEAD", "KEEPERS", "GAIN", "UPDATED", "")
    rows = [_row(one, str(document["top"])) for one in document["places"]]
    return render.table(heads, rows) if rows else ["no place of the swarm is there"]


def _row(one: Document, top: str) -> tuple[str, ...]:
    place, depth = str(one["place"]), ("master", "language", "domain", "sub-domain")
    indent = "" if place == top else "  " * depth.index(one["level"])
    agree = sum(bool(keeper["agrees"]) for keeper in one["keepers"])
    gain = one["gain"]
    return (
        indent + render.clean(place),
        str(len(one["models"])),
        render.number(one["params"]) if one["params"] else "-",
        render.size(one["size"]) if one["size"] else "-",
        f"{one['trust']:.2f}",
        str(len(one["head"])),
        f"{agree}/{len(one['keepers'])} agree" if one["keepers"] else "-",
        f"{gain:.3f}" if gain is not None else "-",
        render.moment(one["updated_at"]) if one["updated_at"] else "-",
        "!" if one["faults"] else "",
    )
