"""`distill`: a smaller model learns from a larger one."""

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, run_job
from node.commands.learn import place_of
from node.commands.session import Session, complete_refs, verb


@verb(name="distill", long=True)
@click.argument("teacher", shell_complete=complete_refs)
@click.option(
    "--into",
    "student",
    required=True,
    metavar="REF",
    shell_complete=complete_refs,
    help="The base that is taught.",
)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="Text to be asked about: .txt, .jsonl or a directory; may be given again.",
)
@click.option(
    "--eval",
    "eval_data",
    metavar="PATH",
    type=click.Path(exists=True),
    multiple=True,
    help="Text to measure on [a part of --data, held out].",
)
@click.option("--name", required=True, help="What to call the adapter.")
@click.option("--lang", help="Language of its place, such as en.")
@click.option("--domain", help="Domain, such as medical.")
@click.option("--sub", help="Sub-domain, such as cardiology.")
@click.option("--place", help="Language, domain and sub in one: LANG/DOMAIN/SUB.")
@click.option("--rank", type=click.IntRange(1, 1024), help="Rank of the adapter.")
@click.option("--alpha", type=click.FloatRange(0, min_open=True), help="Scale: alpha / rank.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate.")
@click.option("--batch", type=click.IntRange(1), help="Sequences a step.")
@click.option("--seq", type=click.IntRange(8), help="Tokens a sequence.")
@click.option("--hard", type=click.FloatRange(0, 1), help="Share of the text's own words.")
@click.option("--seed", type=click.IntRange(0), help="Makes a run repeatable.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--licence", metavar="SPDX", help="Such as apache-2.0; may wait for push.")
def distill(session: Session, **given: object) -> None:
    """Teach a smaller base what TEACHER, a larger base or an adapter on it, knows of your text."""
    place = place_of(given.pop("place"), given.pop("lang"), given.pop("domain"), given.pop("sub"))
    data, held_out = given.pop("data"), given.pop("eval_data")
    assert isinstance(data, tuple)
    assert isinstance(held_out, tuple)
    body = {"kind": "distill", "place": place, "data": absolute(data), **given}
    body["eval_data"] = absolute(held_out) or None
    run_job(session, body, _taught)


def _taught(result: Document) -> list[str]:
    losses = [float(result.get(key) or 0) for key in ("teacher_loss", "base_loss", "loss")]
    took = render.duration(float(result.get("seconds") or 0))
    ref = render.clean(result.get("ref"))
    return [
        f"✓ {ref}",
        f"loss {losses[1]:.4f} -> {losses[2]:.4f} nats a token ({losses[2] - losses[1]:+.4f}); "
        f"the teacher has {losses[0]:.4f}, on {result.get('tokens')} tokens held out",
        f"{result.get('cached_tokens')} tokens of answers at "
        f"{float(result.get('bytes_per_token') or 0):.0f} bytes; {result.get('steps')} steps "
        f"in {took}, at most {render.size(result.get('peak_rss_bytes'))} of memory",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm push {ref} --licence SPDX",
    ]
