"""The assistant: slots out of phrasings that were not used in writing it, and its answers.

`python -m tests.bench assistant [--phrasings FILE.jsonl] [--wrong] [--short]`. A line of the file
is `{"text", "slots"}`, slots any of platform language domain sub task memory_bytes latency_ms
licence; values are brought into the assistant's form first ("legal" is `law`), null says that
nothing was said.

A required slot is missing where a line gives it null, or states nothing and nothing was read;
`asked_when_not_stated` counts also those that were read where the line states nothing.

A slot is right if it is what the line says. `slot_accuracy` counts what the lines state; `spurious`
are slots read where the line states none, and `slot_accuracy_strict` counts each as a wrong one.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pllm.assistant import dialogue, reading, speech
from p2pllm.assistant.reading import NAMES, Slots
from p2pllm.recommend import recommend
from tests.bench._recommend.table import make_device, make_world

HELD_OUT = Path(__file__).parent / "_phrasings" / "held_out.jsonl"
SHORT = 16


def main(argv: list[str]) -> dict[str, Any]:
    """Accuracy by slot and language, agreement with the recommender, and what was asked."""
    parser = argparse.ArgumentParser(prog="assistant", description=__doc__)
    parser.add_argument("--phrasings", type=Path, default=HELD_OUT)
    parser.add_argument("--wrong", action="store_true", help="show what was read wrongly")
    parser.add_argument("--short", action="store_true", help=f"the first {SHORT} alone")
    given = parser.parse_args(argv)
    cases = [json.loads(line) for line in given.phrasings.read_text().splitlines() if line.strip()]
    cases = cases[:SHORT] if given.short else cases
    return _score(cases, given.wrong) | _answers(cases) | {"file": given.phrasings.name}


def _score(cases: list[dict[str, Any]], show: bool) -> dict[str, Any]:
    tally: dict[str, list[bool]] = {name: [] for name in NAMES}
    by_language: dict[str, list[bool]] = {}
    spurious: list[str] = []
    for case in cases:
        said = reading.read(case["text"])
        stated = {name: reading.normal(name, value) for name, value in case["slots"].items()}
        tongue = case.get("tongue") or speech.tongue(case["text"])
        for name in NAMES:
            found = getattr(said, name)
            if name in stated:
                right = _equal(found, stated[name])
                tally[name].append(right)
                by_language.setdefault(tongue, []).append(right)
            elif found:
                spurious.append(name)
            wrong = not right if name in stated else bool(found)
            if show and wrong:
                wanted = stated.get(name, "nothing")
                print(f"{name}: {found!r}, not {wanted!r}: {case['text']}", file=sys.stderr)
    whole = [right for rights in tally.values() for right in rights]
    return {
        "phrasings": len(cases),
        "slots": len(whole),
        "slot_accuracy": _share(whole),
        "slot_accuracy_strict": round(sum(whole) / (len(whole) + len(spurious)), 4),
        "spurious": {name: spurious.count(name) for name in sorted(set(spurious))},
        "by_slot": {name: _share(rights) for name, rights in tally.items() if rights},
        "by_language": {name: _share(rights) for name, rights in sorted(by_language.items())},
    }


def _answers(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Is the answer the recommender's top pick, and was all asked that a line does not state?"""
    rng = random.Random(5)
    world, device = make_world(rng, 120), make_device(rng)
    agreed = stating = asked = missing = picked = unstated = put = 0
    for case in cases:
        first = dialogue.understand(case["text"])
        stated = {name for name, value in case["slots"].items() if value}
        questions = {question.slot for question in first.questions}
        silent = [name for name in dialogue.REQUIRED if name not in stated]
        lacking = [n for n in silent if n in case["slots"] or not getattr(first.slots, n)]
        missing, asked = missing + len(lacking), asked + sum(n in questions for n in lacking)
        unstated, put = unstated + len(silent), put + sum(n in questions for n in silent)
        known = _completed(first.slots)
        reply = dialogue.answer("", world.candidates, device, world.trust, known)
        assert reply.advice is not None
        spec = _completed(_slots(case["slots"], known))
        own, fair = (
            recommend(world.candidates, dialogue.wants_of(slots), device, world.trust)
            for slots in (known, spec)
        )
        agreed += _top(reply.advice.picks) == _top(own.picks)
        stating += _top(reply.advice.picks) == _top(fair.picks)
        picked += bool(own.picks)
    return {
        "agreement": round(agreed / len(cases), 4),
        "agreement_with_stated": round(stating / len(cases), 4),
        "answered_with_a_pick": picked,
        "missing": missing,
        "asked_when_not_stated": round(put / unstated, 4) if unstated else 1.0,
        "asked_when_missing": round(asked / missing, 4) if missing else 1.0,
    }


def _slots(stated: Mapping[str, Any], read: Slots) -> Slots:
    """What a line states, as slots; tokens a second, which no line states, as they were read."""
    plain = {name: reading.normal(name, value) for name, value in stated.items()}
    whole = {name: value for name, value in plain.items() if value}
    whole |= {"tokens_s": read.tokens_s} if "latency_ms" in whole else {}
    return msgspec.convert(whole, Slots)


def _completed(slots: Slots) -> Slots:
    """After somebody answered every question that is asked."""
    for slot in dialogue.REQUIRED:
        if not getattr(slots, slot):
            slots = dialogue.merge(slots, dialogue.told(slot, _answer(slot)))
    return slots


def _answer(slot: str) -> str:
    """What somebody answers who was asked for this slot."""
    answers: Mapping[str, str] = {
        "language": "English",
        "domain": "general",
        "task": "chat",
        "memory_bytes": "64 GB",
    }
    return answers.get(slot, "")


def _top(picks: Iterable[Any]) -> str:
    return next((pick.candidate.ref for pick in picks), "none fits")


def _equal(found: object, wanted: object) -> bool:
    if isinstance(found, int) and isinstance(wanted, int):
        return abs(found - wanted) <= 0.001 * max(found, wanted)
    return found == wanted


def _share(rights: list[bool]) -> float:
    return round(sum(rights) / len(rights), 4) if rights else 1.0
