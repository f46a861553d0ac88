"""Near pairs among many vectors without comparing all: an approximate index (HNSW, by usearch)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import MissingExtraError

EXACT_BELOW = 2_000
"""Up to so many vectors all pairs are compared, which takes less time than an index."""
NEAREST = 16
"""Neighbours that are asked for. In a group of more copies each finds so many, and they join it."""


def require_neighbours(count: int) -> None:
    """Raise MissingExtraError if `count` documents need usearch and it is not installed.

    Better before the work than after.
    """
    if count <= EXACT_BELOW:
        return
    try:
        import usearch.index  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            f"Finding copies among {count:,} documents needs the package usearch, which is not"
            " installed.",
            "pip install 'sightrank[dedup]'",
        ) from None


def near_pairs(
    vectors: NDArray[Any], least: float, asked: NDArray[np.bool_] | None = None
) -> list[tuple[int, int, float]]:
    """(i, j, cosine) with i < j and a cosine of `least` or more, of (n, d) vectors.

    Rows of zeros are near nothing. Up to 2,000 vectors every pair is found; of more, those among
    each one's 16 nearest. With `asked`, (n,), only pairs of which one is. Raises MissingExtraError.
    """
    there = np.flatnonzero((vectors != 0).any(axis=1))
    chosen = vectors[there]
    wanted = np.ones(len(there), bool) if asked is None else asked[there]
    search = _all if len(chosen) <= EXACT_BELOW else _nearest
    found = search(chosen, least, wanted)
    return [(int(there[i]), int(there[j]), cosine) for i, j, cosine in found]


def _all(
    vectors: NDArray[Any], least: float, asked: NDArray[np.bool_]
) -> list[tuple[int, int, float]]:
    if not asked.any():
        return []
    unit = vectors.astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.triu(unit @ unit.T, 1)
    rows, columns = np.nonzero((cosines >= least - 1e-6) & (asked[:, None] | asked))
    values = cosines[rows, columns].tolist()
    return list(zip(rows.tolist(), columns.tolist(), values, strict=True))


def _nearest(
    vectors: NDArray[Any], least: float, asked: NDArray[np.bool_]
) -> list[tuple[int, int, float]]:
    require_neighbours(len(vectors))
    from usearch.index import Index

    kind = "i8" if vectors.dtype == np.int8 else "f32"
    index = Index(ndim=vectors.shape[1], metric="cos", dtype=kind)
    keys = np.arange(len(vectors), dtype=np.uint64)
    index.add(keys, vectors)
    matches = index.search(vectors[asked], NEAREST)
    rows = np.flatnonzero(asked)
    near = (1 - matches.distances >= least - 1e-6) & (matches.keys != rows[:, None])
    pairs: dict[tuple[int, int], float] = {}
    for at, column in np.argwhere(near):
        row, other = int(rows[at]), int(matches.keys[at, column])
        pairs[min(row, other), max(row, other)] = 1 - float(matches.distances[at, column])
    return [(i, j, cosine) for (i, j), cosine in sorted(pairs.items())]
