"""A chart of messages delivered over time, as SVG text. What was measured is in
tests/lab/picture.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Curve", "chart"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 62, 64, 380, 300
_BETWEEN = 76
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.axis, .tick { stroke: #8c959f; fill: none }
.grid { stroke: #8c959f; stroke-opacity: .25 }
.move { stroke: #8c959f; stroke-dasharray: 2 3 }
.sent { stroke: #8c959f; stroke-width: 1.2; stroke-dasharray: 6 4; fill: none }
.curve { fill: none; stroke-width: 2.2; stroke-linejoin: round }
.c0 { stroke: #0969da } .c1 { stroke: #1a7f37 } .c2 { stroke: #8250df }
.c3 { stroke: #bf8700 } .c4 { stroke: #cf222e } .c5 { stroke: #bc4c00; stroke-dasharray: 9 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .c0 { stroke: #58a6ff } .c1 { stroke: #3fb950 } .c2 { stroke: #bc8cff }
  .c3 { stroke: #d29922 } .c4 { stroke: #ff7b72 } .c5 { stroke: #ffa657 }
}
"""


@dataclass(frozen=True)
class Curve:
    """When messages came: seconds since the move, in order."""

    name: str
    times: tuple[float, ...]


@dataclass(frozen=True)
class _Panel:
    """One of the charts: its place, its part of time, and the messages that it shows."""

    x: float
    title: str
    begin: float
    end: float
    low: float
    high: float
    ticks: Sequence[float]

    def at(self, time: float, count: float) -> str:
        x = self.x + (time - self.begin) / (self.end - self.begin) * _WIDTH
        y = _TOP + _HEIGHT - (count - self.low) / (self.high - self.low) * _HEIGHT
        return f"{x:.1f},{y:.1f}"


def chart(curves: Sequence[Curve], rate: float, until: float, close: float) -> str:
    """Return the picture: from a second before the move to `until` seconds after it, and beside it
    the first `close` seconds at large. `rate` is of the messages that are sent, per second."""
    whole = _Panel(
        _LEFT, "one second before the move and what follows", -1, until, 0,
        rate * (1 + until), range(-1, int(until) + 1),
    )  # fmt: skip
    before = 0.2
    near = _Panel(
        _LEFT + _WIDTH + _BETWEEN, f"the first {close:g} seconds", -before, close,
        rate * (1 - before), rate * (1 + close), [-0.2, 0, 0.2, 0.4, 0.6, 0.8, 1.0],
    )  # fmt: skip
    width = _LEFT + 2 * _WIDTH + _BETWEEN + 24
    rows = (len(curves) + 3) // 3
    height = _TOP + _HEIGHT + 62 + 22 * rows
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        "<title>Messages delivered while a mobile node moves from one network to another</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="24">Messages delivered while the mobile node moves '
        "to another network</text>",
    ]
    for number, panel in enumerate((whole, near)):
        parts += _axes(panel, number)
        parts += _sent(panel, rate)
        for index, curve in enumerate(curves):
            parts.append(_curve(panel, index, curve, number))
    for index, name in enumerate([*(curve.name for curve in curves), "sent"]):
        x, y = _LEFT + (index % 3) * 300, _TOP + _HEIGHT + 66 + 22 * (index // 3)
        kind = f"curve c{index}" if index < len(curves) else "sent"
        parts.append(f'<path class="{kind}" d="M{x},{y - 4} h28"/>')
        parts.append(f'<text x="{x + 36}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes(panel: _Panel, number: int) -> list[str]:
    bottom = _TOP + _HEIGHT
    parts = [
        f'<text x="{panel.x}" y="{_TOP - 14}">{escape(panel.title)}</text>',
        f'<clipPath id="p{number}"><rect x="{panel.x}" y="{_TOP}" width="{_WIDTH}" '
        f'height="{_HEIGHT}"/></clipPath>',
        f'<path class="axis" d="M{panel.x},{_TOP} V{bottom} h{_WIDTH}"/>',
        f'<text x="{panel.x + _WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">'
        "seconds since the move</text>",
        f'<text transform="translate({panel.x - 44},{_TOP + _HEIGHT / 2}) rotate(-90)" '
        'text-anchor="middle">messages delivered</text>',
    ]
    for tick in panel.ticks:
        if panel.begin <= tick <= panel.end:
            x = panel.at(tick, panel.low).split(",")[0]
            kind = "move" if tick == 0 else "grid"
            parts.append(f'<path class="{kind}" d="M{x},{_TOP} V{bottom}"/>')
            parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    step = _step(panel.high - panel.low)
    count = -(-panel.low // step) * step
    while count <= panel.high:
        x, y = panel.at(panel.begin, count).split(",")
        parts.append(f'<path class="grid" d="M{x},{y} h{_WIDTH}"/>')
        parts.append(
            f'<text x="{panel.x - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{count:g}</text>'
        )
        count += step
    return parts


def _step(span: float) -> float:
    return next(step for step in (5, 10, 20, 50, 100, 200, 500, 1000) if span / step <= 8)


def _sent(panel: _Panel, rate: float) -> list[str]:
    ends = [panel.at(time, rate * (1 + time)) for time in (panel.begin, panel.end)]
    return [f'<polyline class="sent" points="{" ".join(ends)}"/>']


def _curve(panel: _Panel, index: int, curve: Curve, number: int) -> str:
    """Return the curve as steps: between two deliveries nothing rises."""
    shown = [
        (count, time)
        for count, time in enumerate(curve.times)
        if panel.begin - 0.1 <= time <= panel.end
    ]
    points = [panel.at(time, count + risen) for count, time in shown for risen in (0, 1)]
    points.append(panel.at(panel.end, shown[-1][0] + 1))
    kind, line = f"curve c{index}", " ".join(points)
    return f'<polyline class="{kind}" clip-path="url(#p{number})" points="{line}"/>'
