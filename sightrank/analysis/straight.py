"""Print as a scanner saw it, set straight."""

from __future__ import annotations

import numpy as np
import PIL.Image
from numpy.typing import NDArray

TURNS = tuple(step / 4 for step in range(-8, 9))
"""Degrees by which a scan may be askew."""


def straight(grey: PIL.Image.Image) -> PIL.Image.Image:
    """A scan turned back by up to two degrees, to where its rows of print stand out most."""
    ink = PIL.Image.fromarray(np.clip(ink_of(grey, 256), 0, 255).astype(np.uint8))
    edges = {}
    for angle in TURNS:
        turned = ink.rotate(angle, PIL.Image.Resampling.BILINEAR) if angle else ink
        edges[angle] = float((np.diff(np.asarray(turned, np.float64).sum(axis=1)) ** 2).sum())
    best = max(TURNS, key=lambda angle: (edges[angle], -abs(angle)))
    if edges[best] <= 1.1 * edges[0.0]:
        return grey
    paper = int(np.median(np.asarray(grey)))
    return grey.rotate(best, PIL.Image.Resampling.BILINEAR, fillcolor=paper)


def ink_of(grey: PIL.Image.Image, side: int) -> NDArray[np.float64]:
    """How far each place differs from the background, in a picture of at most `side` a side."""
    scale = max(1.0, max(grey.size) / side)
    size = max(1, round(grey.width / scale)), max(1, round(grey.height / scale))
    small = np.asarray(grey.resize(size, PIL.Image.Resampling.BOX), np.float64)
    ink = np.abs(small - np.median(small))
    ink[ink < max(24.0, 0.3 * float(ink.max()))] = 0
    return ink
