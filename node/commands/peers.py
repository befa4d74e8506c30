"""Other nodes: which are connected, and connecting to one."""

import click

from node import render
from node.client import Document
from node.commands.session import Session, verb, verbs


@verb(name="ls")
def ls(session: Session) -> None:
    """The connected peers, their addresses and the topics we share."""
    document = session.client().get("peers")
    session.show(
        document, "p2pllm.peers/1", _lines, lambda d: [str(p["peer_id"]) for p in d["peers"]]
    )


def _lines(document: Document) -> list[str]:
    found = document["peers"]
    if not found:
        return ["no peers; p2pllm peers connect ADDRESS, or p2pllm status for the seeds"]
    rows = [
        (
            peer["peer_id"],
            ", ".join(peer.get("addresses", [])[:2]),
            ", ".join(peer.get("topics", [])),
        )
        for peer in found
    ]
    return render.table(("PEER", "ADDRESSES", "TOPICS"), rows)


@verb(name="connect")
@click.argument("address")
def connect(session: Session, address: str) -> None:
    """Connect to a peer by its whole ADDRESS, /ip4/…/tcp/…/p2p/ID."""
    document = session.client().post("peers", {"address": address})
    session.show(document, "p2pllm.peer/1", lambda d: [f"connected to {render.clean(address)}"])


peers = verbs("peers", "Other nodes that this one is connected to.", [ls, connect], ls)
