"""What candidates are worth: claims, weighed by trust and nearness."""

import pytest

from p2pllm.names import Place
from p2pllm.worth import Score, gain_worth, nearness, size_worth, worth

HERE = Place("en", "medical", "cardiology")
TRUST = {"friend": 1.0, "newcomer": 0.4, "liar": 0.1}


def value_of(*scores: Score, params: int = 100_000_000) -> float:
    return worth([(params, HERE, scores)], HERE, "summarise", TRUST.__getitem__)[0].value


def score(value: float, by: str = "friend", place: Place = HERE, task: str = "summarise") -> Score:
    return Score(value=value, by=by, place=place, task=task)


def test_a_claim_of_somebody_not_trusted_changes_nothing() -> None:
    assert value_of(score(1.0, "liar")) == value_of()


def test_trusted_scores_outweigh_size_and_those_of_newcomers() -> None:
    assert value_of(score(0.9)) == pytest.approx(0.9, abs=0.06)
    between = value_of(score(0.9), score(0.1, "newcomer"))
    assert 0.75 < between < value_of(score(0.9))


def test_a_signer_speaks_once_however_often_it_says_so() -> None:
    assert value_of(*[score(0.9, "newcomer")] * 50) == value_of(score(0.9, "newcomer"))


def test_scores_from_elsewhere_count_less() -> None:
    near = [
        nearness(score(1), HERE, "summarise"),
        nearness(score(1, task="chat"), HERE, "summarise"),
        nearness(score(1, place=Place("en", "medical")), HERE, "summarise"),
        nearness(score(1, place=Place("en")), HERE, "summarise"),
        nearness(score(1, place=Place("en", "law")), HERE, "summarise"),
    ]
    assert near[0] == 1
    assert near[0] > max(near[1:])
    assert near[2] > near[3] > near[4] > 0


def test_bigger_is_worth_more_where_nothing_else_is_known() -> None:
    assert size_worth(10**7) < size_worth(10**8) < size_worth(10**10) < 1


def test_a_claimed_gain_moves_worth_and_a_wild_one_is_bounded() -> None:
    plain = size_worth(10**8)
    assert gain_worth(10**8, -0.5) < plain < gain_worth(10**8, 0.5) <= 1
    assert gain_worth(10**8, 1e6) == gain_worth(10**8, 2.0)


def test_the_reason_says_who_had_a_say() -> None:
    found = worth([(10**8, HERE, [score(0.9), score(1.0, "liar")])], HERE, "", TRUST.__getitem__)
    assert found[0].signers == 1
    assert found[0].ignored == 1
    assert "1 trusted signer" in found[0].reason
