"""What of a ranking is shown: probable enough, and the best of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.calibrate import Calibration
from sightrank.analysis.diverse import POOL, RULES
from sightrank.analysis.states import centred
from sightrank.errors import OptionError
from sightrank.types import Image, Pdf, RankedDocument

Hits = Sequence[RankedDocument]


@dataclass(frozen=True)
class Selection:
    """Which documents of a ranking are wanted. Make it with `of`, which checks its values."""

    top_k: int | None
    threshold: float | None
    calibration: Calibration | None
    diverse: float | None = None
    diverse_by: str = "marginal"

    @classmethod
    def of(
        cls,
        top_k: int | None,
        threshold: float | None,
        calibration: Calibration | str | Path | None,
        diverse: float | None,
        facts: Mapping[str, Any],
        diverse_by: str = "marginal",
    ) -> Selection:
        """`facts`: of the model that ranks. Raises OptionError, InputError, OtherModelError."""
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise OptionError(f"top_k is {top_k!r}.", "It must be at least 1, or None for all.")
        if threshold is not None and not (_is_number(threshold) and 0 <= threshold <= 1):
            raise OptionError(
                f"threshold is {threshold!r}.", "It is a probability: a number from 0 to 1."
            )
        if diverse is not None and not (_is_number(diverse) and 0 <= diverse <= 1):
            raise OptionError(
                f"diverse is {diverse!r}.",
                "It is a number from 0, all for variety, to 1, all for relevance.",
            )
        if diverse_by not in RULES:
            raise OptionError(f"diverse_by is {diverse_by!r}.", f"Allowed: {', '.join(RULES)}.")
        if isinstance(calibration, (str, Path)):
            calibration = Calibration.load(calibration)
        if calibration is not None:
            calibration.check(facts)
        return cls(top_k, threshold, calibration, diverse, diverse_by)

    def choose(
        self, hits: Hits, vectors: Callable[[Hits], NDArray[np.float32]]
    ) -> tuple[tuple[RankedDocument, ...], tuple[RankedDocument, ...]]:
        """(what is wanted, what lies below the threshold), from all hits, best first.

        Order is by logit, which a calibration never changes, unless variety is asked for: then
        `vectors` gives a row for each of the best hits.
        """
        known = self._calibrated(hits)
        least = 0.0 if self.threshold is None else self.threshold
        passed = [hit for hit in known if probability(hit) >= least]
        rejected = tuple(hit for hit in known if probability(hit) < least)
        return tuple(self._varied(passed, vectors)[: self.top_k]), rejected

    def _varied(
        self, hits: list[RankedDocument], vectors: Callable[[Hits], NDArray[np.float32]]
    ) -> list[RankedDocument]:
        if self.diverse is None or len(hits) < 3:  # of two the first stays the first
            return hits
        pool, rest = hits[:POOL], hits[POOL:]
        logits = np.array([hit.logit for hit in pool])
        kinds = [any(isinstance(part, (Image, Pdf)) for part in hit.document.parts) for hit in pool]
        order = RULES[self.diverse_by](logits, centred(vectors(pool), kinds), self.diverse)
        chosen = [pool[at] for at in order] + rest
        return [replace(hit, rank=rank) for rank, hit in enumerate(chosen, start=1)]

    def _calibrated(self, hits: Hits) -> list[RankedDocument]:
        if self.calibration is None:
            return list(hits)
        found = self.calibration.apply([hit.logit for hit in hits]).tolist()
        return [replace(hit, probability=each) for hit, each in zip(hits, found, strict=True)]


def probability(hit: RankedDocument) -> float:
    """The calibrated probability where there is one, else the model's own score."""
    return hit.score if hit.probability is None else hit.probability


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
