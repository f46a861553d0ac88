"""From scores by token to what people point at: spans of text, and boxes on a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.5
"""Of the largest score: what reaches it belongs to a span or box."""
_SMOOTH = np.array([0.25, 0.5, 0.25])


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text and their share, in [0, 1], of all that speaks for it."""

    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Cells:
    """Rows [top, bottom) and columns [left, right) of a grid, and their share of all scores."""

    left: int
    top: int
    right: int
    bottom: int
    score: float


def word_starts(text: str, starts: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.intp]:
    """Indices of the tokens with which a word begins, the first among them.

    A token goes on with the word before it if letters or digits meet between them, or if both are
    bytes of one character. Scripts written without spaces are not joined: their tokens are words.
    """
    first = [0]
    for index, (before, here) in enumerate(zip(ends[:-1], starts[1:], strict=True), start=1):
        inside = here < before
        if not inside and before == here and 0 < here < len(text):
            inside = _joins(text[here - 1]) and _joins(text[here])
        if not inside:
            first.append(index)
    return np.array(first[: len(starts)], np.intp)


def _joins(char: str) -> bool:
    return char.isalnum() and ord(char) < 0x2E80


def spans(
    text: str,
    starts: NDArray[np.int32],
    ends: NDArray[np.int32],
    scores: NDArray[np.float64],
    total: float,
    top: float,
) -> list[Span]:
    """Runs of words whose smoothed score reaches half of `top`, the hottest first.

    starts, ends and scores are (tokens,). A word's score is its tokens' mean, so that long words
    do not win by their length. `total` is what all positive scores of the document sum to, `top` the
    largest smoothed score of a word in it.
    """
    if not len(starts) or total <= 0 or top <= 0:
        return []
    first = word_starts(text, starts, ends)
    hot = smoothed_words(first, scores) >= THRESHOLD * top
    positive = np.add.reduceat(np.maximum(scores, 0), first)
    last = np.append(first[1:], len(starts)) - 1
    found = [
        _trimmed(text, int(starts[first[a]]), int(ends[last[b - 1]]), positive[a:b].sum() / total)
        for a, b in runs(hot)
    ]
    return sorted((span for span in found if span.end > span.start), key=lambda s: -s.score)


def smoothed_words(first: NDArray[np.intp], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean score of each word, then a quarter of each neighbour and half of itself."""
    if not len(first):
        return np.zeros(0)
    sizes = np.diff(np.append(first, len(scores)))
    means = np.add.reduceat(scores, first) / sizes
    return np.convolve(np.pad(means, 1, mode="edge"), _SMOOTH, mode="valid")


def runs(hot: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, end) of neighbours that are all true."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], hot, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _trimmed(text: str, start: int, end: int, score: float) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end, float(score))


def boxes(grid: NDArray[np.float64], total: float, top: float) -> list[Cells]:
    """Boxes around touching cells of (rows, columns) whose smoothed score reaches half of `top`, the
    hottest first.

    `total` is what all positive scores of the document sum to, `top` the largest smoothed score.
    """
    if total <= 0 or top <= 0:
        return []
    found = []
    for cells in components(smoothed_grid(grid) >= THRESHOLD * top):
        rows, columns = [row for row, _ in cells], [column for _, column in cells]
        share = sum(max(grid[cell], 0) for cell in cells) / total
        box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        found.append(Cells(*box, float(share)))
    return sorted(found, key=lambda box: -box.score)


def smoothed_grid(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each cell with a quarter of either neighbour and half of itself, across and then down."""
    padded = np.pad(grid, 1, mode="edge")
    across = padded[:, :-2] * _SMOOTH[0] + padded[:, 1:-1] * _SMOOTH[1] + padded[:, 2:] * _SMOOTH[2]
    down: NDArray[np.float64] = across[:-2] * _SMOOTH[0] + across[1:-1] * _SMOOTH[1]
    down += across[2:] * _SMOOTH[2]
    return down


def components(hot: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Cells that are true, in groups that touch at a side."""
    waiting = {(int(row), int(column)) for row, column in np.argwhere(hot)}
    groups = []
    while waiting:
        group = [waiting.pop()]
        for row, column in group:  # grows while it is read
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            group += near & waiting
            waiting -= near
        groups.append(group)
    return groups
