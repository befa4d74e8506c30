"""Who and what is shut out: `quarantine ls|show|add|release`."""

import click

from node import plain_words, render
from node.client import Document
from node.commands.evidence import MEASURE_S, recomputed
from node.commands.session import Session, complete_refs, verb, verbs
from node.commands.trust import explanation
from p2pllm.errors import LocalError
from trust.direction import GUILTY

Entry = Document


@verb(name="ls")
def ls(session: Session) -> None:
    """Peers and updates that nothing is taken from, since when and why."""
    document = session.client().get("quarantine")
    session.show(document, "p2pllm.quarantine/1", _lines, _ids)


def _ids(document: Document) -> list[str]:
    peers = [str(one["peer_id"]) for one in document["peers"]]
    return peers + [str(one["manifest"]) for one in document["updates"]]


def _lines(document: Document) -> list[str]:
    peers, updates = document["peers"], document["updates"]
    if not peers and not updates:
        return ["nobody and nothing is in quarantine"]
    lines = []
    if peers:
        rows = [(one["peer_id"], one["place"], one["state"], *_when_why(one)) for one in peers]
        lines += render.table(("PEER", "PLACE", "STATE", "SINCE", "WHY"), rows)
    if updates:
        rows = [(one["manifest"], one["place"], one["peer_id"], *_when_why(one)) for one in updates]
        lines += render.table(("UPDATE", "PLACE", "OF", "SINCE", "WHY"), rows)
    return lines


def _when_why(one: Entry) -> tuple[str, str]:
    """Since when, and the reason: the odds against a peer, the fault of an update."""
    since = render.moment(one.get("since") or one.get("heard_at"))
    if "stake" not in one:
        parts = [f"[{one['code']}]" if one.get("code") else "", one.get("message") or ""]
        return since, " ".join(str(part) for part in parts if part) or "its publisher is shut out"
    odds = plain_words.against(
        [{"code": code, "value": one.get(code, 0), "limit": GUILTY} for code in plain_words.ODDS]
    )
    parts = [str(one.get("message") or ""), odds, f"strike {one.get('strikes', 0)}"]
    return since, ", ".join(part for part in parts if part)


@verb(name="show")
@click.argument("subject", shell_complete=complete_refs)
def show(session: Session, subject: str) -> None:
    """Why a peer or update is shut out; status 4 if it is not."""
    client = session.client(MEASURE_S)
    document = client.get("trust/explain", subject=subject)
    about = {str(value) for value in (document.get("subject") or {}).values()} | {subject}
    listed = client.get("quarantine")
    held = [
        one
        for one in (*listed["peers"], *listed["updates"])
        if {str(one.get("peer_id")), str(one.get("manifest"))} & about
    ]
    if not held:
        raise LocalError(
            "E0409",
            f"{subject[:80]} is not in quarantine",
            fix=[f"p2pllm trust explain {subject[:80]}", "p2pllm quarantine ls"],
        )
    document |= {"quarantine": held, "recomputed": recomputed(client, subject, document)}
    session.show(document, "p2pllm.explanation/1", _shown)


def _shown(document: Document) -> list[str]:
    lines = []
    for one in document["quarantine"]:
        since, why = _when_why(one)
        lines.append(f"shut out at {render.clean(one['place'])} since {since}: {render.clean(why)}")
    return [*lines, *explanation(document)]


@verb(name="add")
@click.argument("subject", shell_complete=complete_refs)
@click.option("--reason", required=True, help="Why; it is kept.")
def add(session: Session, subject: str, reason: str) -> None:
    """Take nothing from a peer, or not this update, whatever the numbers say."""
    document = session.client().post("quarantine", {"subject": subject, "reason": reason})
    ids = [one for one in document.get("updates") or [] if isinstance(one, str)]
    who = ids or [subject]  # ids first, since a reference may go with the files
    said = [f"{render.clean(one)} is in quarantine" for one in who]
    session.show(document, "p2pllm.quarantine/1", lambda d: said)


@verb(name="release")
@click.argument("subject", shell_complete=complete_refs)
@click.option("--reason", required=True, help="Why; it is kept.")
def release(session: Session, subject: str, reason: str) -> None:
    """Let a peer or update back in, on probation; its strikes stay."""
    document = session.client().delete("quarantine", {"subject": subject, "reason": reason})
    said = f"{render.clean(subject)} is released, on probation"
    session.show(document, "p2pllm.quarantine/1", lambda d: [said])


quarantine = verbs("quarantine", "Who and what is shut out.", [ls, show, add, release], ls)
