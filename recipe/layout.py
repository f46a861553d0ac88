"""Documents as the decoder meets them: a row of text tokens, or a grid of cells as on a page.

A visual token covers a square of 28 x 28 pixels, in which parts of one to three lines of print lie.
The same can be had from text alone: wrap the tokens into lines, cut lines and columns into cells, and
let each cell be the mean of the embeddings of the tokens in it. A decoder that ranks such grids needs
a vision tower only to say which tokens lie where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipe.pack import LINE_BREAK

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Prefix:
    """A prompt up to the query. Slot s of it holds tokens[bounds[s]:bounds[s + 1]], averaged."""

    tokens: Ints
    bounds: Ints
    positions: Ints
    """(3, slots)"""
    next_position: int
    slots: Ints
    """Of each token of the document, or of each cell of a picture, the slot that it is in."""
    blind: NDArray[np.bool_]
    """(slots,), of which the rows lack what their words mean, as what the vision tower sees does."""

    def __len__(self) -> int:
        return len(self.bounds) - 1


@dataclass(frozen=True)
class Special:
    """Ids around a picture, and the one that stands for an empty cell."""

    vision_start: int
    vision_end: int
    blank: int


def as_text(head: Ints, body: Ints, tail: Ints) -> Prefix:
    """Every token a slot of its own, all three position rows alike."""
    tokens = np.concatenate((head, body, tail))
    size = len(tokens)
    positions = np.tile(np.arange(size), (3, 1))
    return Prefix(
        tokens=tokens,
        bounds=np.arange(size + 1),
        positions=positions,
        next_position=size,
        slots=len(head) + np.arange(len(body)),
        blind=np.zeros(size, bool),
    )


def as_grid(
    head: Ints,
    body: Ints,
    tail: Ints,
    widths: NDArray[np.uint8],
    special: Special,
    rng: np.random.Generator,
) -> Prefix:
    """The body laid out as print of a random size and seen as visual tokens."""
    row, column = _places(widths[body].astype(np.int64), rng)
    top, left, bottom, right = rng.integers(0, 3, 4) if len(body) > 60 else (0, 0, 0, 0)
    rows = int(row.max()) + 1 + top + bottom
    columns = int(column.max()) + 1 + left + right
    cell = (row + top) * columns + column + left
    tokens, counts = _fill(body, cell, rows * columns, special.blank)
    return _around(head, tokens, counts, (rows, columns), tail, special, cell)


def as_picture(head: Ints, grid: tuple[int, int], tail: Ints, special: Special) -> Prefix:
    """A prompt around a picture of (rows, columns) visual tokens, blank so far."""
    cells = grid[0] * grid[1]
    blanks = np.full(cells, special.blank)
    ones = np.ones(cells, np.int64)
    return _around(head, blanks, ones, grid, tail, special, np.arange(cells))


def _around(
    head: Ints,
    tokens: Ints,
    counts: Ints,
    grid: tuple[int, int],
    tail: Ints,
    special: Special,
    cell: Ints,
) -> Prefix:
    """The prompt around cells in raster order, counts[c] of the tokens in each, at the positions
    that the network gives an image."""
    rows, columns = grid
    start = len(head) + 1
    i, j = np.divmod(np.arange(rows * columns), columns)
    picture = np.stack((np.full_like(i, start), start + i, start + j))
    after = start + max(rows, columns)
    ends = np.arange(after, after + 1 + len(tail))
    return Prefix(
        tokens=np.concatenate((head, [special.vision_start], tokens, [special.vision_end], tail)),
        bounds=np.concatenate(([0], np.cumsum([1] * start + list(counts) + [1] * len(ends)))),
        positions=np.concatenate(
            (np.tile(np.arange(start), (3, 1)), picture, np.tile(ends, (3, 1))), axis=1
        ),
        next_position=int(ends[-1]) + 1,
        slots=start + cell,
        blind=np.repeat([False, True, False], [start, len(counts), len(ends)]),
    )


MAX_CELLS = 450
"""Visual tokens of a page at most, margins not counted; more print goes into larger cells."""


def _places(widths: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Row and column of the cell that each token of a body (at least one) falls into."""
    columns = int(rng.integers(6, 22))
    cell_width = rng.uniform(2.5, 7.0)  # half-width characters a cell
    cell_lines = rng.uniform(0.8, 2.6)
    while True:
        line, column = _wrap(widths, int(columns * cell_width))
        row = (line / cell_lines).astype(np.int64)
        if (int(row.max()) + 1) * columns <= MAX_CELLS:
            return row, np.minimum((column / cell_width).astype(np.int64), columns - 1)
        columns = min(columns + 2, 21)
        cell_width, cell_lines = cell_width * 1.1, cell_lines * 1.1


def _wrap(widths: Ints, line_width: int) -> tuple[Ints, Ints]:
    """Line and horizontal middle of each token, in characters, when lines break at `line_width`."""
    lines, columns = np.empty_like(widths), np.empty_like(widths)
    line = used = 0
    for index, width in enumerate(widths):
        if width == LINE_BREAK:
            lines[index], columns[index] = line, used
            line, used = line + 1, 0
            continue
        if used and used + width > line_width:
            line, used = line + 1, 0
        lines[index], columns[index] = line, used + width // 2
        used += width
    return lines, columns


def _fill(tokens: Ints, cell: Ints, cells: int, blank: int) -> tuple[Ints, Ints]:
    """Tokens sorted into cells, each empty cell given the blank; with the count in each."""
    empty = np.setdiff1d(np.arange(cells), cell)
    cell = np.concatenate((cell, empty))
    tokens = np.concatenate((tokens, np.full(len(empty), blank)))
    return tokens[np.argsort(cell, kind="stable")], np.bincount(cell, minlength=cells)
