"""The disk that models take: `store ls|du|gc|verify|pin|unpin`."""

import click

from node import render
from node.client import Document
from node.commands.models import model_rows
from node.commands.session import Session, complete_refs, verb, verbs
from node.commands.status import store_line

READ_ALL_S = 3600.0  # verifying 32 GB from a slow disk


@verb(name="du")
def du(session: Session) -> None:
    """How much disk the models take, of which quota."""
    document = session.client().get("store")
    session.show(document, "p2pllm.store/1", _usage, lambda d: [str(d["used_bytes"])])


def _usage(store: Document) -> list[str]:
    return [store_line(store), *render.fields(render.flat(store))]


@verb(name="ls")
def ls(session: Session) -> None:
    """What takes the disk: every model, the largest first."""
    document = session.client().get("models")
    models = sorted(document["models"], key=lambda m: -int(m.get("size_bytes") or 0))
    session.show(
        {**document, "models": models},
        "p2pllm.models/1",
        lambda d: model_rows(d["models"]) or ["no models"],
        lambda d: [str(model["manifest"]) for model in d["models"]],
    )


@verb(name="gc")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(session: Session, dry_run: bool) -> None:
    """Remove bytes that no model needs and that are not pinned."""
    document = session.client(READ_ALL_S).post("store/gc", {"dry_run": dry_run})
    session.show(
        document, "p2pllm.gc/1", _collected, lambda d: [str(one["blob"]) for one in d["removed"]]
    )


def _collected(document: Document) -> list[str]:
    removed, dry = document.get("removed") or [], document.get("dry_run")
    rows = [(str(one.get("blob")), render.size(one.get("size_bytes"))) for one in removed]
    word = "would free" if dry else "freed"
    freed = f"{word} {render.size(document.get('freed_bytes') or 0)}, {len(rows)} blobs"
    return [*(render.table(("BLOB", "SIZE"), rows) if rows else []), freed]


@verb(name="verify")
def verify(session: Session) -> None:
    """Hash every file again; what is damaged is set aside and no longer served.

    Folders of models that were changed are laid out anew.
    Ends with status 6 where something was damaged.
    """
    document = session.client(READ_ALL_S).post("store/verify")
    session.show(document, "p2pllm.verify/1", _verified)
    if not document["ok"]:
        session.say("pull what lacks bytes again, or make it again")
        click.get_current_context().exit(6)


def _verified(document: Document) -> list[str]:
    damaged = document.get("damaged") or []
    told = [f"damaged and set aside: {render.clean(blob)}" for blob in damaged]
    told += [f"lacks bytes: {render.clean(ref)}" for ref in document.get("models") or []]
    return told or ["all sound"]


@verb(name="pin")
@click.argument("ref", shell_complete=complete_refs)
def pin(session: Session, ref: str) -> None:
    """Keep a model's bytes, whatever gc is asked."""
    _pin(session, ref, True)


@verb(name="unpin")
@click.argument("ref", shell_complete=complete_refs)
def unpin(session: Session, ref: str) -> None:
    """No longer keep a model's bytes."""
    _pin(session, ref, False)


def _pin(session: Session, ref: str, wanted: bool) -> None:
    document = session.client().post("store/pin", {"ref": ref, "pin": wanted})
    word = "pinned" if wanted else "unpinned"
    session.show(document, "p2pllm.pin/1", lambda d: [f"{word} {render.clean(d.get('ref', ref))}"])


store = verbs("store", "The disk that models take.", [ls, du, gc, verify, pin, unpin], du)
