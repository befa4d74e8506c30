"""What reaches a terminal: nothing that steers it, and everything aligned."""

from hypothesis import given
from hypothesis import strategies as st

from node import progress, render

# ESC, BEL, right-to-left override, zero-width space, line separator, tag letter, lone surrogate
HOSTILE = "a\x1b[2J\x07b\u202ec\u200bd\u2028e\U000e0041f\ud800g\rh\ni"


def test_control_characters_and_bidi_marks_are_escaped() -> None:
    shown = render.clean(HOSTILE)
    assert shown == ("a\\x1b[2J\\x07b\\u202ec\\u200bd\\u2028e\\U000e0041f\\ud800g\\x0dh\\x0ai")


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    shown = render.clean(text)
    assert shown.isprintable()
    assert render.clean(shown) == shown


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=300))
def test_plain_text_of_any_language_is_left_alone(text: str) -> None:
    assert render.clean(text) == text


def test_a_table_is_aligned_and_numbers_stand_right() -> None:
    lines = render.table(("NAME", "SIZE"), [("医療", "1.0 MB"), ("ab", "12.5 MB"), ("x\x1b", "")])
    assert lines == [
        "NAME      SIZE",
        "医療    1.0 MB",
        "ab     12.5 MB",
        "x\\x1b        -",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert render.table(("A", "B"), []) == ["A  B"]


def test_sizes_times_and_ids_are_short() -> None:
    assert [render.size(n) for n in (0, 999, 1000, 1_800_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.8 GB",
    ]
    assert [render.duration(s) for s in (-1, 8.41, 59, 125, 8040, 260_000)] == [
        "0.0 s",
        "8.4 s",
        "59 s",
        "2 m 5 s",
        "2 h 14 m",
        "3 d 0 h",
    ]
    assert render.number(134_515_008) == "135 M"
    assert (
        render.short_id("12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2") == "12D3KooW…Box2"
    )


def test_a_time_that_no_calendar_holds_is_said_to_be_none() -> None:
    assert render.moment(1e300) == "no such time"
    assert render.moment(float("nan")) == "no such time"


def test_an_error_says_what_then_why_then_fix() -> None:
    card = {"code": "E0702", "message": "wrong base", "why": ["a", "b\x1b"], "fix": ["c"]}
    assert render.error_lines(card) == [
        "error[E0702] wrong base",
        "  why   a",
        "        b\\x1b",
        "  fix   c",
    ]


def test_fields_leave_out_what_is_empty_and_keep_zero() -> None:
    assert render.fields({"a": 0, "bb": None, "c": "", "dd": False}) == ["a   0", "dd  no"]


def test_progress_in_words_has_share_amount_loss_and_time_left() -> None:
    event = {"event": "progress", "stage": "train", "done": 12, "total": 40, "unit": "steps"}
    event |= {"loss": 2.8714, "eta_s": 33.5, "message": "x\x1b"}
    assert progress.line(event) == "train   30 %  12/40 steps  loss 2.871  eta 34 s  x\\x1b"


def test_progress_in_bytes_is_in_units() -> None:
    event = {"event": "progress", "stage": "fetch", "done": 6e6, "total": 8.1e6, "unit": "bytes"}
    assert progress.line(event) == "fetch   74 %  6.0 MB of 8.1 MB"


def test_progress_that_runs_past_its_end_stays_at_the_end() -> None:
    event = {"event": "progress", "stage": "s", "done": 9, "total": 3}
    assert "100 %" in progress.line(event, bar=True)
