"""How far a job is, shown while it runs: JSON lines, one moving line, or plain lines now and then.

Progress is news, so all but the JSON form goes to stderr.
"""

import sys
from collections.abc import Mapping
from typing import IO, Any, Protocol

from node import render

JSON_EVERY_S = 0.5
PLAIN_EVERY_S = 5.0
MOVING_EVERY_S = 0.1
BAR_COLUMNS = 24
Event = Mapping[str, Any]


class View(Protocol):
    """Something that shows progress events."""

    def show(self, event: Event, now: float) -> None:
        """One more event, at `now` seconds of a steady clock."""

    def end(self) -> None:
        """No more events."""


class Silent:
    """Shows nothing: -q."""

    def show(self, event: Event, now: float) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class JsonLines:
    """At most two progress lines a second; log lines as they come."""

    def __init__(self, emit: Any) -> None:
        self._emit = emit
        self._next = 0.0

    def show(self, event: Event, now: float) -> None:
        """Write the event, unless it is progress that comes too soon."""
        if event["event"] == "progress":
            if now < self._next:
                return
            self._next = now + JSON_EVERY_S
        self._emit({key: value for key, value in event.items() if key != "seq"}, "p2pllm.event/1")

    def end(self) -> None:
        """Nothing is left to write."""


class Plain:
    """Without a terminal: a line when the stage changes is due, else one per 5 s."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._next = 0.0

    def show(self, event: Event, now: float) -> None:
        """Write the event if the last line is 5 s old; a log line always."""
        if event["event"] == "progress":
            if now < self._next:
                return
            self._next = now + PLAIN_EVERY_S
        self._file.write(line(event) + "\n")
        self._file.flush()

    def end(self) -> None:
        """Nothing is left to write."""


class Moving:
    """On a terminal: one line that is written over, with a bar where the end is known."""

    def __init__(self, file: IO[str], columns: int) -> None:
        self._file = file
        self._columns = columns
        self._next = 0.0
        self._stage = ""
        self._shown = 0

    def show(self, event: Event, now: float) -> None:
        """Write over the line, ten times a second at most; a log line stays above it."""
        if event["event"] != "progress":
            self.end()
            self._file.write(line(event) + "\n")
            return
        stage = str(event.get("stage", ""))
        if stage == self._stage and now < self._next:
            return
        self._stage, self._next = stage, now + MOVING_EVERY_S
        text = line(event, bar=True)
        while text and render.width(text) >= self._columns:
            text = text[:-1]
        used = render.width(text)
        self._file.write("\r" + text + " " * max(0, self._shown - used))
        self._file.flush()
        self._shown = used

    def end(self) -> None:
        """Wipe the moving line."""
        if self._shown:
            self._file.write("\r" + " " * self._shown + "\r")
            self._file.flush()
            self._shown = 0


def open_view(json_emit: Any | None, quiet: bool) -> View:
    """The view that fits how the command was called and where stderr goes."""
    if json_emit is not None:
        return JsonLines(json_emit)
    if quiet:
        return Silent()
    if sys.stderr.isatty():
        import shutil

        return Moving(sys.stderr, shutil.get_terminal_size().columns)
    return Plain(sys.stderr)


def line(event: Event, bar: bool = False) -> str:
    """One event in words: 'fetch  74 %  6.0 MB of 8.1 MB  loss 2.871  eta 12 s'."""
    done, total = _number(event, "done"), _number(event, "total")
    parts = [render.clean(event.get("stage") or event["event"], 40)]
    if done is not None and total:
        share = min(max(done / total, 0.0), 1.0)
        parts += [_bar(share)] * bar + [f"{share * 100:3.0f} %"]
    if done is not None and (done or total):
        parts.append(_amount(done, total, str(event.get("unit") or "")))
    if (loss := _number(event, "loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (eta_s := _number(event, "eta_s")) is not None:
        parts.append(f"eta {render.duration(eta_s)}")
    if event.get("message"):
        parts.append(render.clean(event["message"], 160))
    return "  ".join(parts)


def _number(event: Event, key: str) -> float | None:
    value = event.get(key)
    return float(value) if isinstance(value, int | float) else None


def _amount(done: float, total: float | None, unit: str) -> str:
    if unit == "bytes":
        return render.size(done) + (f" of {render.size(total)}" if total else "")
    of = f"/{total:.0f}" if total else ""
    return f"{done:.0f}{of} {render.clean(unit, 20)}".rstrip()


def _bar(share: float) -> str:
    full = round(share * BAR_COLUMNS)
    return "━" * full + "╌" * (BAR_COLUMNS - full)
