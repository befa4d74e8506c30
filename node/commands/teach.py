"""`distill`: a smaller model learns from a larger one."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import run_job
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
@options.data("Text to be asked about: .txt, .jsonl or a directory")
@options.EVAL
@options.NAME
@options.place_flags
@options.ALPHA
@click.option("--hard", type=click.FloatRange(0, 1), help="Share of the text's own words.")
@options.training
def distill(session: Session, **given: object) -> None:
    """Teach a smaller base what TEACHER, a larger base or an adapter on it, knows of your text."""
    place, texts = options.take_place(given), options.take_texts(given)
    body = {"kind": "distill", "place": place, **texts, **given}
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
