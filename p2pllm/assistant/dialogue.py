"""A conversation as values: what is known, what to ask next, and the recommender's own answer.

Rules decide; a language model may put the answer into other words, never choose.
"""

from collections.abc import Mapping, Sequence

import msgspec

from p2pllm.assistant import reading, speech
from p2pllm.assistant.reading import Slots
from p2pllm.fit import Calibration
from p2pllm.recommend import Advice, Candidate, Trust, Wants, recommend

REQUIRED = ("language", "domain", "task", "memory_bytes")  # no advice without them
OPTIONAL = ("platform", "latency_ms")  # asked for as well; nothing said means: no matter
PERMISSIVE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "CC-BY-4.0")
OPEN = (*PERMISSIVE, "MPL-2.0", "GPL-2.0", "GPL-3.0", "LGPL-3.0", "AGPL-3.0", "CC-BY-SA-4.0")
LICENCES: Mapping[str, tuple[str, ...]] = {"permissive": PERMISSIVE, "open-source": OPEN}
_WHOLE = {"gpl", "lgpl", "agpl"}  # families whose SPDX names end in -only or -or-later


class Question(msgspec.Struct, frozen=True):
    """Something that was not said, asked for in the language of the words."""

    slot: str
    required: bool
    text: str


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Where a conversation stands; `advice` once everything required was said."""

    slots: Slots
    tongue: str
    questions: tuple[Question, ...]
    advice: Advice | None = None

    @property
    def ready(self) -> bool:
        """Everything required was said."""
        return not any(question.required for question in self.questions)


def understand(said: str, before: Slots | None = None) -> Reply:
    """What words say, on top of what was known; and what is still to be asked."""
    known = merge(before or Slots(), reading.read(said))
    tongue = speech.tongue(said)
    asked = [*((slot, True) for slot in REQUIRED), *((slot, False) for slot in OPTIONAL)]
    questions = tuple(
        Question(slot, required, speech.QUESTIONS[slot][tongue])
        for slot, required in asked
        if not getattr(known, slot)
    )
    return Reply(slots=known, tongue=tongue, questions=questions)


def merge(known: Slots, said: Slots) -> Slots:
    """What was said last counts; a new domain forgets the old sub-domain."""
    changed = msgspec.structs.asdict(known)
    if said.domain and said.domain != known.domain:
        changed["sub"] = ""
    if said.latency_ms:
        changed["tokens_s"] = 0.0
    changed |= {name: value for name, value in msgspec.structs.asdict(said).items() if value}
    return msgspec.convert(changed, Slots)


def told(slot: str, answer: str) -> Slots:
    """What an answer to one question says; a bare word is taken for that slot."""
    said = reading.read(answer)
    if getattr(said, slot) or not answer.strip():
        return said
    value = reading.normal(slot, answer) if slot not in ("memory_bytes", "latency_ms") else 0
    return merge(msgspec.structs.replace(Slots(), **{slot: value}), said) if value else said


def wants_of(slots: Slots, context: int = 512) -> Wants:
    """What the recommender is asked for."""
    domain = "" if slots.domain == "general" else slots.domain
    return Wants(
        lang=slots.language,
        domain=domain,
        sub=slots.sub if domain else "",
        task=slots.task,
        max_memory=slots.memory_bytes,
        min_speed=slots.tokens_s,
        max_wait=0.0 if slots.tokens_s else slots.latency_ms / 1000,
        licences=licences_of(slots.licence),
        context=context,
    )


def licences_of(name: str) -> tuple[str, ...]:
    """The SPDX names that a licence slot allows; () for any."""
    if not name:
        return ()
    if name in LICENCES:
        return LICENCES[name]
    if name.split("-")[0].lower() in _WHOLE:
        return (name, f"{name}-only", f"{name}-or-later")
    return (name,)


def answer(
    said: str,
    candidates: Sequence[Candidate],
    device: Calibration,
    trust: Trust,
    before: Slots | None = None,
) -> Reply:
    """The whole of a turn: understood, asked, or the recommender's own answer."""
    reply = understand(said, before)
    if not reply.ready:
        return reply
    advice = recommend(candidates, wants_of(reply.slots), device, trust)
    return msgspec.structs.replace(reply, advice=advice)
