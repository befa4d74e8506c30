"""`learn`: go on learning from text that keeps coming, look at it, stop it, take it back."""

import click

from node import render
from node.client import Document
from node.commands import options
from node.commands.follow import absolute, run_job
from node.commands.session import Session, complete_refs, verb, verbs


@verb(name="start", long=True)
@click.argument("target", shell_complete=complete_refs)
@options.data("Text to learn: .txt, .jsonl or a folder that grows")
@click.option(
    "--base", metavar="REF", shell_complete=complete_refs, help="The base [the only one]."
)
@click.option("--place", help="Where it belongs, if TARGET is a base: LANG/DOMAIN/SUB.")
@click.option("--name", help="What to call the adapter [learnt, or as the adapter].")
@click.option("--once", is_flag=True, help="Take one step, and wait for it.")
@click.option("--every", "every_s", type=click.FloatRange(0.1), help="Seconds between looks [10].")
@click.option("--min-tokens", type=click.IntRange(1), help="Wait for so much new text [2048].")
@click.option("--steps", type=click.IntRange(1), help="Batches a step.")
@click.option("--batch", type=click.IntRange(1), help="New sequences a batch.")
@click.option("--replay", type=click.IntRange(0), help="Made-up sequences a batch.")
@click.option("--seq", type=click.IntRange(16), help="Tokens a sequence.")
@options.LR
@click.option("--rank", type=click.IntRange(1, 1024), help="Rank of a new adapter.")
@options.THREADS
@options.LICENCE
def start(session: Session, target: str, **given: object) -> None:
    """Learn what is new in your text, now and as it comes; it stays on this machine.

    TARGET is a place, an adapter to go on from, or a base. Nothing is published.
    """
    data = given.pop("data")
    assert isinstance(data, tuple)
    body = {"kind": "learn", "target": target, "data": absolute(data), **given}
    if given["once"]:
        run_job(session, body, _learnt, "learners")
        return
    asked = {key: value for key, value in body.items() if value is not None}
    document = session.client().post("learners", asked)
    session.show(document, "p2pllm.job/1", _started, lambda d: [str(d["job"])])


def _started(document: Document) -> list[str]:
    return [f"✓ learning as job {document['job']}", "p2pllm learn status"]


def _learnt(result: Document) -> list[str]:
    if not result.get("step"):
        return [f"too little new text: {result.get('waiting_tokens')} tokens"]
    before, after = float(result.get("before") or 0), float(result.get("after") or 0)
    refused = result.get("refused") or {}
    return [
        f"✓ {render.clean(result.get('ref'))}",
        f"step {result.get('step')}: {result.get('documents')} documents, loss {before:.4f} -> "
        f"{after:.4f} nats a token on new text held out",
        f"forgotten of earlier text: {float(result.get('forgetting') or 0):+.4f} nats a token",
        f"{result.get('pool_rows')} made-up rows kept, {sum(refused.values())} refused",
        f"next: p2pllm push {render.clean(result.get('ref'))} --licence SPDX",
    ]


@verb(name="status")
@click.argument("learner", required=False)
def status(session: Session, learner: str | None) -> None:
    """All learners, or the steps of one."""
    client = session.client()
    document = client.get("learners", learner=learner) if learner else client.get("learners")
    session.show(
        document,
        "p2pllm.learners/1",
        _steps if learner else _learners,
        lambda d: [str(one["learner"]) for one in d["learners"]],
    )


def _learners(document: Document) -> list[str]:
    rows = [
        (
            render.clean(one.get("learner")),
            str(one.get("state")),
            str(one.get("head")),
            str(one.get("documents_seen")),
            f"{float(one.get('forgetting') or 0):+.4f}",
        )
        for one in document["learners"]
    ]
    titles = ("LEARNER", "STATE", "STEP", "DOCUMENTS", "FORGOTTEN")
    waits = [one for one in document["learners"] if one.get("message")]
    told = [f"{render.clean(one['learner'])}: {render.clean(one['message'])}" for one in waits]
    return [*render.table(titles, rows), *told] if rows else ["no learners"]


def _steps(document: Document) -> list[str]:
    lines = _learners(document)
    rows = [
        (
            str(step.get("number")),
            render.moment(step.get("at")),
            str(step.get("documents")),
            f"{float(step.get('before') or 0):.4f} -> {float(step.get('after') or 0):.4f}",
            f"{float(step.get('forgetting') or 0):+.4f}",
            render.clean(step.get("ref") or ""),
        )
        for step in document["learners"][0]["steps"]
    ]
    titles = ("STEP", "AT", "DOCUMENTS", "LOSS ON NEW", "FORGOTTEN", "ADAPTER")
    return [*lines, "", *render.table(titles, rows)] if rows else lines


@verb(name="stop")
@click.argument("learner")
def stop(session: Session, learner: str) -> None:
    """Stop learning; what was learnt stays, and `learn start` goes on."""
    document = session.client().post("learners/stop", {"learner": learner})
    session.show(document, "p2pllm.learner.stop/1", lambda d: [f"✓ {d['learner']} stopped"])


@verb(name="rollback")
@click.argument("learner")
@click.option("--to", type=click.IntRange(0), help="The step [the one before]; 0 is the base.")
@click.option("--again", is_flag=True, help="What was learnt since may be learnt again.")
def rollback(session: Session, learner: str, to: int | None, again: bool) -> None:
    """Take a learner back to an earlier step, and forget the adapters of those after it."""
    body = {"learner": learner, "to": to, "again": again}
    asked = {key: value for key, value in body.items() if value is not None}
    document = session.client().post("learners/rollback", asked)
    session.show(document, "p2pllm.learner.rollback/1", _back)


def _back(document: Document) -> list[str]:
    lines = [f"✓ {render.clean(document.get('learner'))} is at step {document.get('head')}"]
    still = [render.clean(ref) for ref in document.get("still_offered") or []]
    return [*lines, *(f"still offered: {ref}; p2pllm rm takes it back" for ref in still)]


learn = verbs(
    "learn", "Go on learning from text that keeps coming.", [start, status, stop, rollback]
)
