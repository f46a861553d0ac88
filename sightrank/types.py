"""The vocabulary of the project: queries, documents and rankings. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from sightrank.errors import EmptyInputError, OptionError, UnsupportedInputError

if TYPE_CHECKING:
    from typing import Self

    from PIL.Image import Image as PILImage

ImageSource: TypeAlias = "Path | bytes | str | PILImage"
IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".jp2"}
)


@dataclass(frozen=True)
class Text:
    """A passage given as a string."""

    text: str


@dataclass(frozen=True)
class TextFile:
    """A passage in a UTF-8 file, read when it is ranked."""

    path: Path


@dataclass(frozen=True)
class Image:
    """A picture: a path, the bytes of an image file, a PIL image, or base64 (bare or a data URI)."""

    source: ImageSource


@dataclass(frozen=True)
class Pdf:
    """Pages of a PDF, each seen as an image. `pages` counts from 1; None means every page."""

    source: Path | bytes
    pages: tuple[int, ...] | None = None


Part: TypeAlias = Text | TextFile | Image | Pdf


@dataclass(frozen=True)
class _Item:
    """What documents and queries have in common: an ordered list of parts and a name."""

    parts: tuple[Part, ...]
    name: str | None = None
    """What the user would type to get it again; errors and results show it."""

    def __post_init__(self) -> None:
        if not self.parts:
            kind = type(self).__name__
            raise EmptyInputError(f"A {kind} needs at least one part.", "Give it text or an image.")

    @classmethod
    def of(cls, value: Any) -> Self:
        """Make one from a string (text), path (by its suffix), bytes, PIL image, part or list of these."""
        if isinstance(value, cls):
            return value
        if isinstance(value, _Item):
            return cls(value.parts, value.name)
        if isinstance(value, (list, tuple)):
            return cls(tuple(_part(part) for part in value))
        return cls((_part(value),), str(value) if isinstance(value, Path) else None)

    @classmethod
    def text(cls, text: str, name: str | None = None) -> Self:
        """A passage."""
        return cls((Text(text),), name)

    @classmethod
    def image(cls, source: ImageSource, text: str | None = None, name: str | None = None) -> Self:
        """A picture, optionally followed by text that belongs to it."""
        parts: tuple[Part, ...] = (Image(source),) if text is None else (Image(source), Text(text))
        return cls(parts, name or (str(source) if isinstance(source, Path) else None))


@dataclass(frozen=True)
class Query(_Item):
    """What is asked: text or an image."""


@dataclass(frozen=True)
class Document(_Item):
    """What is ranked: text, images, PDF pages, or several of these in order, read as one."""

    @classmethod
    def pdf(
        cls,
        source: Path | str | bytes,
        pages: int | Iterable[int] | None = None,
        name: str | None = None,
    ) -> Document:
        """One document made of a PDF's pages (counted from 1; None: all of them)."""
        path = Path(source) if isinstance(source, str) else source
        chosen = None if pages is None else _page_numbers(pages)
        return cls((Pdf(path, chosen),), name or _pdf_name(path, chosen))


def _page_numbers(pages: Any) -> tuple[int, ...]:
    try:
        listed = pages if isinstance(pages, Iterable) else (pages,)
        chosen = tuple(int(index(page)) for page in listed)
    except TypeError:
        chosen = ()
    if not chosen or min(chosen) < 1:
        raise OptionError(
            f"PDF pages are {pages!r}.", "Give a number or a list of numbers that count from 1."
        )
    return chosen


def _pdf_name(source: Path | bytes, pages: tuple[int, ...] | None) -> str | None:
    if not isinstance(source, Path):
        return None
    if pages is None:
        return str(source)
    if len(pages) == 1:
        return f"{source}#page={pages[0]}"
    if pages == tuple(range(pages[0], pages[-1] + 1)):
        return f"{source}#pages={pages[0]}-{pages[-1]}"
    return f"{source}#pages={','.join(map(str, pages))}"


def _part(value: Any) -> Part:
    if isinstance(value, (Text, TextFile, Image, Pdf)):
        return value
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Path):
        suffix = value.suffix.lower()
        if suffix == ".pdf":
            return Pdf(value)
        return Image(value) if suffix in IMAGE_SUFFIXES else TextFile(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        content = bytes(value)
        return Pdf(content) if content[:1024].lstrip().startswith(b"%PDF-") else Image(content)
    if hasattr(value, "convert") and hasattr(value, "size"):  # a PIL image, without importing PIL
        return Image(value)
    raise UnsupportedInputError(
        f"A value of type {type(value).__name__} is neither a query nor a document.",
        "Give a string, a Path, image or PDF bytes, a PIL image, or a list of these.",
    )


@dataclass(frozen=True)
class RankedDocument:
    """One line of a ranking. `score` is sigmoid(logit - bias), in [0, 1]; `index` counts from 0."""

    rank: int
    index: int
    score: float
    logit: float
    document: Document
    probability: float | None = None
    """Of being relevant, by the calibration that was given; None without one."""


@dataclass(frozen=True)
class Ranking(Sequence[RankedDocument]):
    """Ranked documents, best first; equal logits keep the order the documents were given in."""

    query: Query
    hits: tuple[RankedDocument, ...]
    total_tokens: int = 0
    """Prompt tokens of all pairs, without the score token: what the hosted API would charge."""
    failures: tuple[tuple[int, Exception], ...] = field(default=())
    """(index, error) of documents that could not be read, where the caller asked to skip them."""
    rejected: tuple[RankedDocument, ...] = ()
    """Documents below the threshold that was asked for, best first."""

    @overload
    def __getitem__(self, index: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RankedDocument, ...]: ...
    def __getitem__(self, index: int | slice) -> RankedDocument | tuple[RankedDocument, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[RankedDocument]:
        return iter(self.hits)
