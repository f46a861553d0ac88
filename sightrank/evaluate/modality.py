"""The same content as text and as picture: does a model score both alike?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputError
from sightrank.evaluate.datasets import string_of
from sightrank.evaluate.lines import read_lines
from sightrank.evaluate.run import Progress, Scorer
from sightrank.types import IMAGE_SUFFIXES, Document, Query, TextFile

LAYOUT = (
    "The folder holds NAME.txt beside NAME.png, NAME.pdf or another picture of the same content, and"
    ' queries.jsonl with lines {"query": "...", "relevant": "NAME"}.'
)
QUERIES = "queries.jsonl"
DERIVED = 12
"""Words of a text that become its query where no queries are given."""
LONGEST = 120
"""Characters of such a query: some scripts write no spaces."""


@dataclass(frozen=True)
class Pair:
    """One content twice."""

    name: str
    text: Document
    picture: Document


@dataclass(frozen=True)
class Task:
    """Pairs, and queries each with the place of its relevant pair."""

    pairs: tuple[Pair, ...]
    queries: tuple[tuple[Query, int], ...]
    derived: bool
    """The queries were made of the texts' first words."""


@dataclass(frozen=True)
class Gap:
    """What was measured over all queries. Differences are text less picture, in logits."""

    model: str
    num_pairs: int
    num_queries: int
    derived: bool
    relevant: float
    """Mean difference of the relevant content."""
    relevant_error: float
    """Its standard error, over queries."""
    irrelevant: float
    """Mean difference of all other content."""
    picture_loses: float
    """Share of queries whose relevant picture has a lower logit than an irrelevant text."""
    text_loses: float
    """The same of its relevant text and an irrelevant picture."""
    picture_loses_to_pictures: float
    """The same of its relevant picture and an irrelevant picture: what is not the gap's fault."""
    text_loses_to_texts: float
    """The same of its relevant text and an irrelevant text."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))


def load(folder: Path) -> Task:
    """Read a folder of pairs; without queries.jsonl a text's first words ask for it.

    Raises InputError for fewer than two pairs, a name without its partner, or a bad line.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", LAYOUT)
    texts = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    pictures: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES | {".pdf"}:
            continue
        if path.stem in pictures:
            raise InputError(f"{folder} holds two pictures of {path.stem}.", LAYOUT)
        pictures[path.stem] = path
    alone = sorted(texts.keys() ^ pictures.keys())
    if alone:
        lacks = "picture" if alone[0] in texts else "text"
        raise InputError(f"{folder}: {alone[0]} has no {lacks}.", LAYOUT)
    if len(texts) < 2:
        raise InputError(f"{folder} holds {len(texts)} pairs, at least 2 are needed.", LAYOUT)
    pairs = tuple(
        Pair(name, Document((TextFile(path),), str(path)), Document.of(pictures[name]))
        for name, path in texts.items()
    )
    path = folder / QUERIES
    queries = _queries(path, list(texts)) if path.exists() else _derived(texts)
    return Task(pairs, queries, not path.exists())


def _queries(path: Path, names: Sequence[str]) -> tuple[tuple[Query, int], ...]:
    def parse(_: int, line: str) -> tuple[Query, int]:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("this is not a JSON object")
        query, name = string_of(row, "query"), string_of(row, "relevant")
        if not query.strip():
            raise ValueError("query is empty")
        if name not in names:
            raise ValueError(f"relevant is {name!r}, and there is no {name}.txt")
        return Query.text(query), names.index(name)

    found = tuple(read_lines(path, parse, LAYOUT))
    if not found:
        raise InputError(f"{path} has no lines.", LAYOUT)
    return found


def _derived(texts: dict[str, Path]) -> tuple[tuple[Query, int], ...]:
    queries = []
    for place, path in enumerate(texts.values()):
        try:
            words = path.read_text(encoding="utf-8-sig").split()[:DERIVED]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read: {error}.", LAYOUT) from None
        if not words:
            raise InputError(f"{path} holds nothing but white space.", LAYOUT)
        queries.append((Query.text(" ".join(words)[:LONGEST]), place))
    return tuple(queries)


def measure(scorer: Scorer, task: Task, progress: Progress | None = None) -> Gap:
    """Score every query with every text and every picture."""
    documents = [pair.text for pair in task.pairs] + [pair.picture for pair in task.pairs]
    asked = [query for query, _ in task.queries]
    places = [(q, d) for q in range(len(asked)) for d in range(len(documents))]
    logits = scorer.score_matrix(asked, documents, places, progress=progress)
    texts, pictures = np.split(logits.reshape(len(asked), len(documents)), 2, axis=1)
    right = np.array([place for _, place in task.queries])
    return gap(scorer.name, texts, pictures, right, task.derived)


def gap(
    model: str,
    texts: NDArray[np.float64],
    pictures: NDArray[np.float64],
    right: NDArray[np.int64],
    derived: bool = False,
) -> Gap:
    """Figures of logits (queries, pairs), and the place (queries,) of each relevant pair."""
    count, size = texts.shape
    others = np.arange(size) != right[:, None]
    own_text, own_picture = (side[~others] for side in (texts, pictures))
    best_text, best_picture = (
        np.where(others, side, -np.inf).max(axis=1) for side in (texts, pictures)
    )
    difference = own_text - own_picture
    error = float(difference.std(ddof=1)) / count**0.5 if count > 1 else 0.0
    return Gap(
        model,
        size,
        count,
        derived,
        float(difference.mean()),
        error,
        float((texts - pictures)[others].mean()),
        float((own_picture < best_text).mean()),
        float((own_text < best_picture).mean()),
        float((own_picture < best_picture).mean()),
        float((own_text < best_text).mean()),
    )
