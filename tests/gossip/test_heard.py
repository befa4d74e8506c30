"""The log of heard announcements: order, bounds, and what survives."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossip import heard
from gossip.announce import seal
from gossip.heard import HeardLog
from gossip.messages import MAX_NEWS
from p2pllm import keys
from p2pllm.errors import LocalError
from p2pllm.names import Place
from tests.gossip.test_announce import ME, NOW, PLACE, made


@pytest.fixture
def log(tmp_path: Path) -> Iterator[HeardLog]:
    with HeardLog(tmp_path / "heard.db") as opened:
        yield opened


def put(log: HeardLog, number: int, at: float = NOW, by: keys.Identity = ME, **changes: object):
    announce = made(number, by, **changes)
    raw = seal(by, announce)
    return raw, log.add(raw, announce, at)


def test_what_was_heard_is_given_back_in_order_and_once(log: HeardLog) -> None:
    first, new = put(log, 1)
    second, _ = put(log, 2)  # in the same instant
    assert new
    assert log.since(PLACE, 0) == [first, second]
    assert put(log, 1) == (first, False)
    assert log.since(PLACE, 0) == [first, second]
    assert log.since(PLACE, NOW) == [second]
    assert log.since(Place("en", "law"), 0) == []


def test_times_of_hearing_rise_though_the_clock_is_set_back(log: HeardLog) -> None:
    put(log, 1, at=NOW)
    until = log.news(PLACE, 0, NOW).until
    second, _ = put(log, 2, at=NOW - 3600)
    assert log.since(PLACE, until) == [second]


def test_a_later_announcement_of_the_same_manifest_takes_the_place_of_the_first(
    log: HeardLog,
) -> None:
    put(log, 1)
    renewed, new = put(log, 1, created_at=NOW + 1, expires_at=NOW + 99999)
    assert not new
    assert log.since(PLACE, 0) == [renewed]


def test_it_survives_a_restart(tmp_path: Path) -> None:
    with HeardLog(tmp_path / "db") as log:
        raw, _ = put(log, 1)
        log.set_asked(ME.node, PLACE, 17.5)
    with HeardLog(tmp_path / "db") as log:
        assert log.alive(NOW) == [raw]
        assert log.asked(ME.node, PLACE) == 17.5
        assert not put(log, 1)[1]
        later, _ = put(log, 2)
        assert log.since(PLACE, 0) == [raw, later]


def test_the_expired_are_neither_given_nor_kept(log: HeardLog) -> None:
    put(log, 1, expires_at=NOW + 10)
    assert log.news(PLACE, 0, NOW + 10).announces == ()
    assert log.alive(NOW + 10) == []
    kept, _ = put(log, 2, at=NOW + 20)
    assert log.since(PLACE, 0) == [kept]


def test_news_come_in_pages_without_gap_or_repetition(
    log: HeardLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "MAX_NEWS", 3)
    told = [put(log, number)[0] for number in range(8)]
    got: list[bytes] = []
    since, more = 0.0, True
    while more:
        news = log.news(PLACE, since, NOW)
        got += news.announces
        since, more = news.until, news.more
    assert got == told
    assert log.news(PLACE, since, NOW).until == since


def test_a_loud_publisher_pushes_out_its_own_and_nobody_elses(
    log: HeardLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "MAX_OF_PUBLISHER", 5)
    other = keys.generate()
    quiet, _ = put(log, 0, by=other)
    loud = [put(log, number)[0] for number in range(1, 9)]
    assert log.since(PLACE, 0) == [quiet, *loud[-5:]]


def test_a_full_place_is_relieved_of_its_loudest(
    log: HeardLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "MAX_OF_PLACE", 4)
    one, two = keys.generate(), keys.generate()
    quiet, _ = put(log, 0, by=one)
    loud = [put(log, number, by=two)[0] for number in range(1, 4)]
    newest, _ = put(log, 9, by=one)
    assert log.since(PLACE, 0) == [quiet, *loud[1:], newest]


def test_the_whole_log_is_bounded(log: HeardLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "MAX_ALL", 2)
    monkeypatch.setattr(heard, "_CHECK_EVERY", 1)
    for number, lang in enumerate(("en", "de", "fr")):
        put(log, number, place=Place(lang))
    assert len(log.alive(NOW)) == 2
    assert log.since(Place("en"), 0) == []


def test_how_far_peers_were_asked_is_bounded(
    log: HeardLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "MAX_ASKED", 2)
    peers = [keys.generate().node for _ in range(3)]
    for number, peer in enumerate(peers):
        log.set_asked(peer, PLACE, number + 1)
    assert [log.asked(peer, PLACE) for peer in peers] == [0, 2, 3]


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database at all, but long enough to look like one" * 20)
    with pytest.raises(LocalError, match="E0306"):
        HeardLog(tmp_path / "db")


def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    HeardLog(tmp_path / "db").close()
    db = sqlite3.connect(tmp_path / "db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LocalError, match="version 99"):
        HeardLog(tmp_path / "db")


def test_a_full_page_fits_the_answer() -> None:
    assert MAX_NEWS * 1024 < 1024 * 1024
