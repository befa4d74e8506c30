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
@click.option("--even-quarantined", is_flag=True, help="Also of a publisher that is shut out.")
def pull(
    session: Session,
    ref: str,
    dest: str | None,
    from_: tuple[str, ...],
    dry_run: bool,
    even_quarantined: bool,
) -> None:
    """Fetch a model from its peers, and the base it needs.

    An interrupted pull goes on where it stopped. What it leaves loads with plain PEFT.
    """
    body: Document = {"kind": "pull", "ref": ref, "dest": absolute([dest])[0] if dest else None}
    body |= {"from": list(from_) or None, "dry_run": dry_run or None}
    body |= {"even_quarantined": even_quarantined or None}
    run_job(session, body, lambda result: pulled(result, dry_run))


def pulled(result: Document, dry_run: bool) -> list[str]:
    if dry_run:
        where = "already here" if result.get("here") else f"{_to_fetch(result)} to fetch"
        peers = [f"from  {render.clean(peer)}" for peer in result.get("peers") or []]
        return [f"{render.clean(result.get('manifest'))}  {where}", *peers]
    fetched = [line for one in result.get("fetched") or [] for line in _one(one)]
    return [
        f"✓ {render.clean(result.get('ref'))}, signed and verified",
        *(fetched or ["  it was here already"]),
        f"in {render.clean(result.get('path'))}",
    ]


def _to_fetch(result: Document) -> str:
    parts = [f"{render.clean(result.get('kind'))} of {render.size(result.get('download_bytes'))}"]
    if result.get("base_bytes"):
        parts += [f"its base of {render.size(result['base_bytes'])}"]
    return " and ".join(parts)


def _one(fetched: Document) -> list[str]:
    """What was fetched of one model, and from whom."""
    head = (
        f"  {fetched.get('kind')} {render.clean(fetched.get('name'))}: "
        f"{render.size(fetched.get('bytes'))}, {fetched.get('chunks')} chunks verified in "
        f"{render.duration(float(fetched.get('seconds') or 0))}"
    )
    peers = [
        f"    {tally.get('chunks')} from {render.clean(peer)}"
        + (f", {tally['bad_chunks']} bad ones refused" if tally.get("bad_chunks") else "")
        for peer, tally in (fetched.get("by_peer") or {}).items()
    ]
    refused = [
        f"    refused {render.clean(one.get('peer'))}: "
        f"[{render.clean(one.get('code'), 8)}] {render.clean(one.get('reason'))}"
        for one in fetched.get("refused") or []
    ]
    return [head, *peers, *refused]
