"""Labelled sets in a folder: corpus, queries, relevance grades and first-stage runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sightrank.errors import InputError
from sightrank.types import Document, Query

T = TypeVar("T")
Grades = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Dataset:
    """Queries, documents, and which document is how relevant to which query."""

    name: str
    queries: dict[str, Query]
    documents: dict[str, Document]
    texts: dict[str, str]
    """The text of documents that have any, for a lexical first stage."""
    grades: Grades
    """query id -> document id -> grade."""


def load(folder: Path, files: Path | None = None) -> Dataset:
    """Read a folder of this project's layout or of BEIR's.

    corpus.jsonl lines hold "_id" and "text" (with an optional "title"), or "pdf" and "page"
    (from 1), or "image"; `files` is where PDF and image names are found (default: the folder).
    Grades are in qrels.tsv or qrels/test.tsv. Raises InputError naming file and line.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", "Give a folder with corpus.jsonl in it.")
    documents, texts = {}, {}
    for key, row in _rows(folder / "corpus.jsonl"):
        documents[key], text = _document(row, files or folder)
        if text:
            texts[key] = text
    queries = {
        key: Query.text(str(row["text"])) for key, row in _rows(folder / "queries.jsonl", "text")
    }
    return Dataset(folder.name, queries, documents, texts, _grades(folder))


def _rows(path: Path, *needed: str) -> Iterator[tuple[str, dict[str, Any]]]:
    def parse(line: str) -> tuple[str, dict[str, Any]]:
        row = json.loads(line)
        for name in ("_id", *needed):
            if name not in row:
                raise ValueError(f"no {name!r}")
        return str(row["_id"]), row

    yield from _parse(path, parse)


def _document(row: dict[str, Any], files: Path) -> tuple[Document, str]:
    if "pdf" in row:
        return Document.pdf(files / row["pdf"], int(row.get("page", 1))), ""
    if "image" in row:
        return Document.image(files / row["image"]), ""
    text = " ".join(str(row[name]) for name in ("title", "text") if row.get(name))
    return Document.text(text, name=str(row["_id"])), text


def _grades(folder: Path) -> Grades:
    path = next(
        (path for path in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if path.exists()),
        folder / "qrels.tsv",
    )
    grades: Grades = {}

    def parse(line: str) -> tuple[str, str, int]:
        query, document, grade = line.rstrip("\n").split("\t")
        return query, document, -1 if grade in ("score", "grade") else int(grade)

    for query, document, grade in _parse(path, parse):
        if grade >= 0:  # BEIR's files begin with a line of titles
            grades.setdefault(query, {})[document] = grade
    return grades


def load_run(path: Path) -> Run:
    """A TREC run: query id -> document id -> score."""
    run: Run = {}

    def parse(line: str) -> tuple[str, str, float]:
        query, _, document, _, score, *_ = line.split()
        return query, document, float(score)

    for query, document, score in _parse(path, parse):
        run.setdefault(query, {})[document] = score
    return run


def write_run(path: Path, run: Run, tag: str = "sightrank") -> None:
    """Write a TREC run, best first."""
    with path.open("w", encoding="utf-8") as file:
        for query, scores in run.items():
            for rank, (document, score) in enumerate(best_first(scores), start=1):
                file.write(f"{query} Q0 {document} {rank} {score:.6f} {tag}\n")


def best_first(scores: dict[str, float]) -> list[tuple[str, float]]:
    """(document, score), the highest first, ties in the order given."""
    return sorted(scores.items(), key=lambda item: -item[1])


def _parse(path: Path, parse: Callable[[str], T]) -> Iterator[T]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield parse(line)
                except (ValueError, TypeError, KeyError) as error:
                    raise InputError(
                        f"{path}, line {number}: {error}.", "See the command's help for the layout."
                    ) from error
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", "A labelled set needs it.") from None
