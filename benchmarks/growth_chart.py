"""Cost against peers, as SVG text: one panel for each figure. What was measured is in growth.py."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.measure import Row

__all__ = ["chart"]

_LEFT, _TOP, _WIDTH, _HEIGHT = 52, 66, 300, 150
_ACROSS, _DOWN = 72, 84
_COLUMNS = 2
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.axis { stroke: #8c959f; fill: none }
.live { stroke: #0969da; fill: none; stroke-width: 2.2; stroke-linejoin: round }
.live-point { fill: #0969da } .memory-point { fill: none; stroke: #bf8700; stroke-width: 2.2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .live { stroke: #58a6ff } .live-point { fill: #58a6ff } .memory-point { stroke: #d29922 }
}
"""


def chart(rows: Sequence[Row], figures: Mapping[str, str]) -> str:
    """Return the picture of those rows that are "N peers: FIGURE"; of a contender "in memory alone"
    the points are rings."""
    points: dict[str, list[tuple[int, float, bool]]] = {name: [] for name in figures}
    for row in rows:
        found = re.fullmatch(r"(\d+) peers: (.*)", row.figure)
        if found and found[2] in points:
            alone = row.contender.endswith("in memory alone")
            points[found[2]].append((int(found[1]), row.value, alone))
    drawn = {name: sorted(some) for name, some in points.items() if some}
    most = max((many for some in drawn.values() for many, _, _ in some), default=1)
    width = _LEFT + _COLUMNS * (_WIDTH + _ACROSS)
    height = _TOP + math.ceil(len(drawn) / _COLUMNS) * (_HEIGHT + _DOWN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        "<title>What one peer costs the relay, by how many it has</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{_LEFT}" y="24">What one peer costs the relay, by how many it has'
        "</text>",
    ]
    for number, (name, some) in enumerate(drawn.items()):
        x = _LEFT + number % _COLUMNS * (_WIDTH + _ACROSS)
        y = _TOP + number // _COLUMNS * (_HEIGHT + _DOWN)
        parts += _panel(x, y, f"{name}, {figures[name]}", some, most)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    x: float, y: float, title: str, points: Sequence[tuple[int, float, bool]], most: int
) -> list[str]:
    top = _round_up(max(value for _, value, _ in points))

    def at(many: int, value: float) -> tuple[float, float]:
        return x + many / most * _WIDTH, y + _HEIGHT - value / top * _HEIGHT

    live = [at(many, value) for many, value, alone in points if not alone]
    parts = [
        f'<text x="{x}" y="{y - 12}">{escape(title)}</text>',
        f'<path class="axis" d="M{x},{y} V{y + _HEIGHT} H{x + _WIDTH}"/>',
        f'<text x="{x - 6}" y="{y + 5}" text-anchor="end">{top:g}</text>',
        f'<text x="{x - 6}" y="{y + _HEIGHT + 4}" text-anchor="end">0</text>',
        f'<text x="{x + _WIDTH}" y="{y + _HEIGHT + 18}" text-anchor="end">{most:,} peers</text>',
        '<polyline class="live" points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in live) + '"/>',
    ]
    for many, value, alone in points:
        a, b = at(many, value)
        word = "memory" if alone else "live"
        label = f"{many:,}: {value:.3g}"
        parts.append(
            f'<circle class="{word}-point" cx="{a:.1f}" cy="{b:.1f}" r="4">'
            f"<title>{label}</title></circle>"
        )
    return parts


def _round_up(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten that is no less."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
