"""Learning and measuring: `tune` makes an adapter out of text, `eval` measures one."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb


@verb(name="tune", long=True)
@click.option(
    "--base", required=True, metavar="REF", shell_complete=complete_refs, help="The base."
)
@options.data("Text to learn: .txt, .jsonl or a directory")
@options.EVAL
@options.NAME
@options.place_flags
@click.option(
    "--start",
    metavar="REF",
    shell_complete=complete_refs,
    help="Go on with this adapter of the base, in its rank and alpha.",
)
@options.ALPHA
@options.training
def tune(session: Session, **given: object) -> None:
    """Fine-tune a LoRA adapter for a base on your own text, which stays on this machine."""
    place, texts = options.take_place(given), options.take_texts(given)
    body = {"kind": "tune", "place": place, **texts, **given}
    run_job(session, body, _tuned)


def _tuned(result: Document) -> list[str]:
    ref = render.clean(result.get("ref"))
    return [
        f"✓ {ref}",
        *_losses(result),
        f"{result.get('steps')} steps over {result.get('train_tokens')} tokens of "
        f"{result.get('train_documents')} documents in "
        f"{render.duration(float(result.get('seconds') or 0))}, {_peak(result)}",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm push {ref} --licence SPDX",
    ]


def _losses(result: Document) -> list[str]:
    """What it was measured on, and how the adapter compares with its base there."""
    base, loss = float(result.get("base_loss") or 0), float(result.get("loss") or 0)
    bits, base_bits = result.get("bits_per_byte") or 0, result.get("base_bits_per_byte") or 0
    on = f"on {result.get('tokens')} tokens held out ({result.get('documents')} documents)"
    if base == loss:
        return [f"loss {loss:.4f} nats a token, {bits:.4f} bits a byte, {on}"]
    word = "helps" if loss < base else "does not help"
    return [
        f"loss {base:.4f} -> {loss:.4f} nats a token ({loss - base:+.4f}: the adapter {word})",
        f"     {base_bits:.4f} -> {bits:.4f} bits a byte, {on}",
    ]


def _peak(result: Document) -> str:
    return f"at most {render.size(result.get('peak_rss_bytes'))} of memory"


@verb(name="eval", long=True)
@click.argument("ref", shell_complete=complete_refs)
@options.data("Text to measure on: .txt, .jsonl or a directory")
@click.option("--split", type=click.Choice(["held-out", "all"]), help="The part of it [held-out].")
@click.option("--max-tokens", type=click.IntRange(1), help="Stop after so many tokens.")
def evaluate(
    session: Session, ref: str, data: tuple[str, ...], split: str | None, max_tokens: int | None
) -> None:
    """Measure a model on text: nats per token, bits per byte, with and without the adapter."""
    body = {"kind": "eval", "ref": ref, "data": absolute(data), "split": split}
    run_job(session, {**body, "max_tokens": max_tokens}, _measured)


def _measured(result: Document) -> list[str]:
    took = render.duration(float(result.get("seconds") or 0))
    return [render.clean(result.get("ref")), *_losses(result), f"in {took}, {_peak(result)}"]
