"""How often progress is shown: never more than a reader can use."""

import io

from node.progress import JsonLines, Moving, Plain

STEP = {"event": "progress", "stage": "train", "total": 100, "unit": "steps"}


def test_json_progress_is_written_twice_a_second_at_most() -> None:
    written: list[object] = []
    view = JsonLines(lambda document, schema: written.append((document, schema)))
    for tick in range(101):  # ten seconds, ten events a second
        view.show({**STEP, "done": tick, "seq": tick}, tick / 10)
    assert len(written) == 21
    assert written[0] == ({**STEP, "done": 0}, "p2pllm.event/1")


def test_plain_progress_is_one_line_in_five_seconds() -> None:
    file = io.StringIO()
    view = Plain(file)
    for tick in range(101):
        view.show({**STEP, "done": tick}, 100 + tick / 10)
    assert file.getvalue().splitlines() == [
        "train    0 %  0/100 steps",
        "train   50 %  50/100 steps",
        "train  100 %  100/100 steps",
    ]


def test_a_log_line_is_always_written() -> None:
    file = io.StringIO()
    view = Plain(file)
    view.show({**STEP, "done": 1}, 0.0)
    view.show({"event": "log", "message": "chunk 3 refused"}, 0.1)
    assert file.getvalue().splitlines()[1] == "log  chunk 3 refused"


def test_the_moving_line_is_wiped_at_the_end_and_never_wraps() -> None:
    file = io.StringIO()
    view = Moving(file, 40)
    view.show({**STEP, "done": 50, "message": "m" * 200}, 0.0)
    view.end()
    shown, wipe, rest = file.getvalue()[1:].split("\r")
    assert len(shown) == 39
    assert wipe == " " * 39
    assert rest == ""


def test_the_moving_line_shows_a_new_stage_at_once() -> None:
    file = io.StringIO()
    view = Moving(file, 80)
    view.show({**STEP, "done": 1}, 0.0)
    view.show({**STEP, "done": 2}, 0.01)
    view.show({**STEP, "stage": "measure", "done": 3}, 0.02)
    assert file.getvalue().count("\r") == 2
