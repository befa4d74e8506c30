"""`transfer`: knowledge up to a parent and down to a child."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb


@verb(name="transfer", long=True)
@click.argument("direction", type=click.Choice(["up", "down"]))
@click.argument("ref", shell_complete=complete_refs)
@click.option(
    "--to",
    metavar="REF",
    shell_complete=complete_refs,
    help="The model that learns; up: a base [the one it was cut from]; down: a base or adapter.",
)
@click.option("--place", help="Of the result [one level up; down: that of --to].")
@options.data("Text of what REF knows [the probes of its place]", required=False)
@click.option(
    "--keep",
    metavar="PATH",
    type=click.Path(exists=True),
    multiple=True,
    help="Text of what must not be forgotten [the probes of the result's place].",
)
@options.NAME
@click.option("--rows", type=click.IntRange(4, 4096), help="Rows to learn from [96].")
@options.training
def transfer(
    session: Session, data: tuple[str, ...], keep: tuple[str, ...], **given: object
) -> None:
    """Carry what the adapter REF knows one place up, or down into a smaller model.

    Up, REF makes up text, of which the larger model learns what may be kept, beside text of its
    own. Down, what of REF fits the smaller model is laid on it, which then learns REF's answers
    beside its own. The result is kept only if the gate takes it; all text stays on this machine.
    """
    body: Document = {"kind": "transfer", "data": absolute(data), "keep": absolute(keep)}
    body |= {key: value for key, value in given.items() if value is not None}
    run_job(session, body, _carried)


def _carried(result: Document) -> list[str]:
    ref, took = render.clean(result.get("ref")), float(result.get("seconds") or 0)
    had, has = float(result.get("base_loss") or 0), float(result.get("loss") or 0)
    knows = float(result.get("source_loss") or 0)
    made = int(result.get("made_up") or 0)
    left = sum((result.get("refused") or {}).values())
    rows = [f"{made} rows made up, {left} of them refused"] if made else []
    rows += [f"restricted to it at scale {result['scale']:g}"] if result.get("scale") else []
    return [
        f"✓ {ref}, learnt of {render.clean(result.get('from'))}",
        f"new text: loss {had:.4f} -> {has:.4f} nats a token; who knows has {knows:.4f}",
        f"text to keep: {float(result.get('spared') or 0):+.4f} nats a token gained",
        *rows,
        f"{result.get('steps')} steps in {render.duration(took)}, at most "
        f"{render.size(result.get('peak_rss_bytes'))} of memory",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm push {ref} --licence SPDX",
    ]
