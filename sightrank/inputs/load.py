"""Queries and documents to texts and RGB images. All limits on what is read live here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import PIL.Image

from sightrank.errors import EmptyInputError, UnsupportedInputError
from sightrank.inputs.decode import convert_image, decode_base64, decode_image, quote
from sightrank.inputs.files import FileLimits, check_size, naming, read_file
from sightrank.inputs.pdf import page_numbers, render_page
from sightrank.types import Document, Image, Part, Pdf, Query, Text, TextFile

__all__ = ["FileLimits", "Loaded", "Piece", "describe", "iter_load", "iter_pieces", "load"]

Loaded: TypeAlias = str | PIL.Image.Image


def load(item: Query | Document, limits: FileLimits, *, max_pixels: int) -> list[Loaded]:
    """All parts of an item in order: texts as they are, images upright in RGB, PDFs page by page.

    Blank texts beside other content are left out. `max_pixels` is what the model will see of an
    image; PDF pages are drawn to suit it. Raises InputError or a child, naming the item.
    """
    return list(iter_load(item, limits, max_pixels=max_pixels))


def iter_load(item: Query | Document, limits: FileLimits, *, max_pixels: int) -> Iterator[Loaded]:
    """As `load`, one part at a time, so that a long PDF need not lie in memory as a whole."""
    return (piece.content for piece in iter_pieces(item, limits, max_pixels=max_pixels))


@dataclass(frozen=True)
class Piece:
    """Text or an image with the place in the item that it was read from."""

    content: Loaded
    part: int
    """Counted from 0."""
    page: int | None
    """Of a PDF, counted from 1."""


def iter_pieces(item: Query | Document, limits: FileLimits, *, max_pixels: int) -> Iterator[Piece]:
    """As `iter_load`, each with where it comes from."""
    empty = True
    for number, part in enumerate(item.parts):
        parts = _load_part(part, limits, max_pixels)
        while True:
            with naming(_part_name(part, item)):
                loaded, page = next(parts, (None, None))
            if loaded is None:
                break
            if isinstance(loaded, str) and not loaded.strip():
                continue
            empty = False
            yield Piece(loaded, number, page)
    if empty:
        raise EmptyInputError(
            f"{describe(item)} holds nothing but white space.", "Leave it out or give it content."
        )


def describe(item: Query | Document) -> str:
    """What to call an item in a message: its name, else a short quote, else its kind."""
    if item.name:
        return item.name
    kind = type(item).__name__
    part = item.parts[0]
    if isinstance(part, Text) and isinstance(part.text, str):
        return f"{kind} {quote(part.text)}"
    source = part.path if isinstance(part, TextFile) else getattr(part, "source", None)
    return str(source) if isinstance(source, Path) else f"{kind} ({type(part).__name__.lower()})"


def _part_name(part: Part, item: Query | Document) -> str:
    source = part.path if isinstance(part, TextFile) else getattr(part, "source", None)
    return str(source) if isinstance(source, Path) else describe(item)


def _load_part(
    part: Part, limits: FileLimits, max_pixels: int
) -> Iterator[tuple[Loaded, int | None]]:
    if isinstance(part, Text):
        yield _text(part.text, limits), None
    elif isinstance(part, TextFile):
        yield _text_file(Path(part.path), limits), None
    elif isinstance(part, Image):
        yield _image(part, limits), None
    elif isinstance(part, Pdf):
        source = Path(part.source) if isinstance(part.source, str) else part.source
        if not isinstance(source, (Path, bytes)):
            raise UnsupportedInputError(
                f"A PDF of type {type(source).__name__} is not known.", "Give a Path or bytes."
            )
        for page in page_numbers(source, part.pages, limits):
            yield render_page(source, page, limits, max_pixels=max_pixels), page
    else:
        raise UnsupportedInputError(
            f"A part of type {type(part).__name__} is neither text, image nor PDF.",
            "Use Document.of or Query.of.",
        )


def _text(text: str, limits: FileLimits) -> str:
    if not isinstance(text, str):
        raise UnsupportedInputError(
            f"The text is of type {type(text).__name__}, expected is str.", "Convert it first."
        )
    if text:
        size = len(text.encode("utf-8", "surrogatepass"))
        check_size(size, limits.max_text_bytes, "text")
    return text


def _text_file(path: Path, limits: FileLimits) -> str:
    content = read_file(path, limits.max_text_bytes, "text")
    hint = "Save it as UTF-8; images and PDFs need a suffix that says so, such as .png or .pdf."
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsupportedInputError(
            f"{path} is not UTF-8 text (byte {error.start} is {content[error.start]:#04x}).", hint
        ) from None
    if "\0" in text:
        raise UnsupportedInputError(f"{path} holds zero bytes, so it is not UTF-8 text.", hint)
    return text


def _image(part: Image, limits: FileLimits) -> PIL.Image.Image:
    source = part.source
    if isinstance(source, PIL.Image.Image):
        return convert_image(source, limits)
    if isinstance(source, Path):
        return decode_image(read_file(source, limits.max_file_bytes, "image"), limits)
    if isinstance(source, str):
        return decode_image(decode_base64(source, limits), limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_image(bytes(source), limits)
    raise UnsupportedInputError(
        f"An image of type {type(source).__name__} is not known.",
        "Give a Path, bytes, a PIL image, or base64.",
    )
