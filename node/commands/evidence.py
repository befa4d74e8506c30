"""Evidence as a file that checks itself: `evidence export|verify`; verifying needs no daemon."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from node import plain_words, render
from node.client import Client, Document
from node.commands.session import Session, complete_refs, verb, verbs
from p2pllm.errors import LocalError, P2pllmError

MEASURE_S = 120.0  # for a daemon that replays a long ledger
NO_LEDGER = ("E0404", "E0407", "E0402")  # nothing was judged, so there is nothing to recompute


def recomputed(client: Client, subject: str, document: Document) -> Document:
    """How many of a subject's verdicts come out the same when computed again here."""
    places = sorted({str(one["place"]) for one in document.get("verdicts") or []})
    found: Document = {"verdicts": 0, "equal": 0, "faults": [], "why": ""}
    if not places:
        return {**found, "why": "there is no verdict"}
    for place in places:
        try:
            card = verified_card(client.get_bytes("trust/evidence", subject=subject, place=place))
        except P2pllmError as refused:
            if refused.code not in NO_LEDGER:
                raise
            return {**found, "why": refused.message}
        found["verdicts"] += sum(one["recorded"] != "absent" for one in card["verdicts"])
        found["equal"] += sum(one["recorded"] == "equal" for one in card["verdicts"])
        found["faults"] += card["faults"]
    return found


def verified_card(raw: bytes) -> Document:
    """What a bundle proves, as a document; PeerError if it cannot be replayed at all."""
    # Loaded here: the other verbs need neither signatures nor the judge.
    import msgspec

    from trust.verified import verify

    found = verify(raw)
    card: Document = msgspec.to_builtins(found)
    for verdict in card["verdicts"]:
        verdict["features"].pop("sketch")
    card["reports"] = [
        {name: one[name] for name in ("by", "seq", "update", "verdict", "epoch", "observed_at")}
        for one in card["reports"]
    ]
    return {**card, "sound": found.sound}


@verb(name="export")
@click.argument("subject", shell_complete=complete_refs)
@click.option("-o", "--output", required=True, type=click.Path(), help="The file to write.")
@click.option("--place", help="Of this place, where the subject is known at several.")
def export(session: Session, subject: str, output: str, place: str | None) -> None:
    """Write all that this node saw of a peer or update to a file that anybody can verify.

    It holds numbers and signatures, no text and no weights; also numbers of other peers' updates of
    the same rounds, since a verdict depends on them.
    """
    raw = session.client(MEASURE_S).get_bytes("trust/evidence", subject=subject, place=place)
    card = verified_card(raw)
    path = Path(output).expanduser().absolute()
    _write(path, raw)
    document = {"path": str(path), "size_bytes": len(raw), "sound": card["sound"]}
    document |= {"verdicts": len(card["verdicts"]), "subject": card["subject"]}
    session.show(document, "p2pllm.evidence/1", _written, lambda d: [str(d["path"])])


def _write(path: Path, raw: bytes) -> None:
    from p2pllm.durable import full_disk_is_expected, replace_file

    if path.exists() and not path.is_file():  # it would be replaced, were it a device
        raise LocalError("E0204", f"{path} is no file", fix=["name a file that may be replaced"])
    if not path.parent.is_dir():
        raise LocalError(
            "E0204", f"no folder {path.parent}", fix=["name a file in one that is there"]
        )
    with full_disk_is_expected(f"the evidence in {path}"):
        replace_file(path, raw)


def _written(document: Document) -> list[str]:
    path, size = render.clean(document["path"]), render.size(document["size_bytes"])
    return [f"{document['verdicts']} verdicts, {size}, in {path}", f"p2pllm evidence verify {path}"]


@verb(name="verify")
@click.argument("file", type=click.Path())
@click.option("--all", "every", is_flag=True, help="Every verdict with its numbers.")
def verify(session: Session, file: str, every: bool) -> None:
    """Compute every verdict in a file of evidence again; no node is needed.

    Ends with status 6 where one is not the recorded one, or the file is forged.
    """
    card = verified_card(_read(Path(file).expanduser()))
    session.show(card, "p2pllm.verified/1", lambda d: list(_proved(d, every)))
    if not card["sound"]:
        click.get_current_context().exit(6)


def _read(path: Path) -> bytes:
    from trust.bundle import MAX_BUNDLE_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as fault:
        why = [fault.strerror or type(fault).__name__]
        raise LocalError("E0402", f"cannot read {path}", why=why, fix=["check the path"]) from fault


def _proved(card: Document, every: bool) -> Iterator[str]:
    verdicts = card["verdicts"]
    equal = sum(one["recorded"] == "equal" for one in verdicts)
    read = sum(one["measured"] == "equal" for one in verdicts)
    yield f"subject   {card['subject']}"
    yield f"judged by {card['by']}, at {render.clean(card['place'])}, {card['rounds']} rounds"
    yield f"stands as {card['state']}, score {card['score']:.2f}, {card['strikes']} strikes"
    signed = sum(one["recorded"] != "absent" for one in verdicts)
    yield f"verdicts  {len(verdicts)} recomputed, {signed} of them signed, {equal} the same"
    if read:
        yield f"features  {read} read again out of the measurements, all the same"
    for act in card["operator"]:
        yield f"operator  {act['act']}: {render.clean(act['reason'])}"
    others = [one for one in card["reports"] if one["by"] != card["by"]]
    if others:
        yield f"witnesses {len(others)} signed observations of others, which moved no state"
    for one in verdicts:
        yield from _verdict(one, every)
    yield from (f"FAULT     {render.clean(fault)}" for fault in card["faults"])
    yield "holds" if card["sound"] else "DOES NOT HOLD"


def _verdict(one: dict[str, Any], every: bool) -> Iterator[str]:
    verdict = one["verdict"]
    against = plain_words.against(verdict["reasons"]) or "nothing against it"
    name = render.short_id(verdict["update"])
    yield f"round {one['round']}: {verdict['decision']} {name}, then {verdict['state']}: {against}"
    for probe in one["probe"][: None if every else 1]:
        yield "  " + plain_words.probe_line(probe["before"], probe["after"], probe["domain"])
    if every:
        yield from ("  " + line for line in plain_words.reason_rows(verdict["reasons"]))
        yield from ("  " + line for line in plain_words.feature_rows(one["features"]))


evidence = verbs("evidence", "Evidence as a file that checks itself.", [export, verify])
