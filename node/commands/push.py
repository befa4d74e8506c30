"""Publishing: `push` says exactly what becomes public, and asks, before anything leaves."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from node import render
from node.client import Client, Document
from node.commands import options
from node.commands.find import lora_line
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb
from p2pllm.errors import LocalError

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
NO_LICENCE = "NOASSERTION"  # SPDX for "nobody said"; a manifest must say something


@verb(name="push", long=True)
@click.argument("what", metavar="REF|DIR", shell_complete=complete_refs)
@click.option("--name", help="Its public name [as it is here; of a DIR: the folder's].")
@options.place_flags
@click.option("--base", metavar="REF", shell_complete=complete_refs, help="Of a DIR: its base.")
@click.option("--licence", metavar="SPDX", help="Such as apache-2.0 or cc-by-4.0.")
@click.option("--description", help="What it is for, in a sentence or two.")
@click.option("--tag", help="A moving name for this version, such as v1.")
@click.option("--dry-run", is_flag=True, help="Only say what would become public.")
def push(session: Session, what: str, dry_run: bool, **given: str | None) -> None:
    """Publish a model of this node, or a PEFT LoRA directory made elsewhere.

    It says what becomes public and asks first; without a terminal it needs --yes.
    """
    client = session.client()
    body: Document = {"kind": "push", **_known(given)}
    if _is_folder(what):
        body["path"] = absolute([what])[0]
        card = _folder_card(client, Path(what).expanduser(), body)
    else:
        body["ref"] = what
        card = _model_card(client.get("models/show", ref=what), body)
    if not card["licence"]:
        raise LocalError(
            "E0707",
            f"{what} has no licence, and what is published needs one",
            fix=["--licence apache-2.0, or another SPDX name that its base and data allow"],
        )
    public = {**card, "peer_id": client.get("identity")["peer_id"]}
    if dry_run:
        session.show({"public": public}, "p2pllm.push/1", lambda d: disclosure(d["public"]))
        return
    _ask(session, public)
    body["licence"] = card["licence"]
    run_job(session, {**body, "consent": True}, _pushed)


def _known(given: dict[str, str | None]) -> Document:
    place = {key: given.pop(key) for key in ("place", "lang", "domain", "sub")}
    known: Document = {key: value for key, value in given.items() if value is not None}
    if any(place.values()):
        known["place"] = options.place_of(**place)
    return known


def _is_folder(what: str) -> bool:
    return what.startswith((".", "/", "~")) or Path(what).is_dir()


def _folder_card(client: Client, folder: Path, body: Document) -> Document:
    missing = [name for name in PEFT_FILES if not (folder / name).is_file()]
    if missing:
        why = [f"{folder} has no {name}" for name in missing]
        fix = ["give a PEFT directory, saved with save_pretrained, or the name of a model here"]
        raise LocalError("E0204", f"{folder} is not a PEFT LoRA directory", why=why, fix=fix)
    if "place" not in body:
        fix = [f"p2pllm push {folder} --lang LANG --domain DOMAIN"]
        raise LocalError("E0204", "where it belongs is missing", fix=fix)
    if "base" not in body:
        body["base"] = _only_base(client)
    body.setdefault("name", folder.absolute().name.lower())
    files = [{"path": name, "size": (folder / name).stat().st_size} for name in PEFT_FILES]
    return {
        "name": f"{body['place']}/{body['name']}",
        "kind": "adapter",
        "base": body["base"],
        "licence": body.get("licence"),
        "description": body.get("description"),
        "tag": body.get("tag"),
        "files": files,
        "lora": None,
        "report": None,
        "parents": [],
    }


def _only_base(client: Client) -> str:
    bases = [str(m["ref"]) for m in client.get("models")["models"] if m["kind"] == "base"]
    if len(bases) != 1:
        fix = ["--base REF", "p2pllm base import smollm2"]
        raise LocalError(
            "E0204", "which base does it stand on?", why=bases or ["none here"], fix=fix
        )
    return bases[0]


def _stated(licence: object) -> str | None:
    return str(licence) if licence and licence != NO_LICENCE else None


def _model_card(model: Document, body: Document) -> Document:
    place, name = body.get("place", model["place"]), body.get("name", model["name"])
    files = [{"path": file["path"], "size": file["size"]} for file in model.get("files") or []]
    return {
        "name": f"{place}/{name}",
        "kind": model["kind"],
        "base": model["model"],
        "licence": body.get("licence") or _stated(model.get("licence")),
        "description": body.get("description") or model.get("description"),
        "tag": body.get("tag") or model.get("tag"),
        "files": files,
        "lora": model.get("lora"),
        "report": model.get("report"),
        "parents": model.get("parents") or [],
    }


def disclosure(public: Document) -> list[str]:
    """What anyone on the network will be able to read, for ever."""
    report, lora = public["report"], public["lora"]
    shown = {
        "name": public["name"],
        "kind": public["kind"],
        "base": public["base"],
        "made from": ", ".join(str(parent) for parent in public["parents"]),
        "licence": public["licence"],
        "published by": f"{public['peer_id']} (this node, with its network addresses)",
        "description": public["description"],
        "tag": public["tag"],
        "lora": lora_line(lora) if lora else None,
        "measurements": _numbers(report) if report else None,
    }
    files = [f"  {render.clean(f['path'])}  {render.size(f['size'])}" for f in public["files"]]
    return [
        "these become public:",
        *("  " + line for line in render.fields(shown)),
        "files, whole:",
        *("  " + line for line in files),
        "and the time of publishing. Your text stays here, but weights can give away what they",
        "were trained on. Copies that peers fetch cannot be called back; rm ends only the offer.",
    ]


def _numbers(report: Document) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in report.items())


def _ask(session: Session, public: Document) -> None:
    """Consent, or E0701."""
    if session.flags.yes:
        return
    refused = LocalError(
        "E0701",
        f"{public['name']} is not published without your consent",
        why=[*disclosure(public)] if not session.may_ask else [],
        fix=["read what becomes public with --dry-run, then add --yes"],
    )
    if not session.may_ask:
        raise refused
    click.echo("\n".join(disclosure(public)), file=sys.stderr)
    if not click.confirm("Publish?", default=False, err=True):
        raise refused


def _pushed(result: Document) -> Sequence[str]:
    told = result.get("announced_to") or 0
    state = [f"advertised in the DHT, announced to {told} peer{'s' * (told != 1)}"]
    if result.get("later"):
        state = [f"not announced yet: {render.clean(result['later'])}; it will be, by itself"]
    hints = [f"next: {render.clean(hint)}" for hint in result.get("hint") or []]
    return [f"✓ published {render.clean(result.get('ref'))}", *state, *hints]
