"""Groups of near-duplicate documents, and which of each to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.neighbours import near_pairs
from sightrank.analysis.signatures import Signature

WORDS_FROM, LOOKS_FROM = 0.8, 0.85
"""Cosines from which on two documents are copies, by their words and by their looks. See
benchmarks/dedup.py, which measures what they find."""

OTHER_WORDS = 0.4
"""A cosine of words below which the texts of two documents are different texts."""


@dataclass(frozen=True)
class Member:
    """A document of a group."""

    index: int
    """Its place among the documents, from 0."""
    similarity: float
    """The highest to another member, by what made it one."""
    because: str
    """ "content" (equal in every byte), "words", "look" or "states"."""


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
    words: float = WORDS_FROM,
    looks: float = LOOKS_FROM,
    states: tuple[NDArray[np.float32], float] | None = None,
) -> list[Group]:
    """Groups of two or more, in the order of their first members.

    `states`: vectors (documents, d) of a model with the cosine from which on they make copies; for
    what neither words nor looks can see, such as a picture of a text. Raises MissingExtraError for
    more than 2,000 documents without usearch.
    """
    if not signatures:
        return []
    first, edges = _equal(signatures)
    distinct = sorted(set(first))
    kinds: list[tuple[str, NDArray[Any], float]] = [
        ("words", np.stack([signatures[at].words for at in distinct]), words),
        ("look", np.stack([signatures[at].look for at in distinct]), looks),
    ]
    if states is not None:
        kinds.append(("states", states[0][distinct], states[1]))
    for because, vectors, least in kinds:
        edges += [
            (distinct[i], distinct[j], cosine, because)
            for i, j, cosine in near_pairs(vectors, least)
            if because != "look"
            or not _contradict(signatures[distinct[i]], signatures[distinct[j]])
        ]
    return [_group(members, signatures) for members in _joined(len(signatures), edges)]


def _contradict(one: Signature, other: Signature) -> bool:
    """Whether both have text and it differs: then they are no copies, however alike they look."""
    first, second = one.words.astype(np.float64), other.words.astype(np.float64)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return lengths > 0 and float(first @ second) < OTHER_WORDS * lengths


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
