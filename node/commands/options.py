"""Options that several verbs of learning and making share, and what is read out of them."""

from collections.abc import Callable
from typing import Any

import click

from node.commands.follow import absolute
from p2pllm.errors import LocalError

LR = click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate.")
BATCH = click.option("--batch", type=click.IntRange(1), help="Sequences a step.")
SEQ = click.option("--seq", type=click.IntRange(8), help="Tokens a sequence.")
STEPS = click.option("--steps", type=click.IntRange(1), help="Optimiser steps.")
RANK = click.option("--rank", type=click.IntRange(1, 1024), help="Rank of the adapter.")
ALPHA = click.option(
    "--alpha", type=click.FloatRange(0, min_open=True), help="Scale: alpha / rank."
)
SEED = click.option("--seed", type=click.IntRange(0), help="Makes a run repeatable.")
THREADS = click.option("--threads", type=click.IntRange(1), help="Processor threads.")
NAME = click.option("--name", required=True, help="What to call the adapter.")
LICENCE = click.option("--licence", metavar="SPDX", help="Such as apache-2.0; may wait for push.")
EVAL = click.option(
    "--eval",
    "eval_data",
    metavar="PATH",
    type=click.Path(exists=True),
    multiple=True,
    help="Text to measure on [a part of --data, held out].",
)
_TRAINING = (RANK, STEPS, LR, BATCH, SEQ, SEED, THREADS, LICENCE)
_PLACE = (
    click.option("--lang", help="Language of its place, such as en."),
    click.option("--domain", help="Domain, such as medical."),
    click.option("--sub", help="Sub-domain, such as cardiology."),
    click.option("--place", help="Language, domain and sub in one: LANG/DOMAIN/SUB."),
)


def data(what: str, required: bool = True) -> Callable[..., Any]:
    """--data, any number of files and folders; `what` says for what and what a folder may be."""
    return click.option(
        "--data",
        required=required,
        multiple=True,
        metavar="PATH",
        type=click.Path(exists=True),
        help=f"{what}; may be given again.",
    )


def training(command: Callable[..., Any]) -> Callable[..., Any]:
    """What may be chosen of every training of an adapter, --rank to --licence."""
    return _in_order(command, _TRAINING)


def place_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """--lang --domain --sub --place, in this order in the help; `take_place` reads them."""
    return _in_order(command, _PLACE)


def _in_order(
    command: Callable[..., Any], wanted: tuple[Callable[..., Any], ...]
) -> Callable[..., Any]:
    for option in reversed(wanted):
        command = option(command)
    return command


def take_place(given: dict[str, object]) -> str:
    """The place that these flags name, which are taken out; E0201 where they name none."""
    return place_of(**{key: given.pop(key) for key in ("place", "lang", "domain", "sub")})


def place_of(place: object, lang: object, domain: object, sub: object) -> str:
    """LANG/DOMAIN/SUB out of --place or of the three flags; E0201 where neither makes one."""
    from p2pllm.names import small_lang  # here, as it is slow to load and few verbs need it

    if place:
        if lang or domain or sub:
            raise LocalError("E0204", "give --place or --lang --domain --sub, not both")
        return small_lang(str(place))
    parts = [str(part) for part in (lang, domain, sub) if part]
    if not lang or (sub and not domain):
        want = "a sub-domain needs --domain" if sub and lang else "where it belongs is missing"
        raise LocalError("E0201", want, fix=["--lang en --domain medical --sub cardiology"])
    return small_lang("/".join(parts))


def take_texts(given: dict[str, object]) -> dict[str, object]:
    """What --data and --eval name, as a job asks for it; they are taken out of `given`."""
    texts, held_out = given.pop("data"), given.pop("eval_data")
    assert isinstance(texts, tuple)
    assert isinstance(held_out, tuple)
    return {"data": absolute(texts), "eval_data": absolute(held_out) or None}
