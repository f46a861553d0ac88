"""From which probability on documents are taken, for a wanted precision or recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.intervals import CONFIDENCE, Share, share_by_query, surely_reaches
from sightrank.errors import OptionError

Goal = Literal["precision", "recall"]
TRIED = 256
"""Thresholds that are looked at, evenly spread over the pairs."""


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
    """The lowest threshold at the wanted precision, or the highest at the wanted recall.

    Not the figure itself must reach what is wanted but the lower end of its interval: of many
    thresholds some look good by luck, those with few pairs above them most. None where none does.
    """
    check_share(goal, wanted)
    tried = np.unique(probabilities)
    tried = tried[np.unique(np.linspace(0, len(tried) - 1, TRIED).round().astype(np.int64))]
    of, queries = pairs.relevant, pairs.queries
    for least in tried.tolist() if goal == "precision" else tried[::-1].tolist():
        taken = probabilities >= least
        hits, group = (
            (of[taken], queries[taken]) if goal == "precision" else (taken[of], queries[of])
        )
        if surely_reaches(hits, group, wanted, confidence):
            return float(least)
    return None


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
    of = held_out.relevant
    precision = share_by_query(of[taken], held_out.queries[taken], confidence)
    recall = share_by_query(taken[of], held_out.queries[of], confidence)
    return Threshold(goal, wanted, probability, precision, recall)
