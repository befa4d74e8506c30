"""The two figures of the bench as SVG: no plotting library, lines and bars are enough."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDE, HIGH, LEFT, TOP = 640, 360, 60, 30
COLOURS = ("#000000", "#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#444444", "#16a085")


def draw(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Write the curve of the rounds and the leave-one-out bars; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    curve = report["curve"]
    lines = {"parent": [point["parent"] for point in curve]}
    lines |= {name: [point["clients"][name] for point in curve] for name in curve[0]["clients"]}
    lines |= {"parent, equal steps": [point["parent"] for point in report["curve_equal_steps"]]}
    lines |= {"FedAvg, whole model": report["fedavg_curve"]}
    made = {
        "rounds.svg": _lines("Loss on the union after each round, nats a token", lines),
        "leave-one-out.svg": _bars(
            "How much worse the parent is without one client, nats a token",
            {name: one["worse_by"] for name, one in report["leave_one_out"].items()},
        ),
    }
    for name, text in made.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in made]


def _lines(title: str, lines: Mapping[str, Sequence[float]]) -> str:
    every = [value for line in lines.values() for value in line]
    low, high = min(every), max(every)
    body = [_mark(low, HIGH - TOP), _mark(high, TOP)]
    for number, (name, line) in enumerate(lines.items()):
        points = " ".join(
            f"{LEFT + at * (WIDE - LEFT - 190) / max(1, len(line) - 1):.1f},"
            f"{TOP + (high - value) / (high - low or 1) * (HIGH - 2 * TOP):.1f}"
            for at, value in enumerate(line)
        )
        colour = COLOURS[number % len(COLOURS)]
        body.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        at = TOP + 18 * number
        body.append(f'<text x="{WIDE - 180}" y="{at}" fill="{colour}">{escape(name)}</text>')
    return _page(title, body)


def _bars(title: str, bars: Mapping[str, float]) -> str:
    most = max(max(map(abs, bars.values())), 1e-9)
    body = []
    for number, (name, value) in enumerate(bars.items()):
        at, wide = TOP + 20 + 60 * number, abs(value) / most * (WIDE - 320)
        colour = COLOURS[0] if value >= 0 else COLOURS[1]
        body.append(f'<rect x="200" y="{at}" width="{wide:.1f}" height="30" fill="{colour}"/>')
        body.append(f'<text x="10" y="{at + 20}">{escape(name)}</text>')
        body.append(f'<text x="{210 + wide:.0f}" y="{at + 20}">{value:+.4f}</text>')
    return _page(title, body)


def _mark(value: float, at: float) -> str:
    return f'<text x="5" y="{at:.0f}">{value:.3f}</text>'


def _page(title: str, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}"'
    style = ' font-family="sans-serif" font-size="12">'
    named = f'<text x="{LEFT}" y="16" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head + style, named, *body, "</svg>", ""])
