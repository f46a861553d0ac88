"""Whether one system is better than another on the same queries, or lucky: a paired test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EQUAL = 1e-9
"""Values of a metric that differ by less are a tie: sums of gains are rounded."""
AT_ONCE = 1 << 20
"""Signs drawn at once."""


@dataclass(frozen=True)
class Comparison:
    """One system against a baseline, over the same queries."""

    difference: float
    """Mean of value minus baseline's value."""
    p: float
    """Two-sided; not corrected for how many comparisons are made."""
    wins: int
    losses: int
    ties: int
    permutations: int
    """Assignments of signs that were tried."""
    exact: bool
    """Whether these were all that there are."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON that scripts read."""
        return asdict(self)


def compare(
    values: Sequence[float], baseline: Sequence[float], permutations: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two systems' values, a query each, in the same order of queries.

    Fisher's randomisation test: were the two the same, then each query's difference could as well
    have the other sign. p is the share of assignments of signs whose mean difference is at least
    as far from 0 as the one observed (Smucker, Allan and Carterette, CIKM 2007). All 2^n are tried
    where these are at most `permutations`, n being the queries that differ; else `permutations`
    are drawn, and the observed one counts as one more, so that p is never 0.
    """
    differences = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    differences[np.abs(differences) < EQUAL] = 0
    moved = differences[differences != 0]
    p, tried, exact = _p_value(moved, permutations, seed)
    return Comparison(
        difference=float(differences.mean()) if len(differences) else 0.0,
        p=p,
        wins=int((moved > 0).sum()),
        losses=int((moved < 0).sum()),
        ties=len(differences) - len(moved),
        permutations=tried,
        exact=exact,
    )


def _p_value(
    differences: NDArray[np.float64], permutations: int, seed: int
) -> tuple[float, int, bool]:
    count = len(differences)
    exact = 2**count <= permutations
    chunks = _all_signs(count) if exact else _drawn_signs(count, permutations, seed)
    least = abs(float(differences.sum())) - EQUAL
    extreme = sum(int((np.abs(signs @ differences) >= least).sum()) for signs in chunks)
    if exact:
        return extreme / 2**count, 2**count, True
    return (extreme + 1) / (permutations + 1), permutations, False


def _all_signs(count: int) -> Iterator[NDArray[np.float64]]:
    """Every assignment of +1 and -1 to `count` places, (assignments, places) at a time."""
    step = max(1, AT_ONCE // max(count, 1))
    for start in range(0, 2**count, step):
        numbers = np.arange(start, min(start + step, 2**count))[:, None]
        yield 1 - 2 * ((numbers >> np.arange(count)) & 1).astype(np.float64)


def _drawn_signs(count: int, permutations: int, seed: int) -> Iterator[NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    step = max(1, AT_ONCE // count)
    for start in range(0, permutations, step):
        size = (min(step, permutations - start), count)
        yield 1 - 2 * random.integers(0, 2, size, dtype=np.int8).astype(np.float64)
