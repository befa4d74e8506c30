"""Bases, the whole models that adapters stand on: bring one in, list them."""

from pathlib import Path

import click

from node import render
from node.client import Document
from node.commands.follow import absolute, run_job
from node.commands.models import model_rows
from node.commands.session import Session, verb, verbs
from p2pllm.errors import LocalError

EMBEDDED = "smollm2"


@verb(name="import", long=True)
@click.argument("source")
@click.option("--name", help="Its name here [taken from the source].")
@click.option("--lang", help="Its language, such as en.")
@click.option("--licence", metavar="SPDX", help="Its licence, such as apache-2.0.")
def import_(
    session: Session, source: str, name: str | None, lang: str | None, licence: str | None
) -> None:
    """Bring in a base from SOURCE.

    SOURCE is 'smollm2' (a small model that comes as a package), a directory in Hugging Face
    layout, or a .safetensors or .gguf file. Write ./smollm2 for a directory of that name.
    """
    named = source == EMBEDDED or not (Path(source).expanduser().exists() or "/" in source)
    path = source if named else absolute([source])[0]
    if not named and not Path(path).exists():
        raise LocalError("E0402", f"no file or directory {path}", fix=["check the path"])
    body = {"kind": "import", "source": path, "name": name, "lang": lang, "licence": licence}
    run_job(session, body, _imported)


def _imported(result: Document) -> list[str]:
    ref = render.clean(result.get("ref"))
    took = render.duration(float(result.get("seconds") or 0))
    return [
        f"✓ {ref}: {render.number(result.get('params'))} parameters, "
        f"{render.size(result.get('size_bytes'))}, in {took}",
        f"in {render.clean(result.get('path'))}",
        f"next: p2pllm tune --base {ref} --data FILE --lang LANG --domain DOMAIN --name NAME",
    ]


@verb(name="ls")
def ls(session: Session) -> None:
    """The bases of this node."""
    document = session.client().get("models")
    bases = [model for model in document["models"] if model["kind"] == "base"]
    session.show(
        {**document, "models": bases},
        "p2pllm.models/1",
        lambda d: model_rows(d["models"]) or ["no bases; p2pllm base import smollm2"],
        lambda d: [str(model["ref"]) for model in d["models"]],
    )


base = verbs("base", "Whole models that adapters stand on.", [import_, ls], ls)
