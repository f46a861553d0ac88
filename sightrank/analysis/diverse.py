"""A ranking in which each next document adds something: maximal marginal relevance."""

from __future__ import annotations

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
    span = float(logits.max() - logits.min()) if len(logits) else 0.0
    relevance = (logits - logits.min()) / span if span > 0 else np.zeros(len(logits))
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
