"""Long work of this node, under way and past: list it, look at one, cancel one."""

import click

from node import render
from node.client import Document
from node.commands.session import Session, verb, verbs


@verb(name="ls")
def ls(session: Session) -> None:
    """The latest jobs, newest first."""
    document = session.client().get("jobs")
    session.show(document, "p2pllm.jobs/1", _lines, lambda d: [str(j["job"]) for j in d["jobs"]])


def _lines(document: Document) -> list[str]:
    rows = [
        (
            job["job"],
            job["kind"],
            job["state"],
            render.moment(job.get("started_at")),
            _outcome(job),
        )
        for job in document["jobs"]
    ]
    return (
        render.table(("JOB", "KIND", "STATE", "STARTED", "OUTCOME"), rows) if rows else ["no jobs"]
    )


def _outcome(job: Document) -> str:
    if error := job.get("error"):
        return f"{error.get('code')} {error.get('message')}"
    return str((job.get("result") or {}).get("ref") or "")


@verb(name="show")
@click.argument("job")
def show(session: Session, job: str) -> None:
    """How one job stands or ended."""
    document = session.client().get(f"jobs/{job}")
    session.show(document, "p2pllm.job/1", _one)


def _one(job: Document) -> list[str]:
    shown = {**job, "started_at": render.moment(job.get("started_at"))}
    shown["finished_at"] = render.moment(job.get("finished_at"))
    error = shown.pop("error", None)
    lines = render.fields(render.flat(shown))
    if error:
        lines += render.error_lines({"why": [], "fix": [], **error})
    return lines


@verb(name="cancel")
@click.argument("job")
def cancel(session: Session, job: str) -> None:
    """Stop a job; what it has done so far is kept."""
    document = session.client().delete(f"jobs/{job}")
    session.show(document, "p2pllm.job/1", _cancelled)


def _cancelled(job: Document) -> list[str]:
    name, over = render.clean(job.get("job")), job.get("finished_at") is not None
    return [f"{name} had ended: {render.clean(job.get('state'))}" if over else f"cancelling {name}"]


jobs = verbs("jobs", "Long work, under way and past.", [ls, show, cancel], ls)
