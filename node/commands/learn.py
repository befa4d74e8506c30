"""Learning and measuring: `tune` makes an adapter out of text, `eval` measures one."""

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb
from p2pllm.errors import LocalError


@verb(name="tune", long=True)
@click.option(
    "--base", required=True, metavar="REF", shell_complete=complete_refs, help="The base."
)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="Text to learn: .txt, .jsonl or a directory; may be given again.",
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
@click.option("--seed", type=click.IntRange(0), help="Makes a run repeatable.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--licence", metavar="SPDX", help="Such as apache-2.0; may wait for push.")
def tune(session: Session, **given: object) -> None:
    """Fine-tune a LoRA adapter for a base on your own text, which stays on this machine."""
    place = place_of(given.pop("place"), given.pop("lang"), given.pop("domain"), given.pop("sub"))
    data, held_out = given.pop("data"), given.pop("eval_data")
    assert isinstance(data, tuple)
    assert isinstance(held_out, tuple)
    body = {"kind": "tune", "place": place, "data": absolute(data), **given}
    body["eval_data"] = absolute(held_out) or None
    run_job(session, body, _tuned)


def place_of(place: object, lang: object, domain: object, sub: object) -> str:
    """LANG/DOMAIN/SUB out of --place or of the three flags; E0201 where neither makes one."""
    if place:
        if lang or domain or sub:
            raise LocalError("E0204", "give --place or --lang --domain --sub, not both")
        return str(place)
    parts = [str(part) for part in (lang, domain, sub) if part]
    if not lang or (sub and not domain):
        want = "a sub-domain needs --domain" if sub and lang else "where it belongs is missing"
        raise LocalError("E0201", want, fix=["--lang en --domain medical --sub cardiology"])
    return "/".join(parts)


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
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="Text to measure on: .txt, .jsonl or a directory; may be given again.",
)
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
