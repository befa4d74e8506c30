"""`block`: smaller models cut out of a base."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import run_job
from node.commands.session import Session, complete_refs, verb, verbs

_SHARE = click.FloatRange(0, 1, min_open=True)


@verb(name="cut", long=True)
@click.argument("ref", shell_complete=complete_refs)
@options.data("Text it is for: .txt, .jsonl or a directory")
@options.EVAL
@click.option("--ffn", type=_SHARE, help="Share of the feed-forward channels to keep [0.5].")
@click.option("--heads", type=_SHARE, help="Share of the groups of heads to keep [1].")
@click.option("--depth", type=_SHARE, help="Share of the layers to keep [1].")
@click.option("--name", help="What to call it [that of the base, and -block].")
@click.option("--steps", type=click.IntRange(0), help="Steps of recovery [120]; 0: none.")
@options.LR
@options.BATCH
@options.SEQ
@options.SEED
@options.THREADS
def cut(session: Session, ref: str, **given: object) -> None:
    """Cut a smaller, faster model out of the base REF, by what your text needs of it."""
    texts = options.take_texts(given)
    body = {"kind": "block", "ref": ref, **texts, **given}
    run_job(session, body, _cut)


def _cut(result: Document) -> list[str]:
    losses = [float(result.get(key) or 0) for key in ("parent_loss", "cut_loss", "loss")]
    ref, params = render.clean(result.get("ref")), int(result.get("params") or 0)
    share = params / int(result.get("parent_params") or 1)
    took = render.duration(float(result.get("seconds") or 0))
    return [
        f"✓ {ref}: {render.number(params)} parameters ({share:.0%} of its parent), "
        f"{render.size(result.get('size_bytes'))}, in {took}",
        f"{result.get('layers')} layers of {result.get('channels')} channels and "
        f"{result.get('groups')} groups of heads",
        f"loss {losses[1]:.4f} as cut -> {losses[2]:.4f} nats a token; its parent has "
        f"{losses[0]:.4f}, on {result.get('tokens')} tokens held out",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm tune --base {ref} --data FILE --lang LANG --domain DOMAIN --name NAME",
    ]


@verb(name="gather", long=True)
@click.argument("what", metavar="REF...", nargs=-1, required=True, shell_complete=complete_refs)
@click.option(
    "--into",
    required=True,
    metavar="REF",
    shell_complete=complete_refs,
    help="The base that the blocks were cut from, or a block of it.",
)
@click.option("--weight", "weights", type=float, multiple=True, help="One for each [1].")
@options.NAME
@options.place_flags
@click.option("--energy", type=_SHARE, help="Share of each change to keep [1].")
@click.option("--rank", type=click.IntRange(1, 1024), help="At most, whatever is lost.")
@options.LICENCE
def gather(session: Session, what: tuple[str, ...], **given: object) -> None:
    """Make one adapter of a base out of adapters of its blocks: each part of the base learns from
    those who have it. With one adapter of the base, --into a block takes it down to the block.
    """
    place = options.take_place(given)
    weights = given.pop("weights")
    assert isinstance(weights, tuple)
    body = {"kind": "gather", "what": list(what), "place": place, **given}
    run_job(session, body | {"weights": list(weights) or None}, _gathered)


def _gathered(result: Document) -> list[str]:
    ref = render.clean(result.get("ref"))
    return [
        f"✓ {ref}",
        f"{result.get('adapters')} adapters in rank {result.get('rank')}, at least "
        f"{float(result.get('energy') or 0):.2%} of each change kept",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm push {ref} --licence SPDX",
    ]


block = verbs("block", "Smaller models cut out of a base.", [cut, gather])
