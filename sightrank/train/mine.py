"""Hard negatives: documents that a ranker takes for relevant and that, as far as is known, are not.

Of each query a first stage finds candidates, a ranker scores them and the positives, and negatives
are taken from a range of ranks. What scores nearly as high as a positive is likely one that nobody
labelled, so it is left out: the positive-aware margins of NV-Retriever (Moreira et al. 2024,
arXiv:2407.15831; there a relative one of 0.05 did best).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputError, OptionError, SightrankError
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.first_stage import Bm25
from sightrank.evaluate.run import Scorer
from sightrank.train.pool import Keys, Pool
from sightrank.train.records import Group
from sightrank.types import Document

FIRST_STAGES = ("bm25", "random", "all")
SAMPLINGS = ("top", "random")
WINDOW = 16
"""Queries scored together, so that a document among candidates of several is encoded once."""

Relevance = Callable[[float], float]
"""A ranker's score on the scale on which a relative margin is taken."""


@dataclass(frozen=True)
class Plan:
    """How negatives are chosen."""

    negatives: int = 7
    """Mined for each query at most, beside those that a line has already."""
    first_stage: str = "bm25"
    """Where candidates come from: bm25 among texts, random ones, or all documents."""
    depth: int = 100
    """Candidates of a query that the ranker scores at most."""
    ranks: tuple[int, int] = (1, sys.maxsize)
    """Of the ranker's order, from 1 and both included, without positives."""
    relative: float | None = 0.05
    """A negative's relevance is at most (1 - this) times that of the lowest positive."""
    absolute: float | None = None
    """In its place: a negative's score is at least this below that of the lowest positive."""
    sampling: str = "top"
    """The best of those that are left, or random ones of them."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("first stage", self.first_stage, FIRST_STAGES),
            ("sampling", self.sampling, SAMPLINGS),
        ):
            if value not in allowed:
                raise OptionError(f"The {name} is {value!r}.", f"Allowed: {', '.join(allowed)}.")
        first, last = self.ranks
        if min(self.negatives, self.depth) < 1 or not 1 <= first <= last:
            raise OptionError(
                f"negatives is {self.negatives}, depth {self.depth}, ranks {first}-{last}.",
                "All are 1 or more, and ranks go upwards, as in 10-50.",
            )
        if self.relative is not None and not 0 <= self.relative < 1:
            raise OptionError(
                f"The relative margin is {self.relative}.", "It is 0 or more and below 1."
            )
        if self.absolute is not None and not 0 <= self.absolute < float("inf"):
            raise OptionError(f"The absolute margin is {self.absolute}.", "It is 0 or more.")

    def to_dict(self) -> dict[str, Any]:
        """Every value, ready for JSON."""
        return {**asdict(self), "ranks": list(self.ranks)}


class Known:
    """What the training file says of relevance, gathered while its lines are checked."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.documents: dict[str, Document] = {}
        """All documents of the file by content key."""
        self._relevant: dict[str, set[str]] = {}

    def __call__(self, group: Group) -> str | None:
        """Note a group; the complaint is that none of its documents is relevant."""
        found = {self.keys(each.document): each for each in group.candidates}
        for key, each in found.items():
            self.documents.setdefault(key, each.document)
        own = {key for key, each in found.items() if each.label > 0}
        self._relevant.setdefault(self.keys(group.query), set()).update(own)
        return None if own else "no document is relevant, so nothing can be a negative beside it"

    def barred(self, group: Group) -> set[str]:
        """Keys that cannot be mined for a group.

        Its own documents, those relevant to the same query on any line, and the query itself.
        """
        asked = self.keys(group.query)
        own = {self.keys(each.document) for each in group.candidates}
        return own | self._relevant[asked] | {asked}


@dataclass(frozen=True)
class Mined:
    """A group with negatives found, and what became of its candidates."""

    group: Group
    documents: tuple[Document, ...]
    """Relevant ones first, then the other documents it had, then those mined."""
    labels: tuple[float, ...]
    scores: tuple[float, ...]
    num_relevant: int
    num_mined: int
    too_close: int
    """Candidates in the range of ranks that scored within the margin of a positive."""

    @property
    def teaches(self) -> bool:
        """Whether it has a negative; a group without any is not written."""
        return len(self.documents) > self.num_relevant


