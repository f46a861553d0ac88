"""A line of training data: a query, its documents, and what is known of their relevance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightrank.errors import InputError
from sightrank.types import IMAGE_SUFFIXES, Document, Image, Part, Pdf, Query, Text

LAYOUT = (
    'A line is {"query": SIDE, "positives": [SIDE, ...], "negatives": [SIDE, ...]}, with "labels" or'
    ' "scores" (numbers, positives first) if there are any. A SIDE is a string, {"text"}, {"image"},'
    ' {"pdf", "page"} or a list of these.'
)
FIELDS = ("query", "positives", "negatives", "labels", "scores")


@dataclass(frozen=True)
class Candidate:
    """A document of a group. Equal keys are the same document, in any group."""

    key: str
    document: Document
    label: float
    """Grade: above 0 is relevant."""
    teacher: float | None = None
    """The score that a teacher gave it."""


@dataclass(frozen=True)
class Group:
    """A query and its documents, those listed as positives first."""

    name: str
    """File and line."""
    query: Query
    candidates: tuple[Candidate, ...]

    @property
    def num_relevant(self) -> int:
        """Documents with a grade above 0."""
        return sum(each.label > 0 for each in self.candidates)


def parse(line: str, name: str, folder: Path, found: Callable[[Part], None] | None = None) -> Group:
    """A group out of a line of JSON; relative paths start from `folder`.

    `found` is called for each image and PDF page, to check it. Raises ValueError for a line of
    another layout, and whatever `found` raises.
    """
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("this is not a JSON object")
    if unknown := sorted(row.keys() - set(FIELDS)):
        raise ValueError(f"field {unknown[0]!r} is unknown; allowed are {', '.join(FIELDS)}")
    if "query" not in row:
        raise ValueError("query is missing")
    sides = [("query", row["query"])]
    lists = {kind: _list(row, kind) for kind in ("positives", "negatives")}
    sides += [(f"{kind}[{at}]", side) for kind, own in lists.items() for at, side in enumerate(own)]
    if len(sides) < 2:
        raise ValueError("there are neither positives nor negatives")
    parts = [_parts(side, place, folder, found) for place, side in sides]
    count, relevant = len(sides) - 1, len(lists["positives"])
    labels = _numbers(row, "labels", count) or [1.0] * relevant + [0.0] * (count - relevant)
    if min(labels) < 0:
        raise ValueError(f"labels hold {min(labels):g}; a grade is 0 or more")
    teacher: list[float] | list[None] = _numbers(row, "scores", count) or [None] * count
    candidates = tuple(
        Candidate(_key(side, folder), Document(own), label, score)
        for (_, side), own, label, score in zip(sides[1:], parts[1:], labels, teacher, strict=True)
    )
    return Group(name, Query(parts[0]), candidates)


def document_of(
    row: Any, place: str, folder: Path, found: Callable[[Part], None] | None = None
) -> Document:
    """A document out of a SIDE, or of an object with `_id` and perhaps `title` as sets have it.

    Raises ValueError, and whatever `found` raises.
    """
    if isinstance(row, dict) and "_id" in row:
        row = {name: value for name, value in row.items() if name != "_id"}
        title = row.pop("title", None)
        if title and isinstance(row.get("text"), str):
            row["text"] = f"{title} {row['text']}"
    return Document(_parts(row, place, folder, found))


def side(item: Query | Document, folder: Path) -> Any:
    """What a file in `folder` holds for an item: paths below that folder are written from there.

    Reading it gives the item again. Raises InputError for content that no file can name.
    """
    sides = [_side(part, folder) for part in item.parts]
    return sides[0] if len(sides) == 1 else sides


def _side(part: Part, folder: Path) -> Any:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Image) and isinstance(part.source, str):
        return {"image": part.source}
    if isinstance(part, Image) and isinstance(part.source, Path):
        return {"image": _from(part.source, folder)}
    if isinstance(part, Pdf) and isinstance(part.source, Path) and len(part.pages or ()) == 1:
        (page,) = part.pages or ()
        return {"pdf": _from(part.source, folder), "page": page}
    raise InputError(
        f"A part of type {type(part).__name__} cannot be written to training data.",
        "Texts, images and single PDF pages can.",
    )


def _from(path: Path, folder: Path) -> str:
    """A path as a file in `folder` names it."""
    whole, start = path.absolute(), folder.absolute()
    return str(whole.relative_to(start) if whole.is_relative_to(start) else whole)


def _list(row: dict[str, Any], kind: str) -> list[Any]:
    value = row.get(kind, [])
    if not isinstance(value, list):
        raise ValueError(f"{kind} is no list")
    return value


def _numbers(row: dict[str, Any], name: str, count: int) -> list[float]:
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) != count:
        found = len(value) if isinstance(value, list) else json.dumps(value)[:40]
        raise ValueError(f"{name} must be {count} numbers, one a document, and is {found}")
    for number in value:
        if type(number) not in (int, float) or not math.isfinite(number):
            raise ValueError(f"{name} hold {json.dumps(number)[:40]}, which is no finite number")
    return [float(number) for number in value]


def _key(side: Any, folder: Path) -> str:
    files = not (isinstance(side, str) or (isinstance(side, dict) and "text" in side))
    content = side["text"] if isinstance(side, dict) and "text" in side else side
    return json.dumps([str(folder) if files else "", content], sort_keys=True)


def _parts(
    side: Any, place: str, folder: Path, found: Callable[[Part], None] | None
) -> tuple[Part, ...]:
    listed = side if isinstance(side, list) else [side]
    parts = tuple(_part(each, place, folder) for each in listed)
    if not any(not isinstance(part, Text) or part.text.strip() for part in parts):
        raise ValueError(f"{place} is empty")
    for part in parts:
        if found is not None and not isinstance(part, Text):
            found(part)
    return parts


def _part(value: Any, place: str, folder: Path) -> Part:
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, dict):
        names = set(value)
        if names == {"text"} and isinstance(value["text"], str):
            return Text(value["text"])
        if names == {"image"} and isinstance(value["image"], str):
            return Image(_image(value["image"], folder))
        if names == {"pdf", "page"} and isinstance(value["pdf"], str):
            page = value["page"]
            if type(page) is not int or page < 1:
                raise ValueError(f"{place}: page is {json.dumps(page)}; pages count from 1")
            return Pdf(folder / value["pdf"], (page,))
    raise ValueError(f"{place} is {json.dumps(value, ensure_ascii=False)[:60]}, which is no SIDE")


def _image(value: str, folder: Path) -> Path | str:
    """A path where it looks like one: base64 has no dot in it."""
    if value[:5].lower() == "data:" or value[:8].lower().startswith(("http://", "https://")):
        return value
    path = Path(value)
    return folder / path if path.suffix.lower() in IMAGE_SUFFIXES or "." in path.name else value
