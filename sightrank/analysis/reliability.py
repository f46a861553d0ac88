"""How far probabilities can be believed: calibration error, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width, as in Guo et al. 2017."""
SIDE, EDGE = 300, 48
COLOURS = ("#b0452c", "#2c6fb0", "#3c8c4a")


@dataclass(frozen=True)
class Bin:
    """Pairs whose probabilities lie together."""

    count: int
    probability: float
    """Their mean."""
    share: float
    """Of them that are relevant."""


@dataclass(frozen=True)
class Reliability:
    """Figures of probabilities beside the truth."""

    ece: float
    """Expected calibration error: mean of |probability - share| over bins, by their pairs."""
    brier: float
    """Mean squared error."""
    log_loss: float
    """Mean negative log likelihood, in nats."""
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "ece": self.ece,
            "brier": self.brier,
            "log_loss": self.log_loss,
            "bins": [vars(each) for each in self.bins],
        }


def reliability(
    probabilities: NDArray[np.float64], relevant: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Figures of (pairs,) probabilities."""
    at = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    counts = np.bincount(at, minlength=bins)
    means = np.bincount(at, probabilities, bins) / np.maximum(counts, 1)
    shares = np.bincount(at, relevant.astype(np.float64), bins) / np.maximum(counts, 1)
    inside = np.clip(probabilities, 1e-12, 1 - 1e-12)
    likelihood = np.where(relevant, np.log(inside), np.log1p(-inside))
    found = [
        Bin(int(count), float(mean), float(share))
        for count, mean, share in zip(counts, means, shares, strict=True)
        if count
    ]
    return Reliability(
        float((counts * np.abs(means - shares)).sum() / max(len(probabilities), 1)),
        float(((probabilities - relevant) ** 2).mean()),
        float(-likelihood.mean()),
        tuple(found),
    )


def diagram(lines: Mapping[str, Reliability], title: str) -> str:
    """An SVG with one curve a name: share of relevant pairs over probability; the diagonal is right.

    A dot's area grows with the pairs of its bin.
    """
    width, height = SIDE + 2 * EDGE, SIDE + 2 * EDGE + 18 * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{EDGE}" y="24" font-size="14">{escape(title)}</text>',
        *_axes(),
    ]
    for number, (name, found) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts += _curve(found.bins, colour)
        y = SIDE + 2 * EDGE + 18 * number
        parts.append(f'<circle cx="{EDGE + 5}" cy="{y - 4}" r="5" fill="{colour}"/>')
        label = f"{name}: calibration error {found.ece:.3f}"
        parts.append(f'<text x="{EDGE + 16}" y="{y}">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axes() -> list[str]:
    rows = [
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#999"'
        ' stroke-dasharray="4 3"/>',
        f'<rect x="{EDGE}" y="{EDGE}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>',
    ]
    for tick in (0, 0.5, 1):
        rows.append(f'<text x="{_x(tick)}" y="{_y(0) + 15}" text-anchor="middle">{tick}</text>')
        rows.append(f'<text x="{EDGE - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick}</text>')
    x, y = EDGE + SIDE / 2, EDGE + SIDE / 2
    rows.append(f'<text x="{x}" y="{_y(0) + 30}" text-anchor="middle">probability</text>')
    rows.append(
        f'<text x="16" y="{y}" text-anchor="middle" transform="rotate(-90 16 {y})">relevant</text>'
    )
    return rows


def _curve(bins: Sequence[Bin], colour: str) -> list[str]:
    total = sum(each.count for each in bins)
    points = [(_x(each.probability), _y(each.share)) for each in bins]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    rows = [f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"/>']
    for each, (x, y) in zip(bins, points, strict=True):
        radius = 2 + 10 * (each.count / total) ** 0.5
        tip = f"{each.count} pairs: probability {each.probability:.3f}, relevant {each.share:.3f}"
        rows.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.5">'
            f"<title>{tip}</title></circle>"
        )
    return rows


def _x(value: float) -> float:
    return EDGE + SIDE * value


def _y(value: float) -> float:
    return EDGE + SIDE * (1 - value)
