"""From which probability on documents are taken, for a wanted precision or recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.intervals import CONFIDENCE, Share, share_by_query
from sightrank.errors import OptionError

Goal = Literal["precision", "recall"]


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
        """Whether the wanted figure lies within the measured interval or below it."""
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
    goal: Goal, wanted: float, probabilities: NDArray[np.float64], relevant: NDArray[np.bool_]
) -> float | None:
    """The threshold that takes most at the wanted precision, or least at the wanted recall.

    A precision must hold at this threshold; None where it holds at none.
    """
    check_share(goal, wanted)
    order = np.argsort(-probabilities, kind="stable")
    ranked, right = probabilities[order], relevant[order].cumsum()
    ends = np.append(ranked[1:] != ranked[:-1], True)  # equal probabilities are taken together
    if goal == "precision":
        fit = ends & (right >= wanted * np.arange(1, len(ranked) + 1))
        places = np.flatnonzero(fit)[-1:]
    else:
        places = np.flatnonzero(ends & (right >= wanted * max(int(relevant.sum()), 1)))[:1]
    return float(ranked[places[0]]) if len(places) else None


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
    precision = share_by_query(held_out.relevant[taken], held_out.queries[taken], confidence)
    of = held_out.relevant
    recall = share_by_query(taken[of], held_out.queries[of], confidence)
    return Threshold(goal, wanted, probability, precision, recall)
