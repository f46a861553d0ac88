"""Pages of a PDF as images, with their text layer and the outline.

PDFium reads them in a process of its own (`pdfium.py`), which is ended where it goes beyond the
limits: then, and where it crashes, the PDF is named in an error and the next one is read as usual.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from sightrank.errors import (
    EmptyInputError,
    EncryptedPdfError,
    InputError,
    TooLargeError,
    UnreadablePdfError,
)
from sightrank.inputs.files import MIB, FileLimits, check_file, check_size, naming
from sightrank.inputs.images import MAX_ASPECT_RATIO, check_sides
from sightrank.inputs.pdf_process import Ended, PdfProcess, Work
from sightrank.inputs.pdfium import Header

OVERSAMPLING = 1.5
MAX_DPI = 200
_POINTS_PER_INCH = 72
_RESAVE = "Open it in a viewer and save it again."
_SIMPLER = "Print it to a new PDF or give its pages as images"
_DOING = {
    "count": "Counting the pages",
    "draw": "Drawing",
    "text": "Reading the text",
    "words": "Finding the words",
    "outline": "Reading the outline",
}
_PROCESS = PdfProcess()  # one for this process and its threads; starts nothing by itself


def page_count(source: Path | bytes, limits: FileLimits) -> int:
    """Number of pages, at least 1. Raises UnreadablePdfError, EncryptedPdfError, InputError."""
    reply, _ = _read(source, limits, "count", 0)
    return int(reply["opened"])


def page_numbers(
    source: Path | bytes, pages: tuple[int, ...] | None, limits: FileLimits
) -> tuple[int, ...]:
    """The page numbers meant by `pages` (None: all), counted from 1 and all within the PDF.

    Raises InputError for a page outside it and TooLargeError beyond `limits.max_pdf_pages`.
    """
    count = page_count(source, limits)
    chosen = tuple(range(1, count + 1)) if pages is None else pages
    for page in chosen:
        _check_page(page, count)
    if len(chosen) > limits.max_pdf_pages:
        raise TooLargeError(
            f"The PDF gives {len(chosen)} pages, allowed in one document are"
            f" {limits.max_pdf_pages}.",
            "Choose some pages, or make each page a document.",
        )
    return chosen


def render_page(
    source: Path | bytes, page: int, limits: FileLimits, *, max_pixels: int
) -> PIL.Image.Image:
    """An RGB image of one page, with its annotations and filled form fields.

    The model sees at most `max_pixels` of a page, so the page is drawn 1.5 times as long and wide
    as that, and the bicubic resize that follows has something to average: sharper small print than
    drawing at the final size, and no more memory for a huge MediaBox than for A4. Small pages are
    not blown up past 200 dpi (300 as drawn).
    """
    request = {
        "pixels": max_pixels,
        "oversampling": OVERSAMPLING,
        "max_scale": MAX_DPI / _POINTS_PER_INCH,
        "max_ratio": MAX_ASPECT_RATIO,
    }
    # Twice what was asked for, since sides are rounded up and rows padded, each of up to 4 bytes.
    max_reply = 8 * math.ceil(max_pixels * OVERSAMPLING**2) + MIB
    reply, body = _read(source, limits, "draw", max_reply, page, **request)
    with _naming(source), naming(f"page {page}"), _distrusting():
        width, height, stride = reply["width"], reply["height"], reply["stride"]
        if reply["mode"] != "RGB" or not 0 < 3 * width <= stride or stride * height != len(body):
            raise ValueError("the answer is no image")
        return PIL.Image.frombuffer("RGB", (width, height), body, "raw", "RGB", stride, 1)


def page_text(source: Path | bytes, page: int, limits: FileLimits) -> str:
    """The text layer of a page counted from 1; empty for a scan. Lines end in a newline."""
    _, body = _read(source, limits, "text", limits.max_text_bytes, page)
    text = body.decode("utf-8", "replace")
    # PDFium marks a word broken at a line's end by U+FFFE or U+0002.
    return re.sub("[\x00\x02\ufffe]", "", text).replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True)
class Word:
    """A word of the text layer."""

    text: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in points (1/72 inch) from the top left of the page as shown."""


@dataclass(frozen=True)
class PageWords:
    """A page's text layer in the order in which it is written; no words for a scan."""

    width: float
    """In points, with the page's rotation and crop applied."""
    height: float
    words: tuple[Word, ...]


