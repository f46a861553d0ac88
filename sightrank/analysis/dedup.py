"""Groups of near-duplicate documents, and which of each to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.neighbours import near_pairs
from sightrank.analysis.runs import common, shared
from sightrank.analysis.signatures import Signature

OTHER_WORDS = 0.4
"""A cosine of words below which the texts of two documents are different texts."""
OTHER_WIDTHS, ANYWAY = 0.3, 0.92
"""A share of common runs below which two pictures show different texts, unless their looks have such a
cosine: then one of them is too small or too blurred for its words to be told apart."""


@dataclass(frozen=True)
class Least:
    """How alike two documents are at least that are copies. benchmarks/dedup.py measures what these
    find."""

    words: float = 0.8
    """Cosine."""
    looks: float = 0.85
    """Cosine."""
    widths: float = 0.65
    """Share of words in common runs; compared only where one has no text."""

    @classmethod
    def all(cls, least: float) -> Least:
        """The same for each."""
        return cls(least, least, least)


@dataclass(frozen=True)
class Member:
    """A document of a group."""

    index: int
    """Its place among the documents, from 0."""
    similarity: float
    """The highest to another member, by what made it one."""
    because: str
    """ "content" (equal in every byte), "words", "look", "widths" or "states"."""


@dataclass(frozen=True)
class Group:
    """Documents each of which is a near copy of another of them. `keep` is a place as `index`."""

    keep: int
    why: str
    members: tuple[Member, ...]
    """In the order given, the kept one among them."""


Edge = tuple[int, int, float, str]


def groups(
    signatures: Sequence[Signature],
    least: Least | None = None,
    states: tuple[NDArray[np.float32], float] | None = None,
) -> list[Group]:
    """Groups of two or more, in the order of their first members.

    `states`: vectors (documents, d) of a model with the cosine from which on they make copies. Raises
    MissingExtraError for more than 2,000 documents without usearch.
    """
    if not signatures:
        return []
    least = least or Least()
    first, edges = _equal(signatures)
    distinct = sorted(set(first))
    kinds: list[tuple[str, NDArray[Any], float]] = [
        ("words", np.stack([signatures[at].words for at in distinct]), least.words),
        ("look", np.stack([signatures[at].look for at in distinct]), least.looks),
    ]
    if states is not None:
        kinds.append(("states", states[0][distinct], states[1]))
    for because, vectors, from_on in kinds:
        edges += [
            (distinct[i], distinct[j], cosine, because)
            for i, j, cosine in near_pairs(vectors, from_on)
            if because != "look"
            or not _contradict(signatures[distinct[i]], signatures[distinct[j]], cosine)
        ]
    unread = np.array([not signatures[at].words.any() for at in distinct])
    rows = np.stack([signatures[at].widths for at in distinct])
    edges += [
        (distinct[i], distinct[j], share, "widths")
        for i, j, share in common(rows, unread, least.widths)
    ]
    return [_group(members, signatures) for members in _joined(len(signatures), edges)]


def _contradict(one: Signature, other: Signature, looks: float) -> bool:
    """Whether what two documents say differs: then they are no copies, however alike they look."""
    first, second = one.words.astype(np.float64), other.words.astype(np.float64)
    if first.any() and second.any():
        return float(first @ second) < OTHER_WORDS * float(
            np.linalg.norm(first) * np.linalg.norm(second)
        )
    if first.any() or second.any() or looks >= ANYWAY:
        return False  # a text layer may be in another order than the print
    share = shared(one.widths, other.widths)
    return share is not None and share < OTHER_WIDTHS


def _equal(signatures: Sequence[Signature]) -> tuple[list[int], list[Edge]]:
    """The first document with the content of each, and edges from the others to it."""
    seen: dict[bytes, int] = {}
    first = [seen.setdefault(each.digest, at) for at, each in enumerate(signatures)]
    return first, [(one, at, 1.0, "content") for at, one in enumerate(first) if one != at]


def _joined(count: int, edges: Sequence[Edge]) -> list[list[Member]]:
    """Connected documents, each with its best edge."""
    parent = list(range(count))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    best: dict[int, tuple[float, str]] = {}
    for i, j, cosine, because in edges:
        parent[max(root(i), root(j))] = min(root(i), root(j))
        for at in (i, j):
            if at not in best or cosine > best[at][0]:
                best[at] = cosine, because
    found: dict[int, list[Member]] = {}
    for at in sorted(best):
        found.setdefault(root(at), []).append(Member(at, *best[at]))
    return list(found.values())


RULES: tuple[tuple[str, Callable[[Signature], float]], ...] = (
    (
        "the only one with both a picture and a text layer",
        lambda s: bool(s.num_pixels and s.num_characters),
    ),
    ("a picture, which shows more than its text", lambda s: bool(s.num_pixels)),
    ("the most pixels", lambda s: s.num_pixels),
    ("the longest text", lambda s: s.num_characters),
)
"""Which document of a group is kept: the first rule that tells decides, then the order given."""


def _group(members: list[Member], signatures: Sequence[Signature]) -> Group:
    left = [member.index for member in members]
    for why, value in RULES:
        most = max(value(signatures[at]) for at in left)
        left = [at for at in left if value(signatures[at]) == most]
        if len(left) == 1:
            return Group(left[0], why, tuple(members))
    return Group(left[0], "the first of equals", tuple(members))
