"""Starting and stopping the node: `up` runs `python -m node`, `down` asks it to end."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

import node
from node import render
from node.client import Client, Document
from node.commands.session import Session, verb
from p2pllm.durable import disk_full
from p2pllm.errors import LocalError, Unavailable

READY_S = 60.0  # on a busy machine; usually 2 s
STOPPED_S = 20.0
POLL_S = 0.05
# -m finds `node` in the working directory first, which could hold another one of that name.
PACKAGES = Path(node.__file__).parent.parent
LOG_TAIL_BYTES = 8192
MAX_LOG_BYTES = 8 * 1024 * 1024  # that a start goes on with; it keeps one older log
LOG_LINES = 12
_ERROR = re.compile(r"error\[(E\d{4})\] (.*)")


@verb(name="up")
@click.option("--detach", is_flag=True, help="In the background; the log is HOME/run/log.")
@click.option("--listen", multiple=True, metavar="MADDR", help="Listen there; may be given again.")
@click.option("--bootstrap", multiple=True, metavar="MADDR", help="A seed, /ip4/…/p2p/ID.")
@click.option("--follow", multiple=True, metavar="PLACE", help="Hear of new models there.")
@click.option(
    "--quota",
    type=click.FloatRange(0, min_open=True),
    metavar="GIB",
    help="Disk that models may take, in GiB [20].",
)
def up(
    session: Session,
    detach: bool,
    listen: tuple[str, ...],
    bootstrap: tuple[str, ...],
    follow: tuple[str, ...],
    quota: float | None,
) -> None:
    """Start the node: it stays until Ctrl-C, `p2pllm down`, or, with --detach, for good."""
    client = session.client()
    if (status := session.client(5.0).running()) is not None:
        raise LocalError(
            "E0303",
            f"a daemon already runs on {session.home}",
            why=[f"pid {status.get('pid')} answers at {session.api}"],
            fix=["p2pllm status", "p2pllm down", "or another --home"],
            details={"pid": status.get("pid")},
        )
    command = daemon_command(
        session.home, {"--listen": listen, "--bootstrap": bootstrap, "--follow": follow}, quota
    )
    if not detach:
        session.say("the node stays in the foreground: Ctrl-C stops it")
        sys.stdout.flush()
        os.chdir(PACKAGES)
        os.execv(command[0], [*command, "--json"] if session.json else command)
    status = _start(session, client, command)
    session.show(status, "p2pllm.status/1", _started, lambda d: [str(d["peer_id"])])
    session.say(f"log      {session.home / 'run' / 'log'}")


def daemon_command(
    home: Path, lists: Mapping[str, Sequence[str]], quota: float | None
) -> list[str]:
    """The daemon's command line; to be run in PACKAGES."""
    command = [sys.executable, "-m", "node", "--home", str(home)]
    for flag, values in lists.items():
        command += [part for value in values for part in (flag, value)]
    return command + (["--quota", str(quota)] if quota else [])


def _start(session: Session, client: Client, command: list[str]) -> Document:
    """Run the daemon in a session of its own, until it answers; its last words if it dies."""
    log = session.home / "run" / "log"
    session.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(mode=0o700, exist_ok=True)
    if log.is_file() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name("log.old"))
    with log.open("ab") as out:
        began = out.tell()
        child = subprocess.Popen(
            command,
            cwd=PACKAGES,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    until = time.monotonic() + (session.flags.timeout_s or READY_S)
    while time.monotonic() < until:
        try:
            child.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            status = client.running()
            if status is not None and status.get("state") != "starting":
                child.returncode = 0  # it lives on without us: nothing to wait for
                return status
        else:
            raise _died(child.returncode, log, began)
    child.returncode = 0
    raise Unavailable(
        "E0501",
        "the daemon has started but does not answer yet",
        why=_tail(log, began),
        fix=["p2pllm status", f"less {log}"],
        details={"pid": child.pid},
    )


def _died(status: int, log: Path, began: int) -> LocalError:
    """Why it ended, in its own words if it left any."""
    last = _tail(log, began)
    said = [index for index, line in enumerate(last) if _ERROR.match(line)]
    match = _ERROR.match(last[said[-1]]) if said else None
    if match is None:
        if not last and shutil.disk_usage(log).free < LOG_TAIL_BYTES:  # not even its last words
            return disk_full(str(log), "no space left")
        fix = ["p2pllm doctor", f"less {log}"]
        return LocalError("E0101", f"the daemon ended with status {status}", why=last, fix=fix)
    words = {
        label: [line[8:] for line in last[said[-1] :] if line.startswith(f"  {label}   ")]
        for label in ("why", "fix")
    }
    return LocalError(match[1], match[2], why=words["why"], fix=[*words["fix"], f"less {log}"])


def _tail(log: Path, began: int) -> list[str]:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(began, end - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-LOG_LINES:]


def _started(status: Document) -> list[str]:
    state = ": ".join(render.clean(status[key]) for key in ("state", "reason") if status.get(key))
    lines = [f"node {render.clean(status.get('peer_id'))} is up: {state}"]
    lines += [f"pid {status.get('pid')}"]
    return lines + [render.clean(address) for address in status.get("addresses", [])]


@verb(name="down")
def down(session: Session) -> None:
    """Stop the node, and wait until it is gone."""
    client = session.client()
    pid = client.get("status").get("pid")
    try:
        client.post("down")
    except LocalError as error:  # it may be gone before its answer is
        if error.code != "E0302":
            raise
    until = time.monotonic() + (session.flags.timeout_s or STOPPED_S)
    while _alive(pid) or session.client(2.0).running() is not None:
        if time.monotonic() > until:
            raise Unavailable(
                "E0501", "the daemon was told to stop and still runs", why=[f"pid {pid}"]
            )
        _pause()
    document = {"pid": pid, "state": "stopped"}
    session.show(document, "p2pllm.down/1", lambda d: [f"stopped (pid {d['pid']})"])


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 1:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # a zombie has ended, whoever has yet to reap it
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def _pause() -> None:
    import threading

    threading.Event().wait(POLL_S)
