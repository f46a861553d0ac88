"""Occlusion, the slow truth: take a piece of the document away and see what the score loses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.case import Attribution, Case
from sightrank.analysis.regions import word_starts
from sightrank.engine.engine import Pair
from sightrank.engine.prefix_cache import PrefixCache
from sightrank.inputs.images import MERGE, PATCH, ImagePatches
from sightrank.inputs.segments import Content

MOST_WINDOWS = 64
"""Pieces into which one text or page is cut: each costs as much as scoring a document anew."""


@dataclass(frozen=True)
class Window:
    """Tokens that are taken away together, and what is left of the document."""

    tokens: NDArray[np.intp]
    content: Content


def occlusion(case: Case) -> Attribution:
    """What the logit loses, by token, when the token's window is cut out or painted over.

    Words are cut out of texts; squares of pages are painted in the page's most common colour (Zeiler
    and Fergus 2014, arXiv 1311.2901). The whole document is run anew for every window, so a window
    means what removing it from the file would mean. A window's drop is shared by its tokens alike.
    Unit: logits.
    """
    windows = list(cut(case))
    whole, *rest = logits(case, [case.content, *(window.content for window in windows)])
    values = np.zeros(len(case.segment))
    for window, logit in zip(windows, rest, strict=True):
        values[window.tokens] = (whole - logit) / len(window.tokens)
    return Attribution(values)


def cut(case: Case) -> Iterator[Window]:
    """The windows of all parts: at most 64 a part, of one size but for the last ones."""
    for number, part in enumerate(case.content):
        tokens = np.flatnonzero(case.places.part == number)
        pieces: Iterator[tuple[NDArray[np.intp], str | ImagePatches]] = (
            _text_windows(case, part, tokens)
            if isinstance(part, str)
            else _image_windows(part, tokens)
        )
        for chosen, left in pieces:
            content = [*case.content[:number], left, *case.content[number + 1 :]]
            yield Window(chosen, content)


def logits(case: Case, contents: list[Content]) -> list[float]:
    """The query's logit for each of these documents, run anew and not remembered."""
    engine = copy(case.engine)
    engine.cache = PrefixCache(0)
    segments = [case.encoder.prefix(content) for content in contents]
    pairs = [
        Pair(place, 0, case.encoder.suffix(segment, case.query))
        for place, segment in enumerate(segments)
    ]
    return [float(logit) for logit in engine.score(segments, [case.query], pairs)]


def _text_windows(
    case: Case, text: str, tokens: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], str]]:
    """Whole words: (their tokens, the text without them)."""
    starts, ends = case.places.start[tokens], case.places.end[tokens]
    words = np.split(tokens, word_starts(text, starts, ends)[1:])
    size = max(1, math.ceil(len(words) / MOST_WINDOWS))
    for first in range(0, len(words), size):
        chosen = np.concatenate(words[first : first + size])
        start, end = case.places.start[chosen[0]], case.places.end[chosen[-1]]
        yield chosen, text[:start] + text[end:]


def _image_windows(
    patches: ImagePatches, tokens: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], ImagePatches]]:
    """Squares of visual tokens: (the tokens, the image with the square painted over)."""
    rows, columns = patches.merged_grid
    side = 1
    while math.ceil(rows / side) * math.ceil(columns / side) > MOST_WINDOWS:
        side += 1
    grid = np.arange(rows * columns).reshape(rows, columns)
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            square = grid[top : top + side, left : left + side].ravel()
            yield tokens[square], paint(patches, square)


def paint(patches: ImagePatches, tokens: NDArray[np.intp]) -> ImagePatches:
    """The image with the pixels under these visual tokens in its median colour."""
    channels = patches.pixels.reshape(len(patches.pixels), 3, PATCH * PATCH)
    colour = np.median(channels, axis=(0, 2)).astype(np.uint8)
    painted = channels.copy()
    rows = (tokens[:, None] * MERGE**2 + np.arange(MERGE**2)).ravel()
    painted[rows] = colour[:, None]
    return ImagePatches(painted.reshape(patches.pixels.shape), patches.grid)
