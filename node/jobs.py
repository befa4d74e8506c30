"""Long work of a node: start it, follow it, cancel it, remember how it ended."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from node.events import Event, Events
from node.library import Library
from p2pllm.durable import file_fault
from p2pllm.error_codes import exit_status, usual_fix
from p2pllm.errors import LocalError, P2pllmError

log = logging.getLogger(__name__)
PROGRESS_EVERY_S = 0.5  # two progress events a second at most, as the CLI prints them
KEPT_EVENTS = 500  # of one job; progress that is overtaken goes first
KEPT_JOBS = 100  # ended jobs whose events can still be followed

Report = Callable[..., None]
"""report(stage, message=…, done=…, total=…, unit=…, loss=…, eta_s=…): where a job stands."""

Work = Callable[[Report], Awaitable[dict[str, Any]]]


@dataclass
class Job:
    """One piece of long work."""

    job: str
    kind: str
    started_at: float
    state: str = "queued"
    finished_at: float | None = None
    outcome: dict[str, Any] | None = None
    events: list[Event] = field(default_factory=list)
    more: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stage: str = ""
    message: str = ""  # the last that its stage said
    began: tuple[float, float] = (0.0, 0.0)  # when its stage did, and how much was done then
    told_at: float = 0.0  # of progress

    def card(self) -> dict[str, Any]:
        """What the control API shows of it."""
        card: dict[str, Any] = {"job": self.job, "kind": self.kind, "state": self.state}
        card |= {"started_at": self.started_at, "finished_at": self.finished_at}
        if self.finished_at is None and self.message:
            card["message"] = self.message
        return card | (self.outcome or {})


def error_card(error: P2pllmError) -> dict[str, Any]:
    """An error as JSON: docs/errors.md."""
    return {
        "code": error.code,
        "kind": type(error).__name__,
        "message": error.message,
        "why": list(error.why),
        "fix": list(error.fix) or usual_fix(error.code),
        "exit": exit_status(error.code),
        "details": error.details,
    }


def unforeseen(fault: Exception) -> P2pllmError:
    """An exception that no rule here names, as an error."""
    return file_fault(fault) or LocalError(
        "E0101",
        f"unexpected {type(fault).__name__}: {fault}",
        fix=["report it with HOME/run/log, which says where it comes from"],
    )


class Jobs:
    """The jobs of this run of the daemon, each a task of the daemon's nursery."""

    def __init__(
        self, nursery: trio.Nursery, library: Library, events: Events, clock: Callable[[], float]
    ) -> None:
        self._nursery = nursery
        self._library = library
        self._events = events
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._number = int(library.fact("last_job", "0"))
        self._close_stale()

    def _close_stale(self) -> None:
        stopped = LocalError(
            "E1002",
            "the daemon stopped while this ran",
            fix=["give the same command again: it goes on where it stopped"],
        )
        for row in self._library.jobs():
            if row["state"] in ("queued", "running"):
                outcome = msgspec.json.encode({"error": error_card(stopped)}).decode()
                self._library.end_job(row["job"], "failed", self._clock(), outcome)

    def start(self, kind: str, work: Work) -> str:
        """Begin; returns the job's name at once."""
        self._number += 1
        name = f"j{self._number}"
        self._library.set_fact("last_job", str(self._number))
        job = Job(name, kind, self._clock(), state="running")
        self._library.put_job(name, kind, "running", job.started_at)
        self._jobs[name] = job
        ended = [j for j in self._jobs.values() if j.finished_at is not None]
        for old in ended[: max(0, len(ended) - KEPT_JOBS)]:
            del self._jobs[old.job]
        self._nursery.start_soon(self._run, job, work)
        return name

    async def _run(self, job: Job, work: Work) -> None:
        def report(stage: str, **fields: object) -> None:
            self._progress(job, stage, fields)

        error: P2pllmError | None = None
        with job.scope:
            try:
                result = await work(report)
                self._end(job, "done", {"result": result})
                return
            except P2pllmError as known:
                error = known
            except Exception as unknown:  # a bug in one job must not end the daemon
                if file_fault(unknown) is None:
                    log.exception("job %s (%s)", job.job, job.kind)
                error = unforeseen(unknown)
        if error is None:
            error = LocalError("E1001", f"{job.kind} was cancelled")
        state = "cancelled" if error.code == "E1001" else "failed"
        self._end(job, state, {"error": error_card(error)})

    def _progress(self, job: Job, stage: str, fields: dict[str, object]) -> None:
        now, done = self._clock(), fields.get("done")
        job.message = str(fields.get("message", ""))
        if stage != job.stage:
            job.stage, job.began = stage, (now, done if isinstance(done, int) else 0)
        elif now - job.told_at < PROGRESS_EVERY_S:
            return
        job.told_at = now
        if len(job.events) >= KEPT_EVENTS:
            job.events.pop(1)
        left = _time_left(fields, job.began, now)
        self._append(job, {"event": "progress", "job": job.job, "stage": stage, **left, **fields})

    def _append(self, job: Job, entry: Event) -> None:
        entry["seq"] = job.events[-1]["seq"] + 1 if job.events else 1
        job.events.append(entry)
        job.more.set()
        job.more = trio.Event()

    def _end(self, job: Job, state: str, outcome: dict[str, Any]) -> None:
        job.state, job.outcome, job.finished_at = state, outcome, self._clock()
        told = msgspec.json.encode(outcome).decode()
        try:
            self._library.end_job(job.job, state, job.finished_at, told)
        except LocalError as fault:  # such as a full disk: who waits is told
            log.warning("the end of job %s is not written down: %s", job.job, fault)
        event = "result" if state == "done" else "error"
        self._append(job, {"event": event, "job": job.job, **outcome})
        self._events.emit("job", job=job.job, kind=job.kind, state=state)

    def running(self) -> int:
        """How many jobs are under way."""
        return sum(job.finished_at is None for job in self._jobs.values())

    def cancel(self, name: str) -> dict[str, Any]:
        """Ask a job to stop; its state is saved, so it can be given again."""
        job = self._find(name)
        job.scope.cancel()
        return job.card()

    def show(self, name: str) -> dict[str, Any]:
        """Where a job stands, also one of an earlier run of the daemon."""
        if name in self._jobs:
            return self._jobs[name].card()
        for card in self.cards():
            if card["job"] == name:
                return card
        raise _no_job(name)

    def cards(self) -> list[dict[str, Any]]:
        """The latest jobs, newest first."""
        cards = []
        for row in self._library.jobs():
            outcome = msgspec.json.decode(row["outcome"]) if row["outcome"] else {}
            known = {key: row[key] for key in ("job", "kind", "state", "started_at", "finished_at")}
            cards.append({**known, **outcome})
        return cards

    async def follow(self, name: str, after: int, beat_s: float) -> AsyncIterator[Event | None]:
        """A job's events after number `after`, to its result or error; None where it is quiet.

        Of a job of an earlier run there is how it ended, and nothing else.
        """
        if name not in self._jobs:
            yield _ending(self.show(name), after + 1)
            return
        job = self._find(name)
        while True:
            more = job.more
            for entry in [e for e in job.events if e["seq"] > after]:
                after = entry["seq"]
                yield entry
                if entry["event"] in ("result", "error"):
                    return
            with trio.move_on_after(beat_s) as quiet:
                await more.wait()
            if quiet.cancelled_caught:
                yield None

    def _find(self, name: str) -> Job:
        if name not in self._jobs:
            raise _no_job(name)
        return self._jobs[name]


def _ending(card: dict[str, Any], seq: int) -> Event:
    kind = "result" if "result" in card else "error"
    told = card.get(kind) or error_card(_no_job(card["job"]))
    return {"event": kind, "job": card["job"], "seq": seq, kind: told}


def _time_left(
    fields: dict[str, object], began: tuple[float, float], now: float
) -> dict[str, object]:
    """How long a stage that does not say so will still take, if it goes on as it did."""
    done, total = fields.get("done"), fields.get("total")
    if not isinstance(done, int) or not isinstance(total, int):
        return {}
    at, first = began
    if not first < done < total or now <= at:
        return {}
    return {"eta_s": (now - at) / (done - first) * (total - done)}


def _no_job(name: str) -> LocalError:
    return LocalError("E0404", f"no job {name[:40]!r}", fix=["p2pllm jobs ls"])
