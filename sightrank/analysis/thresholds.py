"""From which probability on documents are taken, for a wanted precision or recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.intervals import CONFIDENCE, Share, share_by_query, surely_reaches
from sightrank.errors import OptionError

Goal = Literal["precision", "recall"]
GOALS: tuple[Goal, Goal] = ("precision", "recall")
TRIED = 256
"""Thresholds that are looked at, evenly spread over the pairs."""
STARTS = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
"""Of the pairs, so many lie above the thresholds from which a precision is looked for."""


@dataclass(frozen=True)
class Labelled:
    """Pairs with what is known of them."""

    logits: NDArray[np.float64]
    """(pairs,)"""
    relevant: NDArray[np.bool_]
    """(pairs,)"""
    queries: NDArray[np.int64]
    """(pairs,): the number of each pair's query."""

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Labelled:
        return Labelled(self.logits[chosen], self.relevant[chosen], self.queries[chosen])


@dataclass(frozen=True)
class Threshold:
    """Take what has this probability or more. The figures are of pairs it was not chosen on."""

    goal: Goal
    wanted: float
    probability: float | None
    """None where no threshold reaches what is wanted on the pairs it is chosen on."""
    precision: Share
    recall: Share

    @property
    def reached(self) -> Share:
        """The figure that was wanted."""
        return self.precision if self.goal == "precision" else self.recall

    @property
    def kept(self) -> bool:
        """Whether what was measured, with its interval, does not contradict what was wanted."""
        return self.probability is not None and self.wanted <= self.reached.high

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "goal": self.goal,
            "wanted": self.wanted,
            "probability": self.probability,
            "kept": self.kept,
            **{name: share_json(getattr(self, name)) for name in ("precision", "recall")},
        }


def share_json(share: Share) -> dict[str, Any]:
    """A share with its interval as JSON; the value of nothing is null."""
    value = share.value if share.total else None
    return {"value": value, "low": share.low, "high": share.high, "of": share.total}


def check_share(name: str, value: float) -> float:
    """`value` if it lies in (0, 1). Raises OptionError."""
    if not 0 < value < 1:
        raise OptionError(f"{name} is {value!r}.", "It must lie between 0 and 1.")
    return float(value)


def choose(
    goal: Goal,
    wanted: float,
    probabilities: NDArray[np.float64],
    pairs: Labelled,
    confidence: float = CONFIDENCE,
) -> float | None:
    """A low threshold of the wanted precision, or a high one of the wanted recall; None if none is
    sure to reach it.

    With `confidence` the truth reaches what is wanted, the choice among many thresholds allowed
    for: Learn then Test (Angelopoulos et al. 2021) with fixed sequences. Thresholds are tested one
    after the other from a safe one on, each at the whole level, up to the first that fails. The
    lowest that misses anything is safe for recall. For precision no single one is both safe and
    above enough pairs, so there are several starts, which share the level.
    """
    check_share(goal, wanted)
    tried = np.unique(probabilities)
    tried = tried[np.unique(np.linspace(0, len(tried) - 1, TRIED).round().astype(np.int64))]
    starts = _starts(probabilities, tried) if goal == "precision" else [0]
    each = 1 - 2 * (1 - confidence) / len(starts)  # of a two-sided interval, for its lower end
    passed: list[float] = []
    for start in starts:
        order = tried[start::-1] if goal == "precision" else tried
        for least in order.tolist():
            hits, group = _judged(goal, probabilities >= least, pairs)
            if goal == "recall" and hits.all():
                continue  # nothing is missed, so that nothing tells how queries differ
            if not surely_reaches(hits, group, wanted, each):
                break
            passed.append(least)
    return (min if goal == "precision" else max)(passed, default=None)


def _starts(probabilities: NDArray[np.float64], tried: NDArray[np.float64]) -> list[int]:
    """Places in `tried` above which lie these shares of the pairs; labels play no part."""
    found = np.searchsorted(tried, np.quantile(probabilities, 1 - np.array(STARTS)))
    return sorted({int(at) for at in np.minimum(found, len(tried) - 1)})


def _judged(
    goal: Goal, taken: NDArray[np.bool_], pairs: Labelled
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(pairs,) what is right among what counts for the goal, and the queries of that."""
    of, queries = pairs.relevant, pairs.queries
    return (of[taken], queries[taken]) if goal == "precision" else (taken[of], queries[of])


def measure(
    goal: Goal,
    wanted: float,
    probability: float | None,
    probabilities: NDArray[np.float64],
    held_out: Labelled,
    confidence: float = CONFIDENCE,
) -> Threshold:
    """What a threshold gives on pairs that it was not chosen on."""
    taken = probabilities >= (np.inf if probability is None else probability)
    precision, recall = (
        share_by_query(*_judged(each, taken, held_out), confidence) for each in GOALS
    )
    return Threshold(goal, wanted, probability, precision, recall)
