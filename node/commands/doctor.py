"""`doctor`: every check of this machine at once, five seconds in all, each with its fix."""

import queue
import threading
import time
from collections.abc import Sequence

import click

from node import render
from node.client import Document
from node.commands.checks import CHECKS, Found
from node.commands.session import Session, verb

ALL_S = 5.0
MARKS = {"pass": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "skip": ("-", "")}


@verb(name="doctor")
@click.argument("checks", nargs=-1, metavar="[CHECK]...")
@click.option("--check", "more", multiple=True, metavar="CHECK", help="Only this one; repeatable.")
def doctor(session: Session, checks: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Check this machine: installation, home, disk, clock, daemon, network, embedded model.

    Ends with status 1 where a check fails, 10 where one warns.
    """
    wanted = [*checks, *more] or list(CHECKS)
    if unknown := [name for name in wanted if name not in CHECKS]:
        raise click.BadParameter(f"{', '.join(unknown)}: the checks are {', '.join(CHECKS)}")
    found = _run(session, list(dict.fromkeys(wanted)))
    document = {"checks": [_record(name, found[name]) for name in found]}
    session.show(document, "p2pllm.doctor/1", lambda d: _lines(d["checks"]))
    states = {one.status for one in found.values()}
    status = 1 if "fail" in states else 10 if "warn" in states else 0
    click.get_current_context().exit(status)


def _run(session: Session, wanted: Sequence[str]) -> dict[str, Found]:
    """What each check found, in the order asked; one that is too slow warns of that."""
    answers: queue.SimpleQueue[tuple[str, Found]] = queue.SimpleQueue()

    def one(name: str) -> None:
        try:
            answers.put((name, CHECKS[name](session)))
        except OSError as error:
            answers.put((name, Found("fail", "cannot be checked", detail=str(error))))

    until = time.monotonic() + min(session.flags.timeout_s or ALL_S, ALL_S)
    for name in wanted:
        threading.Thread(target=one, args=(name,), daemon=True).start()
    found = {name: Found("warn", "no answer in time", detail=f"{ALL_S:g} s") for name in wanted}
    for _ in wanted:
        try:
            name, answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        found[name] = answer
    return found


def _record(name: str, found: Found) -> Document:
    return {
        "name": name,
        "status": found.status,
        "message": found.message,
        "detail": found.detail,
        "fix": found.fix,
    }


def _lines(records: Sequence[Document]) -> list[str]:
    lines = []
    longest = max(len(str(record["name"])) for record in records)
    for record in records:
        mark, colour = MARKS[record["status"]]
        head = click.style(f"{mark} {record['name']:<{longest}}", fg=colour or None)
        lines.append(f"{head}  {render.clean(record['message'])}")
        if record["status"] in ("warn", "fail"):
            space = " " * (longest + 4)
            lines += [
                f"{space}{name:<6}  {render.clean(record[name])}"
                for name in ("detail", "fix")
                if record[name]
            ]
    return lines
