"""The assistant: `ask` takes a wish in plain words and answers with the recommender's own pick."""

import click
import msgspec

from node import render
from node.client import Document
from node.commands.advise import advice_lines, advise, fetch
from node.commands.session import Session, verb
from p2pllm.assistant import dialogue, speech
from p2pllm.assistant.dialogue import Question, Reply
from p2pllm.assistant.reading import NAMES, Slots

TURNS = 12  # questions asked in a conversation before it is left


@verb(name="ask")
@click.argument("words", nargs=-1, required=True)
@click.option("--pull", is_flag=True, help="Fetch the model that is recommended.")
@click.pass_context
def ask(ctx: click.Context, /, session: Session, words: tuple[str, ...], pull: bool) -> None:
    """Say what you need in English, Spanish, French or German: language, field, task, device.

    Asks for what is missing where a person can answer. Ends with status 4 where no model fits, and
    with 2 where something required was not said and nobody can be asked.
    """
    reply = dialogue.understand(" ".join(words))
    if session.may_ask:
        reply = _converse(session, reply)
    document = _document(reply)
    if reply.ready:
        document |= _advice(session, reply)
    session.show(document, "p2pllm.ask/1", lambda d: _lines(d, reply), _refs)
    if not reply.ready:
        ctx.exit(2)
    if not document["pick"]:
        ctx.exit(4)
    if pull:
        fetch(session, document["advice"])


def _converse(session: Session, reply: Reply) -> Reply:
    """Ask one thing after another until nothing is missing; no answer leaves what is optional."""
    said, tongue, passed = reply.slots, reply.tongue, set[str]()
    for _ in range(TURNS):
        open_ = [question for question in reply.questions if question.slot not in passed]
        if not open_:
            break
        answer = click.prompt(open_[0].text, default="", show_default=False, err=True)
        if not answer.strip() and not open_[0].required:
            passed.add(open_[0].slot)
        said = dialogue.merge(said, dialogue.told(open_[0].slot, answer))
        reply = msgspec.structs.replace(dialogue.understand("", said), tongue=tongue)
        told = [
            Question(one.slot, one.required, speech.QUESTIONS[one.slot][tongue])
            for one in reply.questions
        ]
        reply = msgspec.structs.replace(reply, questions=tuple(told))
    return reply


def _advice(session: Session, reply: Reply) -> Document:
    wants = dialogue.wants_of(reply.slots)
    body = {
        "lang": wants.lang,
        "domain": wants.domain,
        "sub": wants.sub,
        "task": wants.task,
        "max_memory_bytes": wants.max_memory,
        "min_speed": wants.min_speed,
        "max_wait": wants.max_wait,
        "licences": list(wants.licences),
        "context": wants.context,
    }
    advice = advise(session, body)
    return {"pick": advice["picks"][0] if advice["picks"] else None, "advice": advice}


def _document(reply: Reply) -> Document:
    return {
        "slots": _said(reply.slots),
        "tongue": reply.tongue,
        "missing": [one.slot for one in reply.questions if one.required],
        "questions": [msgspec.to_builtins(one) for one in reply.questions],
        "pick": None,
        "advice": None,
    }


def _said(slots: Slots) -> Document:
    return {name: getattr(slots, name) for name in NAMES if getattr(slots, name)}


def _refs(document: Document) -> list[str]:
    return [str(document["pick"]["ref"])] if document["pick"] else []


def _lines(document: Document, reply: Reply) -> list[str]:
    tongue = reply.tongue
    lines = [speech.LINES["understood"][tongue]]
    shown = {
        **document["slots"],
        "memory_bytes": render.size(reply.slots.memory_bytes) if reply.slots.memory_bytes else None,
    }
    lines += [f"  {line}" for line in render.fields(render.flat(shown))]
    if not reply.ready:
        return [*lines, *(one.text for one in reply.questions if one.required)]
    if document["pick"]:
        ref = render.clean(document["pick"]["ref"])
        lines.append(speech.LINES["pick"][tongue].format(ref=ref))
    else:
        lines.append(speech.LINES["none"][tongue])
    return [*lines, *advice_lines(document["advice"], explain=False)]
