"""Fetching a model: `pull`, verified piece by piece, from as many peers as have it."""

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb


@verb(name="pull", long=True)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--dest", metavar="DIR", type=click.Path(), help="Leave a copy there too.")
@click.option("--from", "from_", metavar="PEER", multiple=True, help="Only from this peer.")
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
def pull(
    session: Session, ref: str, dest: str | None, from_: tuple[str, ...], dry_run: bool
) -> None:
    """Fetch a model from its peers, and the base it needs.

    An interrupted pull goes on where it stopped. What it leaves loads with plain PEFT.
    """
    body: Document = {"kind": "pull", "ref": ref, "dest": absolute([dest])[0] if dest else None}
    body |= {"from": list(from_) or None, "dry_run": dry_run or None}
    run_job(session, body, lambda result: _pulled(result, dry_run))


def _pulled(result: Document, dry_run: bool) -> list[str]:
    head = "would fetch" if dry_run else "✓ fetched and verified"
    return [f"{head} {render.clean(result.get('ref'))}", *render.fields(render.flat(result))]
