"""What is done next about the updates of a place, on a clock that the test holds."""

import msgspec

from node import round_plan
from node.round_plan import Fetch, Measure, Wait, next_step
from node.trust_db import Update
from p2pllm.ids import NodeId, content_id
from p2pllm.jobs_round import MAX_CANDIDATES
from p2pllm.names import Place

MODEL, OTHER_MODEL = content_id(b"model"), content_id(b"other model")


def update(name: str, state: str = "waiting", due_at: float = 0.0, **changes: object) -> Update:
    made = Update(
        place=Place("en", "medical"),
        manifest=content_id(name.encode()),
        peer=NodeId("12D3KooW" + "A" * 44),
        model=MODEL,
        size=1,
        state=state,
        due_at=due_at,
    )
    return msgspec.structs.replace(made, **changes)


def test_nothing_heard_waits_for_news() -> None:
    assert next_step([], 100.0) == Wait(None)


def test_a_fetch_that_is_due_comes_before_a_round_that_is_due() -> None:
    waiting, ready = update("a"), update("b", "fetched", 50.0)
    assert next_step([ready, waiting], 100.0) == Fetch(waiting)


def test_a_round_waits_for_its_window_and_takes_what_came_within_it() -> None:
    first, second = update("a", "fetched", 130.0), update("b", "fetched", 150.0)
    assert next_step([first, second], 100.0) == Wait(130.0)
    step = next_step([first, second], 130.0)
    assert isinstance(step, Measure)
    assert set(step.batch) == {first, second}


def test_a_round_is_of_one_base() -> None:
    one, other = update("a", "fetched", 10.0), update("b", "fetched", 20.0, model=OTHER_MODEL)
    assert next_step([one, other], 100.0) == Measure((one,))


def test_a_round_does_not_wait_for_a_fetch_that_is_put_off() -> None:
    ready, later = update("a", "fetched", 50.0), update("b", due_at=500.0)
    assert next_step([ready, later], 100.0) == Measure((ready,))


def test_what_is_held_is_judged_again_when_due_and_not_before() -> None:
    held = update("a", "held", 200.0, reviews=1)
    new = update("b", "fetched", 100.0)
    assert next_step([held, new], 100.0) == Measure((new,))
    assert next_step([held], 200.0) == Measure((held,))


def test_a_round_has_a_bound_and_what_is_new_goes_first() -> None:
    many = [update(f"old {n}", "held", 0.0, reviews=1) for n in range(MAX_CANDIDATES)]
    new = update("new", "fetched", 1.0)
    step = next_step([*many, new], 100.0)
    assert isinstance(step, Measure)
    assert len(step.batch) == MAX_CANDIDATES
    assert step.batch[0] == new


def test_a_held_update_is_looked_at_a_bounded_number_of_times() -> None:
    one = update("a", "fetched")
    for _ in range(round_plan.MAX_REVIEWS):
        assert one.state in ("fetched", "held")
        one = round_plan.after_round(one, "hold", 5.0)
    assert one.state == "judged"


def test_what_jobs_die_of_is_tried_alone_then_refused_and_open_again_after_a_restart() -> None:
    one, other = update("a", "fetched"), update("b", "fetched", 70.0)
    for tries in range(1, round_plan.MAX_TRIES):
        one = round_plan.after_failure(one, "E1002", "it died", 60.0)
        assert (one.state, one.code, one.due_at) == ("fetched", "E1002", 60.0)
        alone = next_step([one, other], 65.0) == Measure((one,))
        assert alone == (tries >= round_plan.TOGETHER)
        assert next_step([one, other], 75.0) in (Measure((one,)), Measure((one, other)))
    one = round_plan.after_failure(one, "E1002", "it died", 60.0)
    assert (one.state, one.code) == ("refused", "E1002")
    again = round_plan.open_again(one)
    assert again is not None
    assert next_step([again, other], 75.0) == Measure((again,))
    assert round_plan.open_again(round_plan.refused(one, "E0609", "no number")) is None
    assert round_plan.open_again(round_plan.refused(one, "E0714", "by the operator")) is None


def test_a_fault_that_can_only_be_ours_is_waited_out() -> None:
    ready, waiting = update("a", "fetched"), update("b")
    for _ in range(100):
        ready = round_plan.after_failure(ready, "E0802", "the disk is full", 60.0)
        waiting = round_plan.after_failure(waiting, "E0801", "over the quota", 60.0)
    assert (ready.state, waiting.state) == ("fetched", "waiting")
    new = update("c", "fetched", 70.0)
    assert next_step([ready, new], 65.0) == Measure((ready, new))  # nobody is suspected


def test_what_cannot_be_fetched_is_tried_for_long_before_it_is_refused() -> None:
    one = update("a")
    for _ in range(round_plan.MAX_TRIES - 1):
        one = round_plan.after_failure(one, "E0906", "nobody has it", 60.0)
        assert one.state == "waiting"
    assert round_plan.after_failure(one, "E0906", "nobody has it", 60.0).state == "refused"


def test_one_publisher_cannot_fill_the_list() -> None:
    assert round_plan.may_wait(round_plan.MAX_WAITING - 1, 500)
    assert not round_plan.may_wait(round_plan.MAX_WAITING, 500)
    assert not round_plan.may_wait(0, round_plan.MAX_OF_PLACE)


def test_whose_rank_is_lowest_is_fetched_first() -> None:
    early, late = update("early"), update("late", peer=NodeId("12D3KooW" + "B" * 44))
    assert next_step([early, late], 1.0, lambda one: one is early) == Fetch(late)
