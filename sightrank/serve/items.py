"""Queries and documents as they come over the wire: fetched, and named by their place.

Nothing here ever opens a file: a text that looks like a path is a text, an image that does is no
base64.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sightrank.errors import EmptyInputError, UnsupportedInputError
from sightrank.inputs.decode import decode_base64
from sightrank.inputs.files import FileLimits, naming
from sightrank.serve.errors import FetchError
from sightrank.serve.fetch import Fetcher
from sightrank.serve.schemas import Content, ContentPart, Item
from sightrank.types import Document, Image, Part, Pdf, Query, Text

MOST_ADDRESSES = 64
"""Of one request; more are better sent as bytes, or indexed."""


@dataclass(frozen=True)
class Piece:
    """A text, or where an image or PDF is."""

    kind: Literal["text", "image", "PDF"]
    value: str
    pages: tuple[int, ...] | None = None

    @property
    def is_address(self) -> bool:
        """Whether it has to be fetched; other schemes than http(s) are refused as addresses."""
        return (
            self.kind != "text"
            and re.match(r"\s*[a-z][a-z0-9+.-]*://", self.value, re.I) is not None
        )


Pieces = tuple[Piece, ...]


def pieces(item: str | Item | Content) -> Pieces:
    """What an item consists of, in order. Raises EmptyInputError for nothing."""
    if isinstance(item, str):
        return (Piece("text", item),)
    if isinstance(item, Content):
        return tuple(map(_part, item.content))
    found = []
    if item.image is not None:
        found.append(Piece("image", item.image))
    if item.pdf is not None:
        found.append(Piece("PDF", item.pdf, tuple(item.pages) if item.pages else None))
    if item.text is not None:
        found.append(Piece("text", item.text))
    if not found:
        raise EmptyInputError("An item has neither text, image nor pdf.", "Give it one of these.")
    return tuple(found)


def query_pieces(query: str | Item | Content) -> Pieces:
    """The same for a query, which may be an image's data URI as it is."""
    if isinstance(query, str) and query[:11].lower() == "data:image/":
        return (Piece("image", query),)
    return pieces(query)


def fields_text(document: str | dict[str, Any], fields: Sequence[str] | None) -> str:
    """The text of Cohere's document: its `text`, or the fields named, a line each."""
    if isinstance(document, str):
        return document
    names = fields or ["text"]
    missing = [name for name in names if name not in document]
    if missing:
        raise UnsupportedInputError(
            f"A document has no field {missing[0][:40]!r}.", "Name its fields in rank_fields."
        )
    values = [document[name] for name in names]
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    pairs = zip(names, values, strict=True)
    return "\n".join(f"{name}: {_plain(value)}" for name, value in pairs)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _part(part: ContentPart) -> Piece:
    if part.type == "image_url" and part.image_url is not None:
        return Piece("image", part.image_url.url)
    if part.type == "text" and part.text is not None:
        return Piece("text", part.text)
    raise EmptyInputError(f"A part of type {part.type} lacks its {part.type}.", "Give it.")


async def items(
    query: Pieces, documents: Sequence[Pieces], fetcher: Fetcher, limits: FileLimits
) -> tuple[Query, list[Document]]:
    """Both sides with everything fetched. Raises InputError, FetchError, naming the item."""
    sources = await _fetched([query, *documents], fetcher)
    made: list[Document] = []
    for place, each in enumerate([query, *documents]):
        with naming(name(place - 1)):
            made.append(
                Document(tuple(_made(piece, sources, limits) for piece in each), name(place - 1))
            )
    return Query(made[0].parts, "query"), made[1:]


def name(place: int) -> str:
    """What errors call a document; -1 is the query."""
    return "query" if place < 0 else f"documents[{place}]"


async def _fetched(items: Sequence[Pieces], fetcher: Fetcher) -> dict[str, bytes]:
    """Address -> bytes, each fetched once."""
    wanted = {
        piece.value: (piece.kind, place - 1)
        for place, item in enumerate(items)
        for piece in item
        if piece.is_address
    }
    if len(wanted) > MOST_ADDRESSES:
        raise FetchError(
            f"The request names {len(wanted)} addresses, allowed are {MOST_ADDRESSES}.",
            "Send bytes as base64.",
        )
    gate = asyncio.Semaphore(fetcher.limits.max_at_once)

    async def fetch(url: str, kind: str, place: int) -> bytes:
        async with gate:
            try:
                return await fetcher.fetch(url.strip(), kind)
            except FetchError as error:
                raise FetchError(f"{name(place)}: {error.message}", error.hint) from error

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {
                url: group.create_task(fetch(url, kind, place))
                for url, (kind, place) in wanted.items()
            }
    except BaseExceptionGroup as errors:  # one is enough to tell
        raise errors.exceptions[0] from None
    return {url: task.result() for url, task in tasks.items()}


def _made(piece: Piece, fetched: dict[str, bytes], limits: FileLimits) -> Part:
    if piece.kind == "text":
        return Text(piece.value)
    content = fetched[piece.value] if piece.is_address else None
    if piece.kind == "image":
        return Image(piece.value if content is None else content)
    return Pdf(
        decode_base64(piece.value, limits, "PDF") if content is None else content, piece.pages
    )
