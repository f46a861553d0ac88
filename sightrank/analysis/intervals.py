"""Confidence intervals of a share of pairs, where pairs of one query are not independent.

Clopper and Pearson's exact interval (1934) takes pairs as independent; those of one query are not:
a hard query spoils many at once. A bootstrap over queries sees that, but has no width where
nothing went wrong, which is where a precision near 1 is promised. So the exact interval is taken
with the number of independent pairs that would vary as much from query to query (Korn and Graubard
1998), the number of queries where nothing varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """`hits` of `total` pairs, with its interval."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.total if self.total else math.nan


def share_by_query(
    hits: NDArray[np.bool_], queries: NDArray[np.int64], confidence: float = CONFIDENCE
) -> Share:
    """The share of `hits` (pairs,) with its interval; `queries` (pairs,) numbers their queries."""
    total, num_hits = len(hits), int(hits.sum())
    if not total:
        return Share(0, 0, 0.0, 1.0)
    size = _effective_size(hits, queries)
    low, high = exact_interval(num_hits / total * size, size, confidence)
    return Share(num_hits, total, low, high)


def surely_reaches(
    hits: NDArray[np.bool_],
    queries: NDArray[np.int64],
    wanted: float,
    confidence: float = CONFIDENCE,
) -> bool:
    """Whether the lower end of `share_by_query` is at `wanted` or above, without computing it."""
    if not len(hits) or float(hits.mean()) < wanted:
        return False
    size = _effective_size(hits, queries)
    expected = float(hits.mean()) * size
    return beta_cdf(wanted, expected, size - expected + 1) <= (1 - confidence) / 2


def _effective_size(hits: NDArray[np.bool_], queries: NDArray[np.int64]) -> float:
    """Independent pairs whose share would vary as much: p (1 - p) / variance of the ratio."""
    total = len(hits)
    counts = np.bincount(queries)
    totals = counts[counts > 0].astype(np.float64)
    sums = np.bincount(queries, hits.astype(np.float64))[counts > 0]
    groups, share = len(totals), float(hits.mean())
    if groups < 2 or share in (0.0, 1.0):
        return float(groups)
    variance = groups / (groups - 1) * float(((sums - share * totals) ** 2).sum()) / total**2
    if variance == 0:
        return float(groups)
    return min(float(total), share * (1 - share) / variance)


def exact_interval(
    hits: float, total: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Clopper and Pearson's interval as quantiles of beta distributions; counts may be fractions."""
    tail = (1 - confidence) / 2
    low = 0.0 if hits <= 0 else _beta_quantile(tail, hits, total - hits + 1)
    high = 1.0 if hits >= total else _beta_quantile(1 - tail, hits + 1, total - hits)
    return low, high


def _beta_quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):  # halving: 60 steps reach the last bit
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x)) / a
    return front / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1 / (1 + d2 / (1 + ...)), by Lentz's method."""
    tiny = 1e-300
    value = c = 1.0
    d = 0.0
    for number in range(1, 1000):
        half, odd = divmod(number, 2)
        if odd:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return value
