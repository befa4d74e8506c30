"""What people read: sizes, times, tables and errors as plain lines. Values in, text out.

Whatever came from a peer goes through `clean` before it reaches a terminal.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_STEPS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
Cell = object
Row = Sequence[Cell]


def clean(text: object, longest: int = 400) -> str:
    """One line that cannot steer a terminal.

    Control characters, bidirectional marks and other invisible ones show as escapes.
    """
    line = str(text)
    if len(line) > longest:
        line = line[: longest - 1] + "…"
    if line.isprintable():
        return line
    return "".join(_visible(char) for char in line)


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if char in "\u00a0\u1680\u3000\u202f\u205f" or "\u2000" <= char <= "\u200a":
        return " "
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """Columns it takes on a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata  # a megabyte of tables, not needed for most output

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def table(heads: Sequence[str], rows: Iterable[Row]) -> list[str]:
    """Aligned lines with a head; numbers to the right, empty cells as '-'."""
    body = [[cell if isinstance(cell, str) else _cell(cell) for cell in row] for row in rows]
    body = [[clean(cell) or "-" for cell in row] for row in body]
    lines = [list(heads), *body]
    widths = [max(width(line[column]) for line in lines) for column in range(len(heads))]
    right = [bool(body) and all(_is_number(line[i]) for line in body) for i in range(len(heads))]
    return [
        "  ".join(_pad(cell, widths[i], right[i]) for i, cell in enumerate(line)).rstrip()
        for line in lines
    ]


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.5g}" if isinstance(cell, float) else str(cell)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-").split(" ")[0].replace(".", "", 1).isdigit()


def _pad(cell: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(cell))
    return space + cell if right else cell + space


def fields(pairs: Mapping[str, Cell]) -> list[str]:
    """'name   value' lines; what is None or empty is left out."""
    shown = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
    longest = max((width(name) for name in shown), default=0)
    return [f"{_pad(name, longest, False)}  {clean(_cell(v))}" for name, v in shown.items()]


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Cell]:
    """A document of any shape as names and values for `fields`."""
    pairs: dict[str, Cell] = {}
    for key, value in document.items():
        name = f"{prefix}{clean(key, 60)}".replace("_", " ")
        if isinstance(value, Mapping):
            pairs |= flat(value, name + " ")
        elif isinstance(value, list | tuple):
            pairs[name] = ", ".join(str(item) for item in value)
        elif key.endswith("bytes") and isinstance(value, int):
            pairs[name if key == "bytes" else name.removesuffix(" bytes")] = size(value)
        elif key != "schema":
            pairs[name] = value
    return pairs


def size(count: float | None) -> str:
    """Bytes for people, in powers of ten: '1.8 GB'."""
    if count is None:
        return ""
    for unit, step in _STEPS:
        if abs(count) >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count:.0f} B"


def number(count: float | None) -> str:
    """A count for people: '135 M'."""
    if count is None:
        return ""
    for unit, step in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """Seconds for people: '8.4 s', '2 h 14 m'."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, left = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {left} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def moment(at: float | None) -> str:
    """A Unix time for people: local date and minute."""
    if at is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
    except (OverflowError, OSError, ValueError):
        return "no such time"


def signed_percent(share: float | None) -> str:
    """A gain of a loss: 0.041 as '+4.1 %'."""
    return "" if share is None else f"{share * 100:+.1f} %"


def short_id(text: object) -> str:
    """A peer id or content id one can recognise: '12D3KooW…9fQa'."""
    line = clean(text)
    return line if len(line) <= 16 else f"{line[:8]}…{line[-4:]}"


def error_lines(card: Mapping[str, Any]) -> list[str]:
    """What, why, fix, in that order."""
    lines = [f"error[{clean(card['code'], 8)}] {clean(card['message'])}"]
    for name in ("why", "fix"):
        for index, line in enumerate(card[name]):
            lines.append(f"  {name if index == 0 else '   '}   {clean(line)}")
    return lines
