"""What this node thinks of others and why: `trust ls|explain|set|probes`."""

from collections.abc import Iterator

import click

from node import plain_words, render
from node.client import Document
from node.commands.evidence import MEASURE_S, recomputed
from node.commands.follow import absolute
from node.commands.session import Session, complete_refs, verb, verbs


@verb(name="ls")
@click.option("--place", help="Of this place alone, such as en/medical.")
def ls(session: Session, place: str | None) -> None:
    """What this node thinks of each peer, place by place, and what waits to be judged."""
    document = session.client().get("trust", place=place)
    session.show(
        document, "p2pllm.trust/1", _standings, lambda d: [str(p["peer_id"]) for p in d["peers"]]
    )


def _standings(document: Document) -> list[str]:
    rows = [
        (
            peer["peer_id"],
            peer["place"],
            peer["state"],
            f"{peer['score']:.2f}",
            f"{peer['weight']:.2f}",
            peer["rounds"],
            _tally(peer.get("updates") or {}),
            render.moment(peer.get("since")),
        )
        for peer in document["peers"]
    ]
    heads = ("PEER", "PLACE", "STATE", "SCORE", "WEIGHT", "ROUNDS", "UPDATES", "SINCE")
    lines = render.table(heads, rows) if rows else ["no peer was judged yet"]
    return [*lines, *place_lines(document)]


def _tally(updates: Document) -> str:
    parts = [
        f"{updates[name]} {name}" for name in ("accepted", "held", "rejected") if name in updates
    ]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def place_lines(document: Document) -> list[str]:
    """A line a place: with how much text it judges, and why it does not."""
    lines = []
    for place in document.get("places") or []:
        counts = f"{place['probes']} probe documents, {place['judged']} rounds judged, "
        served = f"{place['served']} updates served, " if "served" in place else ""
        name = render.clean(place["place"])
        lines.append(f"{name}: {counts}{served}{place['pending']} waiting")
        if place.get("blocked"):
            lines.append(f"  not judging: {render.clean(place['blocked'])}")
    return lines


@verb(name="explain")
@click.argument("subject", shell_complete=complete_refs)
@click.option("--all", "every", is_flag=True, help="Every verdict, not the last of each update.")
def explain(session: Session, subject: str, every: bool) -> None:
    """Why a peer or an update stands as it does: each number, its limit, what it means.

    SUBJECT is a peer id, a reference, a manifest or a place, of which it tells what the gate
    decided. Every verdict is computed again here, from the evidence. Ends with status 6 where one
    does not come out the same.
    """
    client = session.client(MEASURE_S)
    document = client.get("trust/explain", subject=subject)
    document["recomputed"] = recomputed(client, subject, document)
    session.show(document, "p2pllm.explanation/1", lambda d: list(explanation(d, every=every)))
    if document["recomputed"]["faults"]:
        click.get_current_context().exit(6)


def explanation(document: Document, *, every: bool = False) -> Iterator[str]:
    """An explanation for people."""
    yield _subject(document.get("subject") or {})
    verdicts = document.get("verdicts") or []
    shown = verdicts if every else last_of_each(verdicts)
    for verdict in shown:
        yield ""
        yield from verdict_lines(verdict)
    if len(shown) < len(verdicts):
        yield ""
        yield f"{len(verdicts) - len(shown)} earlier verdicts: --all"
    yield from _undecided(document)
    yield from gate_lines(document.get("gate") or [])
    yield from _served(document)
    yield from _said(document)
    yield ""
    yield _proof(document["recomputed"])
    yield from (f"  {render.clean(fault)}" for fault in document["recomputed"]["faults"])


def _undecided(document: Document) -> Iterator[str]:
    """Updates that there is no verdict on, and why."""
    judged = {one["manifest"] for one in document.get("verdicts") or []}
    for one in document.get("updates") or []:
        if one["manifest"] not in judged:
            why = f": [{one['code']}] {one['message']}" if one.get("code") else ""
            said = plain_words.UPDATES.get(one["state"], one["state"])
            where = f"{render.short_id(one['manifest'])} at {render.clean(one['place'])}"
            yield f"{where} {render.clean(said)}{render.clean(why)}"


def last_of_each(verdicts: list[Document]) -> list[Document]:
    """The latest verdict on each update at each place."""
    latest = {(one["place"], one["manifest"]): one for one in verdicts}
    return [one for one in verdicts if latest[one["place"], one["manifest"]] is one]


def _subject(subject: Document) -> str:
    named = [subject.get(key) for key in ("ref", "peer_id", "manifest", "place")]
    states = subject.get("states") or {}
    shown = [f"{state} at {place}" for place, state in states.items()]
    return " · ".join(render.clean(part) for part in (*named, *shown) if part)


def verdict_lines(verdict: Document) -> Iterator[str]:
    """One verdict: what was decided, when, by whom; then its numbers."""
    decision, manifest = render.clean(verdict["decision"]), render.short_id(verdict["manifest"])
    where = f"{render.clean(verdict['place'])}, round {verdict['round']}"
    peer, when = render.short_id(verdict["peer_id"]), render.moment(verdict.get("judged_at"))
    state = render.clean(verdict["state"])
    yield f"{decision}: {manifest} of {peer}; {where}, {when}; peer {state}"
    yield f"weight {verdict['weight']:.3f}, scaled by {verdict['scale']:.3f}; {_signed(verdict)}"
    wrong = plain_words.against(verdict["reasons"])
    yield f"against it: {wrong}" if wrong else "nothing speaks against it"
    if probe := verdict.get("probe"):
        yield plain_words.probe_line(probe["before"], probe["after"])
    yield from plain_words.reason_rows(verdict["reasons"])
    yield from plain_words.feature_rows(verdict.get("features") or {})


