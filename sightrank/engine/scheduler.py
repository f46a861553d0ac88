"""Which segments go through the model together: integers in, integers out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def plan(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut 0..len(costs)-1, in order, into batches whose costs sum to at most `budget`.

    An item that costs more than the budget is a batch of its own.
    """
    batch: list[int] = []
    used = 0
    for index, cost in enumerate(costs):
        if batch and used + cost > budget:
            yield batch
            batch, used = [], 0
        batch.append(index)
        used += cost
    if batch:
        yield batch