def page_words(source: Path | bytes, page: int, limits: FileLimits) -> PageWords:
    """The words of a page counted from 1, and where they stand. Raises InputError or a child."""
    # A character takes up to a hundred bytes of an answer, that of a word of its own.
    reply, body = _read(source, limits, "words", 100 * limits.max_text_bytes, page)
    with _naming(source), naming(f"page {page}"), _distrusting():
        words = tuple(
            Word(str(text), (float(left), float(top), float(right), float(bottom)))
            for text, left, top, right, bottom in json.loads(body)
        )
        return PageWords(float(reply["width"]), float(reply["height"]), words)


def outline(
    source: Path | bytes, limits: FileLimits | None = None
) -> list[tuple[str, int, int | None]]:
    """Bookmarks as (title, level from 0, page from 1 or None where it leads nowhere)."""
    limits = limits or FileLimits()
    _, body = _read(source, limits, "outline", limits.max_text_bytes)
    with _naming(source), _distrusting():
        return [(str(title), int(level), page) for title, level, page in json.loads(body)]


def _read(
    source: Path | bytes,
    limits: FileLimits,
    do: str,
    max_reply: int,
    page: int | None = None,
    **request: float,
) -> tuple[Header, bytearray]:
    """What the reading process answers; every way not to get an answer is an InputError."""
    if isinstance(source, Path):
        check_file(source, limits.max_file_bytes, "PDF")
    else:
        check_size(len(source), limits.max_file_bytes, "PDF")
    # The other process has its own working directory.
    path, content = (str(source.absolute()), b"") if isinstance(source, Path) else (None, source)
    work = Work(
        request={"do": do, "path": path, "page": page, **request},
        content=content,
        seconds=limits.max_pdf_seconds,
        memory=limits.max_pdf_memory_bytes,
        max_reply=max_reply,
    )
    with _naming(source):
        try:
            reply, body = _PROCESS.ask(work)
        except Ended as ended:
            with _naming_page(page, ended.pages):
                raise _unanswered(ended, work) from ended
        pages = reply["opened"]
        if pages is not None and pages < 1:
            raise EmptyInputError("The PDF has no pages.", "Give a PDF that has some.")
        if pages is not None and page is not None:
            _check_page(page, pages)
        if "done" not in reply or pages is None:
            with _naming_page(page, pages), _distrusting():
                raise _refused(reply)
        return reply, body


def _refused(reply: Header) -> InputError:
    kind = reply.get("failed")
    if kind == "password":
        return EncryptedPdfError("The PDF asks for a password.", "Save a copy without one.")
    if kind == "damaged":
        return UnreadablePdfError("The PDF is damaged or is none.", _RESAVE)
    if kind == "shape":
        check_sides(reply["height"], reply["width"])
    return UnreadablePdfError(f"The PDF cannot be read: {reply.get('detail', kind)}.", _RESAVE)


def _unanswered(ended: Ended, work: Work) -> InputError:
    doing = "Opening the PDF" if ended.pages is None else _DOING[work.request["do"]]
    if ended.reason == "time":
        return TooLargeError(
            f"{doing} takes more than the {work.seconds:g} seconds allowed.",
            f"{_SIMPLER}, or raise max_pdf_seconds in FileLimits.",
        )
    if ended.reason == "memory":
        return TooLargeError(
            f"{doing} takes more than the {work.memory:,} bytes of memory allowed.",
            f"{_SIMPLER}, or raise max_pdf_memory_bytes in FileLimits.",
        )
    if ended.reason == "reply":
        return TooLargeError(
            f"{doing} gives more than the {work.max_reply:,} bytes allowed.", f"{_SIMPLER}."
        )
    return UnreadablePdfError(
        f"{doing} ended the process that reads PDFs ({ended.reason}).", f"{_SIMPLER}."
    )


def _naming(source: Path | bytes) -> AbstractContextManager[None]:
    return naming(str(source) if isinstance(source, Path) else "PDF")


def _naming_page(page: int | None, pages: int | None) -> AbstractContextManager[None]:
    """Name the page if one was asked for and the PDF was open."""
    return nullcontext() if page is None or pages is None else naming(f"page {page}")


def _check_page(page: int, count: int) -> None:
    if not 1 <= page <= count:
        raise InputError(
            f"The PDF has no page {page}, it has pages 1 to {count}.", "Choose one of these."
        )


@contextmanager
def _distrusting() -> Iterator[None]:
    """For answers: whoever made the PDF may have got hold of the process that gives them."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise UnreadablePdfError(
            "The process that reads PDFs gave no sound answer.", f"{_SIMPLER}."
        ) from error