def _signed(verdict: Document) -> str:
    ok = verdict.get("signature_ok")
    if ok is None:
        return "our own update, which nobody signs a verdict on"
    return "its signature holds" if ok else "NO VALID SIGNATURE"


def gate_lines(decisions: list[Document]) -> Iterator[str]:
    """What the gate decided: a line a decision, and under it what it was held against."""
    if decisions:
        yield ""
        yield "the gate: does it help text here and at other keepers, and spare the rest?"
    for one in decisions:
        where = f"{render.clean(one['place'])}, {render.moment(one.get('decided_at'))}"
        said = plain_words.STAGES.get(one["stage"], render.clean(one["stage"]))
        yield f"{said}: {render.clean(one['outcome'])} {render.short_id(one['manifest'])}; {where}"
        for check in one.get("checks") or []:
            yield plain_words.check_line(check)
        for told in one.get("told") or []:
            gain = f"{told['mean']:+.4f} ± {told['error']:.4f} nats a token"
            yield (
                f"    text of {render.short_id(told['by'])} gained {gain} on {told['documents']}"
                f" documents; its word counts {told['word']:.2g}"
            )
        if one.get("alone"):
            yield f"    {one.get('others', 0)} other keepers: own text had to show more"


def _served(document: Document) -> Iterator[str]:
    """What became of the subject's updates where the candidate to be served was probed."""
    for event in document.get("served") or []:
        place = render.clean(event["place"])
        if event.get("taken"):
            losses = f"loss {event['before']:.4f} before, {event['after']:.4f} after"
            yield f"{place}: {len(event['taken'])} taken into what is served, {losses}"
        for one in event.get("unfit") or []:
            named = plain_words.against([one]) or f"{one['code']} {one['value']:.4g}"
            yield f"{place}: {render.short_id(one['update'])} is not served: {render.clean(named)}"
        if event.get("dropped"):
            yield f"{place}: {len(event['dropped'])} taken out of what is served"


def _said(document: Document) -> Iterator[str]:
    reports = document.get("reports") or []
    if reports:
        yield ""
        yield "said by others (moves a score a little, a state never)"
        rows = [
            (r["by"], r["what"], r.get("value"), r.get("weight"), r.get("signature_ok"))
            for r in reports
        ]
        yield from render.table(("BY", "WHAT", "VALUE", "ITS WORD COUNTS", "SIGNED"), rows)
    for act in document.get("operator") or []:
        where = f"{render.clean(act['place'])}, {render.moment(act['at'])}"
        yield f"operator: {render.clean(act['act'])} at {where}: {render.clean(act['reason'])}"


def _proof(found: Document) -> str:
    if found.get("why"):
        return f"not recomputed: {render.clean(found['why'])}"
    total, equal = found["verdicts"], found["equal"]
    if not total:
        return "nothing signed to recompute"
    if found["faults"]:
        return f"DOES NOT RECOMPUTE: {equal} of {total} verdicts are the recorded ones"
    return f"recomputed here from the ledger: {equal} of {total} signed verdicts come out the same"


@verb(name="set")
@click.argument("peer")
@click.argument("state", type=click.Choice(["trusted", "probation"]))
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--place", help="At this place alone.")
def set_(session: Session, peer: str, state: str, reason: str, place: str | None) -> None:
    """Decide yourself what a peer is: trusted, or on probation."""
    body = {"peer": peer, "state": state, "reason": reason, "place": place}
    given = {name: value for name, value in body.items() if value is not None}
    document = session.client().post("trust", given)
    where = f" at {place}" if place else ""
    session.show(
        document, "p2pllm.trust-set/1", lambda d: [f"{render.clean(peer)} is {state}{where}"]
    )


@verb(name="ls")
def probes_ls(session: Session) -> None:
    """With how much text each place is judged."""
    document = session.client().get("trust")
    session.show(
        document,
        "p2pllm.trust/1",
        lambda d: place_lines(d) or ["no place has probes; p2pllm trust probes add PLACE FILE"],
        lambda d: [str(place["place"]) for place in d.get("places") or []],
    )


@verb(name="add")
@click.argument("place")
@click.argument("files", nargs=-1, required=True, type=click.Path())
def probes_add(session: Session, place: str, files: tuple[str, ...]) -> None:
    """Judge a place's updates with this text, which stays on this machine.

    FILES hold text of the kind that the place is about: .txt, .md, .jsonl, or folders of them.
    """
    body = {"place": place, "paths": absolute(list(files))}
    _show_probes(session, session.client(MEASURE_S).post("trust/probes", body))


@verb(name="rm")
@click.argument("place")
@click.argument("files", nargs=-1, type=click.Path())
def probes_rm(session: Session, place: str, files: tuple[str, ...]) -> None:
    """Judge a place's updates no longer with this text.

    FILES as one add was given them; without any, all text of the place. The node removes its copy,
    your files stay.
    """
    asking = not files and session.may_ask and not session.flags.yes
    all_of_it = f"Remove all text that judges {render.clean(place)}?"
    if asking and not click.confirm(all_of_it, err=True):
        session.say("nothing removed")
        return
    body = {"place": place, "paths": absolute(list(files))}
    _show_probes(session, session.client(MEASURE_S).delete("trust/probes", body))


def _show_probes(session: Session, document: Document) -> None:
    place, count = render.clean(document["place"]), document["documents"]
    said = f"{count} documents judge {place}" if count else f"no text judges {place} any more"
    session.show(document, "p2pllm.probes/1", lambda d: [said])


probes = verbs(
    "probes", "Text that updates are judged with.", [probes_ls, probes_add, probes_rm], probes_ls
)
trust = verbs("trust", "What this node thinks of others, and why.", [ls, explain, set_, probes], ls)
