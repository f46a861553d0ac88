"""Which documents have runs of words of the same widths in common."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.neighbours import NEAREST, near_pairs
from sightrank.analysis.widths import NONE, STEPS, Widths

RUN = 10
"""Words of a run that is compared."""
TWIN = 0.1
"""Root mean square of the differences between two runs of the same words, at most."""
EVEN = 0.15
"""Deviation of a run's words below which it says nothing: tables, and scripts of which every
character stands alone."""
LEAST = 20
"""Words from which on a document can be known again."""
SHORTER = 0.4
"""Share of the longer document's words that the shorter has at least."""

SKETCHED, NUMBERS = 6, 256
"""Words of the runs of which a sketch is made, and its size."""
BLUR = 0.15
"""Width of the Gaussian kernel, as a distance between two runs."""
NEAR = 0.45
"""Cosine of sketches from which on two documents are compared run by run."""


def common(
    widths: NDArray[np.int8], asked: NDArray[np.bool_], least: float
) -> list[tuple[int, int, float]]:
    """(i, j, share) with i < j, of (documents, 512) widths of words, where the share is `least` or more.

    It is that of `shared`. One of each pair is `asked` for, (documents,). A document is compared with
    those 16 whose sketches are nearest. Raises MissingExtraError for more than 2,000 without usearch.
    """
    if not asked.any():
        return []
    sketches = np.stack([sketch(row) for row in widths])
    pairs = _nearest(near_pairs(sketches, NEAR, asked))
    compared = [(i, j, shared(widths[i], widths[j])) for i, j in pairs]
    return [(i, j, share) for i, j, share in compared if share is not None and share >= least]


def _nearest(pairs: list[tuple[int, int, float]]) -> list[tuple[int, int]]:
    """The pairs that are among the 16 nearest of one of their documents, in order."""
    times: Counter[int] = Counter()
    chosen = []
    for i, j, _ in sorted(pairs, key=lambda pair: -pair[2]):
        if min(times[i], times[j]) < NEAREST:
            chosen.append((i, j))
        times.update((i, j))
    return sorted(chosen)


def shared(one: Widths, other: Widths) -> float | None:
    """The share of the words of the shorter document that stand in a run of ten with a twin.

    A twin is a run in the other document whose words, taken as square roots of widths, differ by 0.1
    of their mean or less: what the letters of a word add to its width is spread by the root of their
    number. None where it cannot be told: of less than 20 words, of words all as wide as another, or
    of a document of less than two fifths of the other's words.
    """
    short, long = sorted((one[one != NONE], other[other != NONE]), key=len)
    if len(short) < max(LEAST, SHORTER * len(long)):
        return None
    runs, rivals = _runs(short, RUN), _runs(long, RUN)
    telling = runs.std(axis=1) >= EVEN
    rivals = rivals[rivals.std(axis=1) >= EVEN]
    if not telling.any() or not len(rivals):
        return None
    squares = (runs**2).sum(axis=1)[:, None] + (rivals**2).sum(axis=1) - 2 * runs @ rivals.T
    twins = telling & (squares.min(axis=1) <= RUN * TWIN**2)
    return float((np.convolve(twins, np.ones(RUN)) > 0.5).mean())


def sketch(widths: Widths) -> NDArray[np.int8]:
    """(256,) the mean over a document's runs of six of random waves, zeros if it is too short.

    The inner product of two is near the mean of a Gaussian kernel over all pairs of their runs
    (Rahimi and Recht 2007), wherever in them they stand.
    """
    words = widths[widths != NONE]
    runs = _runs(words, SKETCHED) if len(words) >= LEAST else np.zeros((0, SKETCHED), np.float32)
    phases = runs[runs.std(axis=1) >= EVEN] @ _waves()
    if not len(phases):
        return np.zeros(NUMBERS, np.int8)
    mean = np.concatenate((np.cos(phases).mean(axis=0), np.sin(phases).mean(axis=0)))
    scaled: NDArray[np.int8] = np.rint(mean * (127 / np.abs(mean).max())).astype(np.int8)
    return scaled


@lru_cache(maxsize=1)
def _waves() -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    return (random.normal(size=(SKETCHED, NUMBERS // 2)) / BLUR).astype(np.float32)


def _runs(words: Widths, length: int) -> NDArray[np.float32]:
    """(runs, length) roots of widths in runs of `length` words, over the root of their mean, less
    their mean: so that neither the size of the print nor the font's tells."""
    widths = np.exp2(words.astype(np.float32) / STEPS)
    runs = np.lib.stride_tricks.sliding_window_view(widths, length)
    roots = np.sqrt(runs / runs.mean(axis=1, keepdims=True))
    centred: NDArray[np.float32] = roots - roots.mean(axis=1, keepdims=True)
    return centred
