"""Long work: give it to the daemon, show how it goes, end with its result or its error.

The job is the daemon's. Ctrl-C here cancels it there, and its saved state stays.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from node.client import Client, DaemonError, Document
from node.commands.session import Session, Terminated
from node.progress import View, open_view
from p2pllm.errors import LocalError, P2pllmError, Unavailable

CANCEL_S = 1.5  # how long we wait for a cancelled job to end: Ctrl-C is obeyed in 2 s
QUIET_S = 15.0  # without an event for so long, we ask whether the job has ended unheard
RETRY_S = 0.5
RETRIES = 10  # of a broken event stream; 5 s cover a restart of the daemon
ENDED = ("result", "error")
MOVES = ("event", "stage", "done", "message")  # what differs in an event when work went on
Events = queue.SimpleQueue[Document | P2pllmError]


class StoppedError(LocalError):
    """A signal ended us, and we cancelled the job."""

    kind = "LocalError"  # what it is called where it is read

    def __init__(self, job: str, signal: BaseException) -> None:
        word = "interrupted" if isinstance(signal, KeyboardInterrupt) else "terminated"
        fix = ["give the command again: it goes on where it can, or begins anew"]
        super().__init__("E1001", f"{word}; job {job} cancelled", fix=fix, details={"job": job})
        self.exit = 130 if isinstance(signal, KeyboardInterrupt) else 143


class Watch:
    """When a job last moved, how long it may stand still, and where its events are shown."""

    def __init__(self, view: View, patience_s: float | None) -> None:
        self._view = view
        self._patience_s = math.inf if patience_s is None else patience_s
        self._moved = time.monotonic()
        self._stand: tuple[object, ...] = ()

    def show(self, event: Document, now: float) -> None:
        """Show an event; one that says what the last one said is no movement."""
        if (stand := tuple(event.get(key) for key in MOVES)) != self._stand:
            self._stand, self._moved = stand, now
        self._view.show(event, now)

    def until(self, now: float) -> float:
        """When to look again, should no event come."""
        return min(now + QUIET_S, self._moved + self._patience_s)

    def overdue(self, now: float) -> bool:
        """It has stood still for too long."""
        return now >= self._moved + self._patience_s


def run_job(
    session: Session,
    body: Document,
    human: Callable[[Document], Iterable[str]],
    path: str = "jobs",
) -> Document:
    """Start the job that `body` describes, follow it to its end, and write its result.

    `human` makes lines out of the result. A job that fails raises what went wrong.
    """
    job, result = _ended_well(session, body, path)
    kind = str(body["kind"])
    if session.json:
        session.emit(
            {"event": "result", "job": job, "kind": kind, "result": result}, "p2pllm.event/1"
        )
    elif session.quiet:
        session.write([str(result.get("ref") or result.get("path") or job)])
    else:
        session.write(human(result))
    return result


def _ended_well(session: Session, body: Document, path: str) -> tuple[str, Document]:
    """A job and its result; begun again where it failed because the daemon was starting."""
    client = session.client()
    while True:
        started = client.post(path, {k: v for k, v in body.items() if v is not None})
        try:
            return str(started["job"]), _follow(session, str(started["job"]))
        except DaemonError as early:
            if not client.awaited(early):
                raise


def _follow(session: Session, job: str) -> Document:
    client = session.client()
    view = open_view(session.emit if session.json else None, session.quiet)
    events: Events = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(client, job, events), daemon=True)
    reader.start()
    try:
        last = _until_end(client, job, events, Watch(view, session.flags.timeout_s))
    except TimeoutError:
        _cancel(client, job, events)
        raise Unavailable(
            "E0501",
            f"job {job} moved nothing for {session.flags.timeout_s:g} s and was cancelled",
            fix=["give the command again: it goes on where it can", "p2pllm doctor"],
            details={"job": job},
        ) from None
    except (KeyboardInterrupt, Terminated) as signal:
        view.end()
        _cancel(client, job, events)
        raise StoppedError(job, signal) from signal
    finally:
        view.end()
    if last["event"] == "error":
        card = dict(last.get("error") or last)
        card["details"] = {**(card.get("details") or {}), "job": job}
        raise DaemonError(card)
    return _result_of(last)


def _result_of(last: Document) -> Document:
    result = last.get("result")
    if isinstance(result, dict):
        return result
    return {key: value for key, value in last.items() if key not in ("event", "job", "seq", "at")}


def _until_end(client: Client, job: str, events: Events, watch: Watch) -> Document:
    """Show events up to the last one; TimeoutError if nothing moves for as long as may be."""
    while True:
        try:
            event = _next(events, watch.until(time.monotonic()))
        except TimeoutError:
            if watch.overdue(time.monotonic()):
                raise
            if (last := _ended(client.get(f"jobs/{job}"))) is not None:
                return last
            continue
        if event["event"] in ENDED:
            return event
        watch.show(event, time.monotonic())


def _next(events: Events, until: float) -> Document:
    try:
        shown = events.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(shown, P2pllmError):
        raise shown
    return shown


def _cancel(client: Client, job: str, events: Events) -> None:
    """Ask the daemon to stop the job and wait a little; a daemon that is gone has stopped it."""
    until = time.monotonic() + CANCEL_S
    try:
        Client(client.path, CANCEL_S).delete(f"jobs/{job}")
        while _next(events, until)["event"] not in ENDED:
            pass
    except (P2pllmError, TimeoutError):
        return


def _read(client: Client, job: str, events: Events) -> None:
    """Put a job's events into the queue, over broken streams, up to its end or an error."""
    after, pause = 0, threading.Event()
    for attempt in range(RETRIES + 1):
        try:
            for event in client.events(job, after):
                after = max(after, int(event.get("seq") or 0))
                events.put(event)
                if event["event"] in ENDED:
                    return
            if (last := _ended(client.get(f"jobs/{job}"))) is not None:
                events.put(last)
                return
        except DaemonError as refused:
            events.put(refused)
            return
        except P2pllmError as broken:
            if attempt == RETRIES:
                events.put(_lost(job, broken))
                return
        pause.wait(RETRY_S)
    events.put(_lost(job, LocalError("E0302", "its event stream keeps breaking")))


def _ended(card: Document) -> Document | None:
    """The last event of a job whose stream broke before it, out of what the daemon remembers."""
    if card.get("state") == "done":
        return {"event": "result", "result": card.get("result") or {}}
    if card.get("state") in ("failed", "cancelled"):
        return {"event": "error", "error": card.get("error") or {"code": "E1002"}}
    return None


def _lost(job: str, broken: P2pllmError) -> P2pllmError:
    return LocalError(
        "E0302",
        f"the daemon is gone while job {job} was under way",
        why=[broken.message, *broken.why],
        fix=["p2pllm up --detach", f"p2pllm jobs show {job}", "give the command again"],
        details={"job": job},
    )


def finish(session: Session, body: Document) -> Document:
    """Start a job and follow it to its end without writing its result."""
    return _ended_well(session, body, "jobs")[1]


def absolute(paths: Iterable[Any]) -> list[str]:
    """Paths as the daemon can use them: it has another working directory."""
    from pathlib import Path

    return [str(Path(str(path)).expanduser().absolute()) for path in paths]
