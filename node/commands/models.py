"""The models of this node: list them, remove some."""

from collections.abc import Sequence

import click

from node import render
from node.client import DaemonError, Document
from node.commands.session import Session, complete_refs, verb


@verb(name="ls")
@click.option("--kind", type=click.Choice(["base", "adapter"]), help="Only these.")
def ls(session: Session, kind: str | None) -> None:
    """The models of this node."""
    document = session.client().get("models")
    models = [model for model in document["models"] if kind in (None, model["kind"])]
    session.show(
        {**document, "models": models},
        "p2pllm.models/1",
        lambda d: (
            model_rows(d["models"]) or ["no models; p2pllm base import smollm2, or p2pllm search"]
        ),
        lambda d: [str(model["ref"]) for model in d["models"]],
    )


def model_rows(models: Sequence[Document]) -> list[str]:
    """A table of models, none for none."""
    heads = ("MODEL", "KIND", "SIZE", "PARAMS", "GAIN", "LICENCE", "STATE", "MADE")
    rows = [
        (
            str(model["ref"]),
            model.get("kind"),
            render.size(model.get("size_bytes")),
            render.number(model.get("params")),
            gain(model.get("gain")),
            model.get("licence"),
            model.get("state"),
            render.moment(model.get("created_at")),
        )
        for model in models
    ]
    return render.table(heads, rows) if rows else []


def gain(nats: float | None) -> str:
    """How much lower the publisher's held-out loss is than the base's, in nats a token."""
    return "" if nats is None else f"{nats:+.3f}"


@verb(name="rm")
@click.argument("refs", metavar="REF...", nargs=-1, required=True, shell_complete=complete_refs)
def rm(session: Session, refs: tuple[str, ...]) -> None:
    """Remove models from this node, and withdraw them from the swarm.

    Copies that peers have already fetched stay with them.
    """
    if session.may_ask and not session.flags.yes:
        names = ", ".join(render.clean(ref) for ref in refs)
        if not click.confirm(f"Remove {names} from this node?", err=True):
            session.say("nothing removed")
            return
    client = session.client()
    removed: list[object] = []
    withdrawn, freed = False, 0
    failed: dict[str, DaemonError] = {}
    for ref in refs:
        try:
            answer = client.delete("models", ref=ref)
        except DaemonError as error:
            failed[ref] = error
            if len(refs) > 1:
                session.say(f"{render.clean(ref)}: {render.clean(error.message)}")
            continue
        removed += answer["removed"]
        withdrawn = withdrawn or bool(answer.get("withdrawn"))
        freed += int(answer.get("freed_bytes") or 0)
    first = next(iter(failed.values()), None)
    if first and not removed:
        raise first
    document: Document = {"removed": removed, "withdrawn": withdrawn, "freed_bytes": freed}
    document["failed"] = [
        {"ref": ref, "code": error.code, "message": error.message, "fix": list(error.fix)}
        for ref, error in failed.items()
    ]
    _report(session, document)
    if first and session.json:  # which holds the error: stdout has one document
        click.get_current_context().exit(first.exit or int(first.code[1:3]))
    if first:
        raise first


def _report(session: Session, document: Document) -> None:
    freed = render.size(document["freed_bytes"])
    tail = ["withdrawn from the swarm"] if document["withdrawn"] else []
    session.show(
        document,
        "p2pllm.removed/1",
        lambda d: [*(f"removed {render.clean(r)}" for r in d["removed"]), *tail, f"{freed} freed"],
        lambda d: [str(ref) for ref in d["removed"]],
    )
