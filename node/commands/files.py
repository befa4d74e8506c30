"""Models out of models: `merge` adapters, `quantise` a base, `export` for other tools."""

from pathlib import Path

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb

METHODS = ("exact", "ties", "dare_linear", "dare_ties", "magnitude_prune")


@verb(name="merge", long=True)
@click.argument("what", metavar="[REF|DIR]...", nargs=-1, shell_complete=complete_refs)
@click.option("--head", metavar="PLACE", help="All that this node accepted at a place, instead.")
@options.NAME
@options.place_flags
@click.option("--weight", "weights", type=float, multiple=True, help="One for each [1].")
@click.option("--base", metavar="REF", shell_complete=complete_refs, help="Of DIRs: their base.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="How [exact: the weighted sum]. The others fill every rank: give --rank or --energy too.",
)
@click.option(
    "--energy", type=click.FloatRange(0, 1, min_open=True), help="Share of each change to keep [1]."
)
@click.option("--rank", type=click.IntRange(1, 1024), help="At most, whatever is lost.")
@click.option("--residual", metavar="NAME", help="Keep what was left out as another adapter.")
@click.option(
    "--density",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of entries that methods other than exact keep [0.5].",
)
@click.option("--seed", type=click.IntRange(0), help="Of the dare methods.")
@click.option("--licence", metavar="SPDX", help="[that of the parts, if they have one]")
def merge(session: Session, what: tuple[str, ...], head: str | None, **given: object) -> None:
    """Make one adapter out of several, the same in any order; or out of a DIR of another kind
    (rsLoRA, DoRA, LoKr, …) a plain LoRA.
    """
    named = [given.pop(key) for key in ("place", "lang", "domain", "sub")]
    body: Document = {"kind": "merge", **given, "head": head}
    body["weights"] = list(given["weights"]) if isinstance(given["weights"], tuple) else []
    body["what"] = [absolute([one])[0] if _is_folder(one) else one for one in what]
    if any(named) or not head:
        body["place"] = options.place_of(*named)
    run_job(session, body, _merged)


def _is_folder(what: str) -> bool:
    return what.startswith((".", "/", "~")) or Path(what).is_dir()


def _merged(result: Document) -> list[str]:
    energy = float(result.get("energy") or 0)
    lines = [
        f"✓ {render.clean(result.get('ref'))}",
        f"{result.get('adapters')} adapters in rank {result.get('rank')}, "
        + ("all of it kept" if energy == 1 else f"at least {energy:.2%} of each change kept"),
        *(render.clean(line) for line in result.get("converted") or []),
    ]
    if result.get("residual_ref"):
        lines.append(f"the rest: {render.clean(result['residual_ref'])}")
    return [*lines, f"in {render.clean(result.get('path'))}"]


@verb(name="quantise", long=True)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--bits", type=click.Choice(["8", "4"]), default="8", help="A number has [8].")
@options.data("Text to measure both on: .txt, .jsonl or a directory", required=False)
@click.option("--max-tokens", type=click.IntRange(16), help="Stop measuring after so many.")
@click.option("--name", help="What to call it [that of the base, and -q8 or -q4].")
def quantise(session: Session, ref: str, bits: str, data: tuple[str, ...], **given: object) -> None:
    """Make a variant of a base that takes less room, and measure what it costs."""
    body = {"kind": "quantise", "ref": ref, "bits": int(bits), "data": absolute(data), **given}
    run_job(session, body, _quantised)


def _quantised(result: Document) -> list[str]:
    size, before = result.get("size_bytes") or 0, result.get("base_size_bytes") or 1
    lines = [
        f"✓ {render.clean(result.get('ref'))}",
        f"{render.size(before)} -> {render.size(size)} ({size / before:.0%}), "
        f"{render.clean(result.get('numbers'))}",
    ]
    loss, base = result.get("loss"), result.get("base_loss")
    if loss is None or base is None:
        return [*lines, "not measured: give --data", f"in {render.clean(result.get('path'))}"]
    speed, base_speed = result.get("speed") or {}, result.get("base_speed") or {}
    return [
        *lines,
        f"loss {base:.4f} -> {loss:.4f} nats a token ({loss - base:+.4f}) on "
        f"{result.get('tokens')} tokens",
        f"read {base_speed.get('read_tokens_s', 0):.0f} -> {speed.get('read_tokens_s', 0):.0f} "
        "tokens/s in transformers, which unpacks it; llama.cpp computes with it as it is",
        f"in {render.clean(result.get('path'))}",
    ]


@verb(name="export", long=True)
@click.argument("ref", shell_complete=complete_refs)
@click.option("--format", "format_", type=click.Choice(["gguf", "safetensors"]), required=True)
@click.option("--to", "dest", metavar="DIR", required=True, help="A new or empty folder.")
@click.option("--alone", is_flag=True, help="An adapter as an adapter, not laid into its base.")
@click.option(
    "--bits",
    type=click.Choice(["32", "16", "8", "4"]),
    help="A number has [16]. 8 and 4 are of GGUF; 32 keep the whole of an adapter laid in.",
)
def export(
    session: Session, ref: str, format_: str, dest: str, alone: bool, bits: str | None
) -> None:
    """Write a model for other tools: GGUF for llama.cpp and its kin, or merged safetensors."""
    body: Document = {"kind": "export", "ref": ref, "format": format_, "dest": absolute([dest])[0]}
    body |= {"alone": alone or None, "bits": int(bits) if bits else None}
    run_job(session, body, _exported)


def _exported(result: Document) -> list[str]:
    lost = float(result.get("rounding") or 0)
    took = render.duration(float(result.get("seconds") or 0))
    lines = [
        f"✓ {render.clean(result.get('path'))}: "
        f"{', '.join(render.clean(name) for name in result.get('files') or [])}, "
        f"{render.size(result.get('size_bytes'))}, in {took}"
    ]
    if lost:
        lines.append(f"rounding is {lost:.1%} as large as what the adapter changes")
    return lines
