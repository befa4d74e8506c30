"""`block`: smaller models cut out of a base."""

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, run_job
from node.commands.learn import place_of
from node.commands.session import Session, complete_refs, verb, verbs

_SHARE = click.FloatRange(0, 1, min_open=True)


@verb(name="cut", long=True)
@click.argument("ref", shell_complete=complete_refs)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="Text it is for: .txt, .jsonl or a directory; may be given again.",
)
@click.option(
    "--eval",
    "eval_data",
    metavar="PATH",
    type=click.Path(exists=True),
    multiple=True,
    help="Text to measure on [a part of --data, held out].",
)
@click.option("--ffn", type=_SHARE, help="Share of the feed-forward channels to keep [0.5].")
@click.option("--heads", type=_SHARE, help="Share of the groups of heads to keep [1].")
@click.option("--depth", type=_SHARE, help="Share of the layers to keep [1].")
@click.option("--name", help="What to call it [that of the base, and -block].")
@click.option("--steps", type=click.IntRange(0), help="Steps of recovery [60]; 0: none.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate.")
@click.option("--batch", type=click.IntRange(1), help="Sequences a step.")
@click.option("--seq", type=click.IntRange(8), help="Tokens a sequence.")
@click.option("--seed", type=click.IntRange(0), help="Makes a run repeatable.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
def cut(session: Session, ref: str, **given: object) -> None:
    """Cut a smaller, faster model out of the base REF, by what your text needs of it."""
    data, held_out = given.pop("data"), given.pop("eval_data")
    assert isinstance(data, tuple)
    assert isinstance(held_out, tuple)
    body = {"kind": "block", "ref": ref, "data": absolute(data), **given}
    body["eval_data"] = absolute(held_out) or None
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
@click.option("--name", required=True, help="What to call the adapter.")
@click.option("--lang", help="Language of its place, such as en.")
@click.option("--domain", help="Domain, such as medical.")
@click.option("--sub", help="Sub-domain, such as cardiology.")
@click.option("--place", help="Language, domain and sub in one: LANG/DOMAIN/SUB.")
@click.option("--energy", type=_SHARE, help="Share of each change to keep [1].")
@click.option("--rank", type=click.IntRange(1, 1024), help="At most, whatever is lost.")
@click.option("--licence", metavar="SPDX", help="Such as apache-2.0; may wait for push.")
def gather(session: Session, what: tuple[str, ...], **given: object) -> None:
    """Make one adapter of a base out of adapters of its blocks: each part of the base learns from
    those who have it. With one adapter of the base, --into a block takes it down to the block.
    """
    place = place_of(given.pop("place"), given.pop("lang"), given.pop("domain"), given.pop("sub"))
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
