"""`derive`: a smaller model for a place, out of one of the place above it."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb


@verb(name="derive", long=True)
@click.argument("place")
@click.option(
    "--from",
    "ref",
    required=True,
    metavar="REF",
    shell_complete=complete_refs,
    help="A base of the place one level up.",
)
@click.option("--budget", required=True, metavar="SIZE", help="What it may take, such as 80MB.")
@options.data("Text of the place: .txt, .jsonl or a directory")
@click.option("--name", help="What to call it [that of the base].")
@click.option("--steps", type=click.IntRange(0), help="Steps of teaching [60]; 0: none.")
@options.SEED
@options.THREADS
@click.option("--licence", metavar="SPDX", help="Of the model [that of the base].")
@click.option("--publish", is_flag=True, help="Publish it: its files and this node's id.")
def derive(
    session: Session, place: str, budget: str, data: tuple[str, ...], publish: bool, **given: object
) -> None:
    """Build a model of PLACE: the largest block of REF within SIZE, taught by REF on your text.

    PLACE is one level below that of REF. Your text stays here. With --publish the model is
    advertised at PLACE for others to find.
    """
    size = budget if budget[:1] in "<>" else f"<={budget}"
    body: Document = {"kind": "derive", "place": place, "budget": size, "data": absolute(data)}
    body |= {key: value for key, value in given.items() if value is not None}
    run_job(session, {**body, "consent": publish}, _derived)


def _derived(result: Document) -> list[str]:
    ref = render.clean(result.get("ref"))
    share = int(result.get("params") or 0) / int(result.get("parent_params") or 1)
    losses = [float(result.get(key) or 0) for key in ("parent_loss", "cut_loss", "loss")]
    done = f"advertised at {render.clean(result.get('place'))}"
    left = f"next: p2pllm push {ref} --place {render.clean(result.get('place'))}"
    return [
        f"✓ {ref}: {render.number(result.get('params'))} parameters ({share:.0%} of its parent)",
        f"loss {losses[1]:.4f} as cut -> {losses[2]:.4f} nats a token; its parent has "
        f"{losses[0]:.4f}",
        done if result.get("published") else left,
    ]
