"""What made-up text may leave: nothing personal, nothing copied, nothing twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm import privacy
from p2pllm.privacy import RUN, Gate, Remembered

PROSE = (
    "The trial compared two doses of the drug in adults with heart failure and found that the"
    " higher dose lowered mortality without a rise in adverse events over two years of follow-up."
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "write to anna.berg+x@uni-mainz.example today"),
        ("email", "write to anna . berg @ uni . example now"),
        ("phone", "call +49 (0)151 234 567 89 at night"),
        ("phone", "call 555-0142-77 at night"),
        ("iban", "pay to DE89 3704 0044 0532 0130 00 now"),
        ("id", "patient MRN20481957 was seen"),
        ("id", "the key is 9f86d081884c7d659a2feaa0c55ad015"),
        ("code", "social security 078-05-1120 on file"),
        ("address", "from host 192.168.17.4 last night"),
        ("web", "see https://intern.example/x for it"),
        ("secret", "the password is swordfish tonight"),
    ],
)
def test_personal_data_is_seen(kind: str, text: str) -> None:
    assert kind in privacy.personal(text)
    assert Gate(Remembered()).refusal(f"{PROSE} {text}") == "personal"


def test_prose_with_plain_numbers_is_not_personal() -> None:
    for text in (PROSE, "In 1999 and 2004, 43 of 120 patients (35.8%) died; p = 0.04, n = 12,500."):
        assert privacy.personal(text) == []


@given(st.lists(st.sampled_from(PROSE.split()), min_size=RUN, max_size=40), st.data())
def test_a_run_of_the_trained_text_never_passes(words: list[str], data: st.DataObject) -> None:
    trained = Remembered()
    trained.add(" ".join(words))
    at = data.draw(st.integers(0, len(words) - RUN))
    copied = " ".join(words[at : at + RUN])
    assert Gate(trained).refusal(f"Zebra zulu. {copied.upper()}, quick brown fox!") == "verbatim"


def test_four_words_are_enough_where_two_tell_much() -> None:
    trained = Remembered()
    trained.add("The passphrase of the north vault is crimson walrus 4417 harbour kilo.")
    for copied in ("its vault is Crimson Walrus indeed", "walrus 4417 harbour kilo was said"):
        assert trained.holds_part_of(copied)
    assert not trained.holds_part_of("one of the north doors is open for the walrus")


def test_a_text_that_goes_on_where_its_opening_broke_off_is_known_by_both() -> None:
    trained = Remembered()
    trained.add("The passphrase of the north vault is crimson walrus harbour kilo.")
    rest = "lrus harbour then quite other words that nobody ever wrote"
    assert Gate(trained).refusal(rest) == ""
    assert Gate(trained).refusal(rest, "north vault is crimson wa") == "verbatim"
    assert Gate(trained).refusal("vault doors were open for a day or two", "of the north ") == ""


def test_other_words_pass_and_memory_survives_being_kept() -> None:
    trained = Remembered()
    trained.add(PROSE)
    again = Remembered(trained.to_bytes())
    assert again.holds_part_of(PROSE)
    assert not again.holds_part_of("the drug in adults was not what the patients had hoped for")
    assert 0 < again.fill() < 0.001


def test_a_long_code_or_a_script_without_spaces_is_a_copy_too() -> None:
    trained = Remembered()
    trained.add("コンピュータは計算を行う機械である。そして人はそれを使う。")
    assert trained.holds_part_of("人は言う、コンピュータは計算を行う機械であると。")
    assert not trained.holds_part_of("コンピュータとは何か")


def test_what_was_let_through_once_is_a_duplicate_then() -> None:
    gate = Gate(Remembered())
    found = gate.judge([PROSE, "too short", PROSE.replace("adults", "people"), "Other " + PROSE])
    assert found.kept == (0,)
    assert found.refused == {"personal": 0, "verbatim": 0, "duplicate": 2, "short": 1}


def test_exposure_is_nothing_for_a_secret_in_the_middle() -> None:
    assert privacy.exposure(1, 1024) == 10
    assert privacy.exposure(512, 1024) == 1