@dataclass(frozen=True)
class Miner:
    """A pool, a ranker and a plan; `mine` takes groups through them."""

    pool: Pool
    index: Bm25 | None
    """Where the first stage is BM25: over all documents of the pool."""
    known: Known
    scorer: Scorer
    relevance: Relevance
    plan: Plan

    def mine(self, groups: Iterable[tuple[int, Group]]) -> Iterator[list[Mined]]:
        """Groups with their numbers, a window at a time. Raises SightrankError.

        What is drawn by chance depends on the seed and the group's number alone.
        """
        waiting = iter(groups)
        while window := list(islice(waiting, WINDOW)):
            found = [self._candidates(number, group) for number, group in window]
            scores = self._scores([group for _, group in window], found)
            yield [
                self._chosen(number, group, candidates, own)
                for (number, group), candidates, own in zip(window, found, scores, strict=True)
            ]

    def _candidates(self, number: int, group: Group) -> list[int]:
        """Places in the pool, in the first stage's order."""
        barred, pool = self.known.barred(group), self.pool
        if self.index is not None:
            scores = self.index.scores(text_of(group.query))[: pool.num_candidates]
            order = np.argsort(-scores, kind="stable")[: int((scores > 0).sum())]
        else:
            order = np.arange(pool.num_candidates)
        if self.plan.first_stage == "random":
            order = self._chance(number, 0).permutation(order)
        allowed = (int(place) for place in order if pool.keys[place] not in barred)
        return list(islice(allowed, None if self.plan.first_stage == "all" else self.plan.depth))

    def _scores(
        self, groups: Sequence[Group], found: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Of each group: scores of its own documents, then of its candidates."""
        own = [
            [self.pool.places[self.known.keys(each.document)] for each in group.candidates]
            for group in groups
        ]
        wanted = [[*first, *then] for first, then in zip(own, found, strict=True)]
        distinct = list(dict.fromkeys(place for places in wanted for place in places))
        at = {place: index for index, place in enumerate(distinct)}
        pairs = [(query, at[place]) for query, places in enumerate(wanted) for place in places]
        values = self.scorer.score_matrix(
            [group.query for group in groups],
            [self.pool.documents[place] for place in distinct],
            pairs,
        )
        if (broken := np.flatnonzero(~np.isfinite(values))).size:
            name = groups[pairs[broken[0]][0]].name
            raise SightrankError(
                f"{name}: {self.scorer.name} gives a document the score {values[broken[0]]}.",
                "Try --dtype float32.",
            )
        return np.split(values, np.cumsum([len(places) for places in wanted])[:-1])

    def _chosen(
        self, number: int, group: Group, candidates: Sequence[int], scores: NDArray[np.float64]
    ) -> Mined:
        count = len(group.candidates)
        relevant = [at for at, each in enumerate(group.candidates) if each.label > 0]
        lowest = float(scores[relevant].min())
        first, last = self.plan.ranks
        order = np.argsort(-scores[count:], kind="stable")[first - 1 : last]
        kept = [int(at) for at in order if self.far_enough(float(scores[count + at]), lowest)]
        too_close = len(order) - len(kept)
        if self.plan.sampling == "random":
            drawn = self._chance(number, 1).permutation(len(kept))[: self.plan.negatives]
            kept = [kept[at] for at in sorted(drawn)]
        kept = kept[: self.plan.negatives]
        others = [at for at, each in enumerate(group.candidates) if each.label <= 0]
        rows = [*relevant, *others]
        return Mined(
            group=group,
            documents=(
                *(group.candidates[at].document for at in rows),
                *(self.pool.documents[candidates[at]] for at in kept),
            ),
            labels=(*(group.candidates[at].label for at in rows), *[0.0] * len(kept)),
            scores=(*(float(scores[at]) for at in rows), *(float(scores[count + a]) for a in kept)),
            num_relevant=len(relevant),
            num_mined=len(kept),
            too_close=too_close,
        )

    def far_enough(self, score: float, positive: float) -> bool:
        """Whether a score lies so far below that of a positive that it may be a negative's."""
        if self.plan.absolute is not None:
            return score <= positive - self.plan.absolute
        if self.plan.relative is None:
            return True
        best = self.relevance(positive)
        # As (1 - margin) * best where best is above 0; below it that would be no margin at all.
        return self.relevance(score) <= best - self.plan.relative * abs(best)

    def _chance(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.plan.seed, number, purpose))


def make_index(pool: Pool, plan: Plan, *, needed: bool) -> Bm25 | None:
    """BM25 over the pool where the plan or the ranker (`needed`) asks for it. Raises InputError."""
    if plan.first_stage != "bm25" and not needed:
        return None
    if not any(pool.texts[: pool.num_candidates]):
        raise InputError(
            "The corpus has no texts, so BM25 finds nothing.",
            "Say --first-stage random, or all for a small corpus.",
        )
    return Bm25(pool.texts)


def tally(mined: Iterable[Mined]) -> Counter[str]:
    """What came of groups, in numbers."""
    counts: Counter[str] = Counter()
    for each in mined:
        counts["groups" if each.teaches else "dropped"] += 1
        counts["negatives"] += each.num_mined
        counts["too_close"] += each.too_close
    return counts
