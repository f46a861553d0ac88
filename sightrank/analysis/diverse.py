"""A ranking in which each next document adds something, by one of two rules."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

POOL = 200
"""The best documents, which are put in a new order; the others follow as they were."""


def most_marginal(
    logits: NDArray[np.float64], vectors: NDArray[np.float32], balance: float
) -> list[int]:
    """An order of documents: each next one maximises

        balance * relevance - (1 - balance) * highest cosine to what is chosen

    (Carbonell and Goldstein 1998). `logits` (n,), best first, become a relevance from 0 to 1 by their
    range, since probabilities of a sure model are all near 0 or 1. `vectors` (n, d) have unit length;
    a cosine below 0 counts as 0. `balance` 1 keeps the order.
    """
    relevance = _relevance(logits)
    nearest = np.zeros(len(logits))
    left = np.ones(len(logits), np.bool_)
    order: list[int] = []
    while left.any():
        value = np.where(left, balance * relevance - (1 - balance) * nearest, -np.inf)
        best = int(value.argmax())  # of equals the first, which is the more relevant one
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return order


def most_covering(
    logits: NDArray[np.float64], vectors: NDArray[np.float32], balance: float
) -> list[int]:
    """An order of documents whose every beginning S has a high value of

        balance * sum of relevance in S
        + (1 - balance) * sum over all documents of relevance * highest cosine to one in S

    the second sum, a facility location (Lin and Bilmes 2011), in units of the best single document's.
    What S leaves out is thus still stood for, where it is relevant. Both sums are monotone and
    submodular, so that the first k documents, each the one that adds most, have at least 1 - 1/e of
    the value of the best k (Nemhauser, Wolsey and Fisher 1978). Arguments as `most_marginal`.
    """
    relevance = _relevance(logits)
    stands_for = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    weights = relevance if relevance.any() else np.ones(len(logits))
    unit = float((stands_for @ weights).max(initial=0.0)) or 1.0
    covered = np.zeros(len(logits))

    def gain(at: int) -> float:
        added = float(weights @ np.maximum(stands_for[at] - covered, 0)) / unit
        return balance * float(relevance[at]) + (1 - balance) * added

    # Gains only fall, so that an old one is a bound: most are never computed again (Minoux 1978).
    waiting = [(-gain(at), at, 0) for at in range(len(logits))]
    heapq.heapify(waiting)
    order: list[int] = []
    while waiting:
        _, at, known = waiting[0]
        if known < len(order):
            heapq.heapreplace(waiting, (-gain(at), at, len(order)))
            continue
        heapq.heappop(waiting)
        order.append(at)
        covered = np.maximum(covered, stands_for[at])
    return order


def _relevance(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1 by the range of the logits."""
    span = float(logits.max() - logits.min()) if len(logits) else 0.0
    return (logits - logits.min()) / span if span > 0 else np.zeros(len(logits))


RULES: dict[str, Callable[[NDArray[np.float64], NDArray[np.float32], float], list[int]]] = {
    "marginal": most_marginal,
    "facility": most_covering,
}
