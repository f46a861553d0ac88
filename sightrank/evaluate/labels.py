"""Labelled pairs from a file of JSON lines, and their logits by a model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.analysis.thresholds import Labelled
from sightrank.errors import InputError
from sightrank.evaluate.datasets import file_of, kind_of, string_of
from sightrank.evaluate.lines import read_lines
from sightrank.evaluate.run import Progress, Scorer
from sightrank.types import Document, Query

LAYOUT = (
    'A line is {"query", "document", "relevant"}, or {"logit", "relevant"} with "query" if known.'
    ' A document is a string, {"text"}, {"image"} or {"pdf", "page"}; relevant is 0, 1 or a grade.'
)
Item = TypeVar("Item", Query, Document)


@dataclass(frozen=True)
class Label:
    """One line. Either it has a logit, or a query and a document to be scored."""

    key: str
    """Of its query: lines of one query have one key."""
    grade: float
    logit: float | None = None
    query: Query | None = None
    document: Document | None = None
    document_key: str = ""


def read_labels(path: Path, files: Path | None = None) -> list[Label]:
    """All lines. `files`: where images and PDFs are (None: in the folder of `path`).

    Raises InputError naming file and line.
    """
    root, found = files or path.parent, dict[str, bool]()

    def parse(number: int, line: str) -> Label:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("this is not a JSON object")
        return _label(number, row, root, found)

    labels = list(read_lines(path, parse, LAYOUT))
    if not labels:
        raise InputError(f"{path} has no lines.", LAYOUT)
    return labels


def score(
    scorer: Scorer, labels: Sequence[Label], least: float = 1, progress: Progress | None = None
) -> tuple[Labelled, list[str]]:
    """The pairs with their logits, and their queries' keys by number; a grade of `least` is relevant.

    Lines that come with a logit are not scored again.
    """
    numbers: dict[str, int] = {}
    for label in labels:
        numbers.setdefault(label.key, len(numbers))
    logits = np.array([np.nan if label.logit is None else label.logit for label in labels])
    missing = [at for at, label in enumerate(labels) if label.logit is None]
    if missing:
        logits[missing] = _scored(scorer, [labels[at] for at in missing], progress)
    pairs = Labelled(
        logits,
        np.array([label.grade >= least for label in labels]),
        np.array([numbers[label.key] for label in labels], np.int64),
    )
    return pairs, list(numbers)


def _scored(
    scorer: Scorer, labels: Sequence[Label], progress: Progress | None
) -> NDArray[np.float64]:
    queries: dict[str, Query] = {}
    documents: dict[str, Document] = {}
    for label in labels:
        if label.query is not None and label.document is not None:
            queries[label.key], documents[label.document_key] = label.query, label.document
    query_at = {key: at for at, key in enumerate(queries)}
    document_at = {key: at for at, key in enumerate(documents)}
    pairs = [(query_at[label.key], document_at[label.document_key]) for label in labels]
    return scorer.score_matrix(
        list(queries.values()), list(documents.values()), pairs, progress=progress
    )


def _label(number: int, row: dict[str, Any], files: Path, found: dict[str, bool]) -> Label:
    grade, asked = _number(row, "relevant"), row.get("query")
    if row.get("logit") is not None:
        key = f"line {number}" if asked is None else json.dumps(asked, sort_keys=True)
        return Label(key, grade, _number(row, "logit"))
    query = _item(Query, "query", asked, files, found)
    document = _item(Document, "document", row.get("document"), files, found)
    keys = (json.dumps(row[name], sort_keys=True) for name in ("query", "document"))
    return Label(next(keys), grade, None, query, document, next(keys))


def _number(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} is {json.dumps(value)}; it must be a number")
    return float(value)


def _item(make: type[Item], name: str, given: Any, files: Path, found: dict[str, bool]) -> Item:
    """A query or document as a line gives it. Raises ValueError."""
    row = {"text": given} if isinstance(given, str) else given
    if not isinstance(row, dict):
        raise ValueError(f"{name} is {json.dumps(given)}; it must be a string or an object")
    kind = kind_of(row, ("text", "image") if make is Query else ("text", "image", "pdf"))
    if kind == "text":
        text = string_of(row, "text")
        if not text.strip():
            raise ValueError(f"the text of {name} is empty")
        return make.text(text)
    path = file_of(row, kind, files, found)
    if kind == "image":
        return make.image(path)
    page = row.get("page")
    if type(page) is not int or page < 1:
        raise ValueError(f"page is {page!r}; it must be a whole number from 1")
    return make.of(Document.pdf(path, page))
