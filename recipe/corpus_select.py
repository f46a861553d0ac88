"""What of the rows read is kept: nothing twice, no query that could mean anything, balance."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from recipe.corpus_passages import Document, Query

Row = Document | Query
_MANY_GROUPS = 2


def select(rows: Sequence[Row], limits: Mapping[str, int]) -> list[Row]:
    """Rows in languages of `limits`, less repetitions, at most that many groups a language.

    Groups are dropped in the same arbitrary order in every language, so that what is kept in one
    is mostly kept in the others.
    """
    known = [row for row in rows if row.lang in limits and row.text]
    rows = clear_queries(with_documents(unrepeated(known)))
    kept = {lang: _first_groups(groups, limits[lang]) for lang, groups in _groups(rows).items()}
    return with_documents(row for row in rows if row.group in kept[row.lang])


def unrepeated(rows: Iterable[Row]) -> list[Row]:
    """Rows less passages that another group has word for word, and all else of such a group.

    A passage under two groups would be a wrong answer to a query it answers.
    """
    owner: dict[tuple[type, str, str], str] = {}
    repeated: set[tuple[str, str]] = set()
    kept: list[Row] = []
    seen: set[Row] = set()
    for row in rows:
        if isinstance(row, Document):
            first = owner.setdefault((Document, row.lang, row.text), row.group)
            if first != row.group:
                repeated.add((row.group, row.lang))
        if row not in seen and (row.group, row.lang) not in repeated:
            seen.add(row)
            kept.append(row)
    return kept


def clear_queries(rows: Sequence[Row]) -> list[Row]:
    """Rows less queries that are asked word for word of more than two groups."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        if isinstance(row, Query):
            groups[row.lang, row.text].add(row.group)
    return [
        row
        for row in rows
        if isinstance(row, Document) or len(groups[row.lang, row.text]) <= _MANY_GROUPS
    ]


def with_documents(rows: Iterable[Row]) -> list[Row]:
    """Rows less queries whose group has no document in any language."""
    found = list(rows)
    groups = {row.group for row in found if isinstance(row, Document)}
    return [row for row in found if row.group in groups]


def count(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """Rows of each language, apart for documents and queries."""
    counts: dict[str, Counter[str]] = {"documents": Counter(), "queries": Counter()}
    for row in rows:
        counts["documents" if isinstance(row, Document) else "queries"][row.lang] += 1
    return counts


def _groups(rows: Iterable[Row]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        groups[row.lang].add(row.group)
    return groups


def _first_groups(groups: set[str], limit: int) -> set[str]:
    return set(sorted(groups, key=_place)[:limit])


def _place(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
