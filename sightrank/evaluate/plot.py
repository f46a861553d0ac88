"""A plot of quality against cost as SVG text: no script, nothing loaded, readable in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
ROW = 20
"""Height of a line of the legend, which stands below the axes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's, told apart by most colour-blind readers; shapes differ too."""
SHAPES = ("circle", "square", "diamond", "up", "down")
FASTEST = 1e-6
"""Seconds at the left end at least: the axis is logarithmic."""


@dataclass(frozen=True)
class Point:
    """Cost in seconds, quality, and what to say of it."""

    seconds: float
    quality: float
    label: str


@dataclass(frozen=True)
class Series:
    """A system's points, in the order they are joined."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class _Axes:
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, seconds: float) -> float:
        low, high = math.log10(self.low_x), math.log10(self.high_x)
        share = (math.log10(max(seconds, FASTEST)) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, quality: float) -> float:
        share = (quality - self.low_y) / (self.high_y - self.low_y)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def draw(
    series: Sequence[Series], x_title: str, y_title: str, reference: tuple[str, float] | None = None
) -> str:
    """An `<svg>` of quality over seconds, logarithmic; `reference` is a dashed level with a name."""
    axes = _axes(series, reference)
    height = HEIGHT + ROW * (len(series) + (reference is not None))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(f'{y_title} over {x_title}')}</title>",
        *_frame(axes, x_title, y_title),
        *(_level(axes, reference[1]) if reference else ()),
    ]
    for number, each in enumerate(series):
        parts += _line(axes, each, number)
    parts += _legend(series, reference)
    return "\n".join([*parts, "</svg>"])


def _axes(series: Sequence[Series], reference: tuple[str, float] | None) -> _Axes:
    points = [point for each in series for point in each.points]
    seconds = [max(point.seconds, FASTEST) for point in points] or [1.0]
    values = [point.quality for point in points] + ([reference[1]] if reference else [])
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max((high - low) * 0.1, 0.005)
    return _Axes(
        10 ** math.floor(math.log10(min(seconds))),
        10 ** (math.floor(math.log10(max(seconds))) + 1),
        low - room,
        high + room,
    )


def _frame(axes: _Axes, x_title: str, y_title: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>']
    for power in range(round(math.log10(axes.low_x)), round(math.log10(axes.high_x)) + 1):
        at = axes.x(10.0**power)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{bottom}"/>')
        parts.append(_text(at, bottom + 18, _duration(10.0**power), "middle"))
    step = _step(axes.high_y - axes.low_y)
    digits = max(2, -math.floor(math.log10(step)))
    for number in range(math.ceil(axes.low_y / step), math.floor(axes.high_y / step) + 1):
        at = axes.y(number * step)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        parts.append(_text(LEFT - 8, at + 4, f"{number * step:.{digits}f}", "end"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 8, x_title, "middle"))
    turned = f'transform="rotate(-90 14 {(TOP + bottom) / 2:.1f})"'
    parts.append(_text(14, (TOP + bottom) / 2, y_title, "middle", turned))
    return parts


def _level(axes: _Axes, value: float) -> list[str]:
    return [f'<path class="level" d="M{LEFT} {axes.y(value):.1f}H{WIDTH - RIGHT}"/>']


def _line(axes: _Axes, series: Series, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(axes.x(point.seconds), axes.y(point.quality)) for point in series.points]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{joined}"/>']
    for point, (x, y) in zip(series.points, places, strict=True):
        said = escape(f"{series.name}, {point.label}: {point.quality:.4f}")
        parts.append(f"<g><title>{said}</title>{_mark(x, y, number)}</g>")
        parts.append(_text(x, y - 9, point.label, "middle", 'class="small"'))
    return parts


def _mark(x: float, y: float, number: int) -> str:
    fill = f'fill="{COLOURS[number % len(COLOURS)]}"'
    shape = SHAPES[number % len(SHAPES)]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {fill}/>'
    corners = {
        "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0)),
        "up": ((0, -6), (6, 5), (-6, 5)),
        "down": ((0, 6), (6, -5), (-6, -5)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" {fill}/>'


def _legend(series: Sequence[Series], reference: tuple[str, float] | None) -> list[str]:
    parts: list[str] = []
    for number, each in enumerate(series):
        y = HEIGHT + ROW * number + 8
        parts += [_mark(LEFT, y, number), _text(LEFT + 14, y + 4, each.name)]
    if reference:
        y = HEIGHT + ROW * len(series) + 8
        parts.append(f'<path class="level" d="M{LEFT - 8} {y}h16"/>')
        parts.append(_text(LEFT + 14, y + 4, reference[0]))
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:g} s"
    return f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} µs"


def _step(span: float) -> float:
    """A round distance between lines, so that there are three to seven of them."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    return power * next(factor for factor in (1, 2, 5, 10) if span / (factor * power) <= 6)
