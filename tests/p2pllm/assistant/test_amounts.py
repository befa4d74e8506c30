"""Amounts in words and digits."""

import pytest

from p2pllm.assistant import amounts
from p2pllm.assistant.text import plain

GB, GIB = 1000**3, 1024**3


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("2 GB", 2 * GB),
        ("2GiB", 2 * GIB),
        ("1,5 Go", 1.5 * GB),
        ("512 Mo", 512e6),
        ("4 Gio", 4 * GIB),
        ("half a gig", GB / 2),
        ("medio giga", GB / 2),
        ("un demi-giga", GB / 2),
        ("ein halbes Gigabyte", GB / 2),
        ("two gigabytes", 2 * GB),
        ("dos gigas y medio", 2.5 * GB),
        ("deux gigaoctets", 2 * GB),
        ("anderthalb Gigabyte", 1.5 * GB),
        ("one and a half gigs", 1.5 * GB),
        ("a gig and a half", 1.5 * GB),
        ("1,024 MB", 1024e6),
        ("1.024 GB", 1.024 * GB),
        ("quinientos megas", 500e6),
        ("fünfhundert Megabyte", 500e6),
        ("256 MiB", 256 * 1024**2),
    ],
)
def test_sizes(said: str, size: float) -> None:
    assert [one.value for one in amounts.memory(plain(said))] == [size]


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        ("half a second", 500),
        ("medio segundo", 500),
        ("une demi-seconde", 500),
        ("eine halbe Sekunde", 500),
        ("einer Viertelsekunde", 250),
        ("300 ms", 300),
        ("1.5 s", 1500),
        ("two seconds", 2000),
        ("un segundo y medio", 1500),
        ("une seconde et demie", 1500),
        ("anderthalb Sekunden", 1500),
        ("200 Millisekunden", 200),
        ("a quarter of a second", 250),
        ("un minuto", 60_000),
    ],
)
def test_waits(said: str, ms: float) -> None:
    assert [one.value for one in amounts.waits(plain(said))] == [ms]


@pytest.mark.parametrize("said", ["7B parameters", "version 2", "two cats", "an MB", "room 3 s4"])
def test_what_is_no_size_is_none(said: str) -> None:
    assert [one for one in amounts.memory(plain(said)) if one.value > 1e6] == []


def test_tokens_a_second() -> None:
    for said in (
        "20 tokens per second",
        "20 tok/s",
        "20 tokens por segundo",
        "20 Tokens pro Sekunde",
    ):
        assert [one.value for one in amounts.speeds(plain(said))] == [20.0]
