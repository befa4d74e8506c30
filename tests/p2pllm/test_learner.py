"""What a learner keeps: its bytes stay readable, and going back cuts what came after."""

from pathlib import Path

import msgspec
import pytest

from p2pllm import learner, logit_cache
from p2pllm.errors import LocalError, PeerError
from p2pllm.jobs_learn import Meter
from p2pllm.learner import Group, State, Step
from p2pllm.logit_cache import Caching, Description

GOLDEN_STATE = (
    '{"type":"learner.1","head":1,"last":2,"seen":3,"steps":[{"number":1,"parent":0,'
    '"at":1700000000.0,"documents":2,"train_tokens":512,"before":3.5,"after":3.0,"meters":['
    '{"since":1,"documents":1,"tokens":40,"base":4.0,"best":3.0,"now":3.0,"bits_per_byte":1.5}],'
    '"forgetting":0.0,"shares":[[1,8]],"seen":3,"adapter":"' + "ab" * 32 + '"}],'
    '"groups":[{"since":1,"ids":["' + "cd" * 32 + '"],"best":3.0}]}'
)
GOLDEN_DESCRIPTION = (
    '{"type":"logits.1","teacher":"' + "01" * 32 + '","tokenizer":"' + "02" * 32 + '","text":"'
    "" + "03" * 32 + '","vocabulary":400,"rows":2,"seq":16,'
    '"caching":{"keep":16,"kind":"mixed","temperature":1.0,"seed":0}}'
)
METER = Meter(since=1, documents=1, tokens=40, base=4.0, best=3.0, now=3.0, bits_per_byte=1.5)


def step(number: int, seen: int) -> Step:
    return Step(
        number=number,
        parent=number - 1,
        at=1_700_000_000.0,
        documents=2,
        train_tokens=512,
        before=3.5,
        after=3.0,
        meters=(METER,),
        forgetting=0.0,
        shares=((1, 8),),
        seen=seen,
        adapter="ab" * 32,
    )


def test_the_bytes_of_a_state_are_those_of_its_version() -> None:
    group = Group(since=1, ids=("cd" * 32,), best=3.0)
    state = State(head=1, last=2, seen=3, steps=(step(1, 3),), groups=(group,))
    assert msgspec.json.encode(state).decode() == GOLDEN_STATE
    assert msgspec.json.decode(GOLDEN_STATE, type=State) == state


def test_the_bytes_of_a_description_are_those_of_its_version() -> None:
    said = Description(
        teacher="01" * 32,
        tokenizer="02" * 32,
        text="03" * 32,
        vocabulary=400,
        rows=2,
        seq=16,
        caching=Caching(keep=16),
    )
    assert msgspec.json.encode(said).decode() == GOLDEN_DESCRIPTION
    assert logit_cache.decode_description(GOLDEN_DESCRIPTION) == said
    for wrong in ('"rows":0', '"rows":99999999', '"rows":"2"'):
        with pytest.raises(PeerError):
            logit_cache.decode_description(GOLDEN_DESCRIPTION.replace('"rows":2', wrong))


def test_a_damaged_state_is_said_and_none_is_fresh(tmp_path: Path) -> None:
    assert learner.read(tmp_path) == State()
    (tmp_path / learner.STATE_FILE).write_bytes(b"{")
    with pytest.raises(LocalError) as damaged:
        learner.read(tmp_path)
    assert damaged.value.code == "E0306"


def test_what_is_seen_is_cut_where_the_state_says(tmp_path: Path) -> None:
    ids = [bytes([number]) * learner.ID_BYTES for number in range(5)]
    assert learner.add_seen(tmp_path, State(), ids[:4]) == 4
    state = State(seen=2)  # of a step that never came into force
    assert learner.seen(tmp_path, state) == set(ids[:2])
    assert learner.add_seen(tmp_path, state, ids[4:]) == 3
    assert learner.seen(tmp_path, State(seen=3)) == {ids[0], ids[1], ids[4]}


@pytest.mark.parametrize("again", [False, True])
def test_going_back_forgets_later_steps_but_not_their_documents(
    tmp_path: Path, again: bool
) -> None:
    state = State()
    for number in (1, 2, 3):
        learner.work_folder(tmp_path).mkdir(parents=True)
        groups = (*state.groups, Group(since=number, ids=("cd" * 32,), best=3.0))
        state = learner.commit(tmp_path, state, step(number, 10 * number), groups, keep=3)
    back = learner.go_back(tmp_path, 1, again=again)
    assert (back.head, back.last, back.seen) == (1, 3, 10 if again else 30)
    assert [group.since for group in back.groups] == [1]
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["0001"]
    assert learner.read(tmp_path) == back
