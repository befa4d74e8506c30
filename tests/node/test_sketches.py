"""What a kilobyte is enough to refuse, and what has to be measured all the same."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from node.jobs import Report
from node.sketches import objection, sketch_ahead
from node.trust_db import Update
from p2pllm.errors import LocalError
from p2pllm.ids import content_id
from p2pllm.names import Place
from p2pllm.summary import FORMS, Sketch, quantise
from tests.node.test_effects import node

MODEL = content_id(b"model")
SERVED = Sketch(
    by=node(1),
    model=MODEL,
    weights=content_id(b"served"),
    norm=1.0,
    thirds=(1.0, 1.0, 1.0),
    forms=quantise([float(number % 17 - 8) for number in range(FORMS)]),
)
OPPOSITE = quantise([float(8 - number % 17) for number in range(FORMS)])
OTHER = quantise([float(number % 5 - 2) for number in range(FORMS)])
UPDATE = Update(
    place=Place("en"),
    manifest=content_id(b"new"),
    peer=node(2),
    model=MODEL,
    size=1,
    state="waiting",
)


def new(**changes: object) -> Sketch:
    sketch = msgspec.structs.replace(SERVED, by=node(2), weights=content_id(b"new"), forms=OTHER)
    return msgspec.structs.replace(sketch, **changes)


@pytest.mark.parametrize(
    ("sketch", "of_a_suspect", "of_others"),
    [
        (new(), "", ""),
        (new(forms=SERVED.forms), "copy", ""),
        (new(forms=OPPOSITE), "undo", ""),
        (new(norm=50.0), "long", "long"),
        (new(norm=50.0, model=content_id(b"another")), "", ""),
    ],
)
def test_what_a_sketch_is_enough_to_refuse(
    sketch: Sketch, of_a_suspect: str, of_others: str
) -> None:
    known = [(node(1), SERVED)]
    for wary, word in ((True, of_a_suspect), (False, of_others)):
        said = objection(UPDATE, sketch, known, wary=wary)
        assert word in said
        assert bool(word) == bool(said)


def test_ones_own_update_again_is_no_copy() -> None:
    again = new(by=node(1), forms=SERVED.forms)
    mine = msgspec.structs.replace(UPDATE, peer=node(1))
    assert objection(mine, again, [(node(1), SERVED)], wary=True) == ""


def test_where_nothing_is_served_a_sketch_refuses_nothing() -> None:
    assert objection(UPDATE, new(norm=1e9), [], wary=True) == ""


def test_who_pushes_is_told_what_the_sketch_waits_for() -> None:
    told = []

    async def run(_job: object, report: Report) -> None:
        report("waiting", message="another learning job is running")
        raise LocalError("E1003", "killed")

    base, learner = SimpleNamespace(folder="/base"), SimpleNamespace(run=run)
    known = SimpleNamespace(db=SimpleNamespace(fact=lambda _name: ""))
    services: Any = SimpleNamespace(
        trust=known,
        learner=learner,
        library=SimpleNamespace(base_of=lambda _model: base),
        events=SimpleNamespace(emit=lambda *_, **__: None),
    )
    held: Any = SimpleNamespace(
        manifest=content_id(b"m"), model=content_id(b"b"), kind="adapter", folder="/adapter"
    )
    trio.run(sketch_ahead, services, held, None, lambda stage, **_fields: told.append(stage))
    assert told == ["waiting"]
