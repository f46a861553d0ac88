"""The pairs of the released model's own call, `compute_score`, as queries and documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightrank.errors import OptionError
from sightrank.types import IMAGE_SUFFIXES, Document, Image, Query, Text

KINDS = ("text", "image")
_FORM = "Give [query, document] or [[query, document], ...]."


def released_pairs(pairs: object, query_type: str, doc_type: str) -> list[tuple[Query, Document]]:
    """`pairs` is a list: of (query, document) pairs, or a single pair if it starts with a string.

    A text is a string. An image is base64, a data URI, a path, bytes or a PIL image; a string
    counts as a path if a file of that name is there or its suffix is an image's. Raises OptionError
    where the released code asserts or fails. Equal values become one object, so that a query which
    stands in many pairs is read once.
    """
    for name, kind in (("query_type", query_type), ("doc_type", doc_type)):
        if kind not in KINDS:
            raise OptionError(f"{name} is {kind!r}.", "Allowed: 'text', 'image'.")
    if not isinstance(pairs, list) or not pairs:
        raise OptionError("pairs must be a list that is not empty.", _FORM)
    many = [pairs] if isinstance(pairs[0], str) else pairs
    queries: dict[object, Query] = {}
    documents: dict[object, Document] = {}
    made = []
    for index, pair in enumerate(many):
        query, document = _two(index, pair)
        if _key(query) not in queries:
            queries[_key(query)] = Query((_part(query, query_type),))
        if _key(document) not in documents:
            documents[_key(document)] = Document((_part(document, doc_type),))
        made.append((queries[_key(query)], documents[_key(document)]))
    return made


def _two(index: int, pair: object) -> Sequence[Any]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        found = f"{len(pair)} values" if isinstance(pair, (list, tuple)) else type(pair).__name__
        raise OptionError(f"Pair {index} is {found}, expected are two values.", _FORM)
    return pair


def _key(value: object) -> object:
    return value if isinstance(value, str) else id(value)


def _part(value: Any, kind: str) -> Text | Image:
    if kind == "image":
        return Image(Path(value) if isinstance(value, str) and _is_path(value) else value)
    if not isinstance(value, str):
        raise OptionError(f"A text is of type {type(value).__name__}.", "Give a string.")
    return Text(value)


def _is_path(text: str) -> bool:
    if text[:5].lower() == "data:" or text[:8].lower().startswith(("http://", "https://")):
        return False
    try:
        is_file = os.path.isfile(text)  # noqa: PTH113  (Path.is_file raises on a long base64 string)
    except ValueError:  # a zero byte
        return False
    return is_file or Path(text).suffix.lower() in IMAGE_SUFFIXES
