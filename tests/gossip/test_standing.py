"""Scores of peers: conduct decays, opinions are total."""

import math

import pytest

from gossip import standing
from gossip.standing import Allowance, Allowances, Standing
from p2pllm import keys

PEER = keys.generate().node


def test_points_halve_in_ten_minutes_and_are_forgotten_in_the_end() -> None:
    peers = Standing(lambda _: 0.0)
    peers.charge(PEER, 16, now=0)
    assert peers.points(PEER, 600) == pytest.approx(8)
    peers.charge(PEER, 8, now=600)
    assert peers.points(PEER, 600) == pytest.approx(16)
    assert peers.points(PEER, 1200) == pytest.approx(8)
    assert peers.points(PEER, 600 * 8) == 0.0
    assert peers.score(PEER, 600 * 8) == 0.0


def test_the_score_is_the_opinion_less_the_points_within_bounds() -> None:
    opinion = 5.0
    peers = Standing(lambda _: opinion)
    peers.charge(PEER, 7, now=0)
    assert peers.score(PEER, 0) == pytest.approx(-2)
    opinion = math.inf
    assert peers.score(PEER, 0) == pytest.approx(standing.HIGHEST - 7)
    opinion = -math.inf
    assert peers.score(PEER, 0) == pytest.approx(standing.LOWEST - 7)


@pytest.mark.parametrize("bad", [math.nan, "much", None, [], 1j])
def test_an_opinion_that_is_no_number_is_the_lowest(
    bad: object, caplog: pytest.LogCaptureFixture
) -> None:
    peers = Standing(lambda _: bad)  # type: ignore[arg-type, return-value]
    assert peers.score(PEER, 0) == standing.LOWEST
    assert peers.score(PEER, 59) == standing.LOWEST
    assert len(caplog.records) == 1  # said once a minute, not at every question
    assert peers.score(PEER, 61) == standing.LOWEST
    assert len(caplog.records) == 2


def test_an_opinion_that_raises_is_the_lowest_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def opinion(_: str) -> float:
        raise KeyError("no such peer")

    assert Standing(opinion).score(PEER, 0) == standing.LOWEST
    assert "KeyError" in caplog.text


def test_the_thresholds_stand_in_order() -> None:
    assert (
        standing.LOWEST
        < standing.GRAYLIST
        < standing.PUBLISH
        < standing.GOSSIP
        < standing.MESH
        < 0
        <= standing.HIGHEST
        <= standing.REJECTED
    )


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "_MAX_COUNTED", 2)
    peers = Standing(lambda _: 0.0)
    ids = [keys.generate().node for _ in range(3)]
    for node in ids:
        peers.charge(node, 10, now=0)
    assert [peers.points(node, 0) for node in ids] == [0, 10, 10]


def test_an_allowance_lets_a_burst_through_and_then_its_rate() -> None:
    allowance = Allowance(rate=2, burst=10, left=10, at=0)
    assert [allowance.spend(1, 0) for _ in range(10)] == [0] * 10
    assert allowance.spend(1, 0) == pytest.approx(0.5)
    assert allowance.spend(0, 0.5) == 0
    assert allowance.spend(10, 100) == 0
    assert allowance.spend(4, 100) == pytest.approx(2)


def test_who_asks_more_than_one_can_wait_for_is_refused_and_that_costs_nothing() -> None:
    peers = Allowances(rate=2, burst=10)
    assert peers.admit(PEER, 10, 3, now=0) == 0
    assert peers.admit(PEER, 4, 3, now=0) == pytest.approx(2)
    for _ in range(1000):
        assert peers.admit(PEER, 4, 3, now=0) is None
    assert peers.admit(PEER, 4, 3, now=1) == pytest.approx(3)
    assert peers.admit(PEER, 4, 3, now=1 + 3 + 2) == 0
    assert peers.admit(PEER, 10, 3, now=100) == 0  # the burst, and no more of it than one
    assert peers.admit(PEER, 10, 3, now=100) is None


def test_one_peer_spends_nothing_of_another_and_few_are_remembered() -> None:
    peers, others = Allowances(rate=1, burst=2, most=2), [keys.generate().node for _ in range(3)]
    for peer in others:
        assert peers.admit(peer, 2, 0, now=0) == 0
    assert peers.admit(others[2], 1, 0, now=0) is None
    assert peers.admit(others[1], 1, 0, now=0) is None
    assert peers.admit(others[0], 2, 0, now=0) == 0  # forgotten: it begins anew
