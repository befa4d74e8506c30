"""The conversation of `ask`: one question after another, until nothing required is missing."""

import click
import pytest

from node.commands import ask
from node.commands.session import Flags, Session
from p2pllm.assistant import dialogue


def answers(monkeypatch: pytest.MonkeyPatch, **by_slot: str) -> list[str]:
    """Answer what is asked, by slot; returns the questions as they are put."""
    put: list[str] = []

    def prompt(question: str, **_settings: object) -> str:
        put.append(question)
        slots = ask.speech.QUESTIONS
        slot = next(name for name, texts in slots.items() if question in texts.values())
        return by_slot.get(slot, "")

    monkeypatch.setattr(click, "prompt", prompt)
    return put


def test_what_is_missing_is_asked_until_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    put = answers(monkeypatch, language="Deutsch", task="Fragen beantworten", memory_bytes="2 GB")
    first = dialogue.understand("etwas für meine Imkerei")
    reply = ask._converse(Session(Flags()), first)
    assert reply.ready
    assert (reply.slots.language, reply.slots.task) == ("de", "qa")
    assert reply.slots.memory_bytes == 2 * 10**9
    assert put[0] == ask.speech.QUESTIONS["language"]["de"]
    assert len(put) == 5  # platform and latency were passed over


def test_no_answer_to_what_is_required_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    put = answers(monkeypatch)
    reply = ask._converse(Session(Flags()), dialogue.understand("hello"))
    assert not reply.ready
    assert len(put) == ask.TURNS
