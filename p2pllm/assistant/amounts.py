"""Amounts in words and digits: memory in bytes, waiting times in milliseconds, tokens a second.

GB, Go and gigabytes are 10**9 bytes, GiB and Gio 2**30. Works on text made plain by `text.plain`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache

import msgspec

from p2pllm.assistant import numerals

_HALF = r"(?P<more> and (?:a )?half| y (?:medio|media)| et demie?| und (?:ein halbes|eine halbe))?"
_KILO = {"k": 1, "m": 2, "g": 3, "t": 4}
_NAMES = {"kilo": 1, "mega": 2, "giga": 3, "tera": 4}
_BYTES = (
    r"(?P<unit>[kmgt]i?[bo]|[kmg]ig?s|gigs?|megs?"
    r"|(?:kilo|mega|giga|tera)(?:s|bytes?|octets?|oct|bites?|bits?)?"
    r"|[gm](?= (?:of )?(?:ram|de ram|memory|memoria|arbeitsspeicher)))"
)
_TIME = (
    r"(?P<unit>ms|msecs?|milli ?(?:second|seconde|sekunde|segundo)[sn]?|mili ?segundos?"
    r"|miliseconds?|millis|s|secs?|seg|segs|sek|seconds?|secounds?|segundos?|secondes?|sekunden?"
    r"|mins?|minutes?|minutos?|minuten?)"
)
_TOKENS = (
    r"(?P<unit>tokens?|tok|words|palabras|mots|worter|woerter|jetons?)"
    r"(?: ?/ ?(?:s|sec|sek|seg|second)| (?:per|a|each|every) second| (?:por|al) segundo"
    r"| (?:par|a la) seconde| (?:pro|in der|die) sekunde| s)"
)
_DIGITS = r"\d{1,3}(?:[ .,]\d{3})+(?![.,]?\d)|\d+(?:[.,]\d+)?"
_SHORT = re.compile(r"(?<![a-z0-9])(?P<unit>viertelsekunde|zehntelsekunde|sub ?second)(?![a-z0-9])")
_SHORT_MS = {"viertelsekunde": 250.0, "zehntelsekunde": 100.0}


class Amount(msgspec.Struct, frozen=True):
    """A quantity at a place of a text."""

    value: float  # bytes, milliseconds, or tokens a second
    start: int
    end: int


def memory(text: str) -> Iterator[Amount]:
    """Amounts of bytes."""
    for match in _after_number(rf"{_BYTES}(?![a-z0-9]){_HALF}").finditer(text):
        unit = match["unit"]
        for name, power in _NAMES.items():
            if unit.startswith(name):
                yield _amount(match, 1000**power)
                break
        else:
            binary = unit[1:2] == "i" and unit[2:3] in ("b", "o")
            yield _amount(match, (1024 if binary else 1000) ** _KILO[unit[0]])


def waits(text: str) -> Iterator[Amount]:
    """Lengths of time, in milliseconds."""
    end = 0
    for match in _after_number(rf"{_TIME}(?![a-z0-9]){_HALF}").finditer(text):
        unit, end = match["unit"], match.end()
        if unit.startswith("min"):
            yield _amount(match, 60_000)
        else:
            yield _amount(match, 1 if unit.startswith(("ms", "mil")) else 1000)
    for match in _SHORT.finditer(text, end):
        yield Amount(_SHORT_MS.get(match["unit"], 1000.0), match.start(), match.end())


def speeds(text: str) -> Iterator[Amount]:
    """Tokens a second."""
    for match in _after_number(rf"{_TOKENS}(?![a-z0-9])").finditer(text):
        yield Amount(_number(match["number"], 1), match.start(), match.end())


def _amount(match: re.Match[str], unit: float) -> Amount:
    half = unit / 2 if match["more"] else 0.0
    return Amount(_number(match["number"], unit) * unit + half, match.start(), match.end())


def _number(text: str, unit: float) -> float:
    if text in _words():
        return _words()[text]
    digits = text.replace(" ", "")
    grouped = re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", digits)
    # '1,024 MB' is a thousand and more; '1.024 GB' is one and a little.
    if grouped and (unit < 1000**3 or len(re.findall("[.,]", digits)) > 1):
        return float(re.sub("[.,]", "", digits))
    return float(digits.replace(",", "."))


@cache
def _words() -> Mapping[str, float]:
    pairs = f"{numerals.NUMBERS},{numerals.HALVES}".split(",")
    named = (pair.split("=") for pair in pairs)
    return {" ".join(name.split()): float(value) for name, value in named}


@cache
def _after_number(unit: str) -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in sorted(_words(), key=len, reverse=True))
    return re.compile(rf"(?<![a-z0-9.,])(?P<number>{_DIGITS}|(?:{words})(?= )) ?{unit}")
