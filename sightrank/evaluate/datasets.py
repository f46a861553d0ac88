"""Labelled sets in a folder: corpus, queries and relevance grades."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeVar

from sightrank.errors import InputError
from sightrank.evaluate.lines import read_lines
from sightrank.types import Document, Query, Text

CONTENT = ("text", "pdf", "image")
CORPUS = 'A line of corpus.jsonl is {"_id", "text"}, {"_id", "pdf", "page"} or {"_id", "image"}.'
QUERIES = 'A line of queries.jsonl is {"_id", "text"} or {"_id", "image"}.'
QRELS = "A line of qrels is: query id, tab, document id, tab, whole-number grade."

Item = TypeVar("Item", Query, Document)
Grades = dict[str, dict[str, int]]
"""Query id -> document id -> grade; a grade of 1 or more is relevant."""


@dataclass(frozen=True)
class Dataset:
    """Queries, documents, and which document is how relevant to which query."""

    name: str
    queries: dict[str, Query]
    documents: dict[str, Document]
    grades: Grades

    def first(self, count: int | None) -> Dataset:
        """The same set with only its first `count` graded queries (None: all of them)."""
        kept = list(islice((query for query in self.queries if query in self.grades), count))
        return replace(
            self,
            queries={query: self.queries[query] for query in kept},
            grades={query: self.grades[query] for query in kept},
        )


def load(folder: Path, files: Path | None = None) -> Dataset:
    """Read a folder in the layout of this project's evaluation sets or in BEIR's.

    `corpus.jsonl`: {"_id", "text", "title" if any}, {"_id", "pdf", "page" from 1} or
    {"_id", "image"}; `queries.jsonl`: {"_id", "text"}; grades in `qrels.tsv` or, with a line of
    titles, `qrels/test.tsv`. `files`: where PDFs and images are found (None: in the folder).
    Raises InputError naming file and line.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", "Give a folder with corpus.jsonl in it.")
    root = files or folder
    found: dict[str, bool] = {}
    documents = _items(
        folder / "corpus.jsonl", CORPUS, lambda key, row: _document(key, row, root, found)
    )
    queries = _items(
        folder / "queries.jsonl", QUERIES, lambda key, row: _query(key, row, root, found)
    )
    return Dataset(folder.resolve().name, queries, documents, _grades(folder, queries))


def text_of(item: Query | Document) -> str:
    """The text of an item; empty if it has none."""
    return "\n".join(part.text for part in item.parts if isinstance(part, Text))


def _items(path: Path, layout: str, make: Callable[[str, dict[str, Any]], Item]) -> dict[str, Item]:
    items: dict[str, Item] = {}

    def parse(_: int, line: str) -> tuple[str, Item]:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("this is not a JSON object")
        key = string_of(row, "_id")
        if key in items:
            raise ValueError(f"_id {key!r} stands on an earlier line too")
        return key, make(key, row)

    for key, item in read_lines(path, parse, layout):
        items[key] = item
    if not items:
        raise InputError(f"{path} has no lines.", layout)
    return items


def _document(key: str, row: dict[str, Any], files: Path, found: dict[str, bool]) -> Document:
    kind = kind_of(row, CONTENT)
    if kind == "text":
        title = string_of(row, "title") if row.get("title") else ""
        text = string_of(row, "text")
        return Document.text(f"{title} {text}" if title else text, name=key)
    if row.get("title"):
        raise ValueError("title belongs to text; a page or an image is ranked as it looks")
    path = file_of(row, kind, files, found)
    if kind == "image":
        return Document.image(path)
    page = row.get("page")
    if type(page) is not int or page < 1:
        raise ValueError(f"page is {page!r}; it must be a whole number from 1")
    return Document.pdf(path, page)


def _query(key: str, row: dict[str, Any], files: Path, found: dict[str, bool]) -> Query:
    kind = kind_of(row, ("text", "image"))
    if kind == "image":
        return Query.image(file_of(row, kind, files, found))
    text = string_of(row, "text")
    if not text.strip():
        raise ValueError("text is empty")
    return Query.text(text, name=key)


def kind_of(row: dict[str, Any], allowed: tuple[str, ...]) -> str:
    """The one kind of content that a line has. Raises ValueError."""
    kinds = [name for name in CONTENT if row.get(name) is not None]
    if len(kinds) != 1 or kinds[0] not in allowed:
        has = " and ".join(kinds) or "none of them"
        raise ValueError(f"one of {', '.join(allowed)} is needed; the line has {has}")
    return kinds[0]


def string_of(row: dict[str, Any], name: str) -> str:
    """A line's string of this name. Raises ValueError."""
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {json.dumps(value)}; it must be a string")
    return value


def file_of(row: dict[str, Any], kind: str, files: Path, found: dict[str, bool]) -> Path:
    """The file a line names. `found` remembers which exist: many pages share one PDF."""
    name = string_of(row, kind)
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError(f"{kind} is {name!r}; it must be a name inside the folder of files")
    path = files / name
    if name not in found:
        found[name] = path.is_file()
    if not found[name]:
        raise ValueError(f"{path} does not exist; say with --files DIR where {name} is")
    return path


def _grades(folder: Path, queries: dict[str, Query]) -> Grades:
    places = [folder / "qrels.tsv", folder / "qrels" / "test.tsv"]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise InputError(f"{folder} has neither qrels.tsv nor qrels/test.tsv.", QRELS)
    grades: Grades = {}

    def parse(number: int, line: str) -> None:
        fields = line.split("\t")
        if len(fields) != 3:
            raise ValueError(f"{len(fields)} fields instead of 3")
        query, document, written = fields
        if (grade := _grade(written)) is None:
            if number == 1:  # BEIR's line of titles
                return
            raise ValueError(f"grade is {written!r}")
        if query not in queries:
            raise ValueError(f"queries.jsonl has no query {query!r}")
        if grades.setdefault(query, {}).setdefault(document, grade) != grade:
            raise ValueError(f"document {document!r} had another grade for query {query!r} before")

    for _ in read_lines(path, parse, QRELS):
        pass
    if not grades:
        raise InputError(f"{path} has no grades.", QRELS)
    return grades


def _grade(written: str) -> int | None:
    try:
        return int(written)
    except ValueError:
        return None
