"""Pages of a PDF as images, with their text layer and the outline.

PDFium is not thread-safe, so everything here runs under one lock, and every handle is closed before
the lock is let go (a handle closed later, by the garbage collector, would call PDFium without it).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import PIL.Image
import pypdfium2
import pypdfium2.raw

from sightrank.errors import (
    EmptyInputError,
    EncryptedPdfError,
    InputError,
    TooLargeError,
    UnreadablePdfError,
)
from sightrank.inputs.files import FileLimits, check_file, check_size, naming
from sightrank.inputs.images import check_sides

OVERSAMPLING = 1.5
MAX_DPI = 200
_POINTS_PER_INCH = 72
_RESAVE = "Open it in a viewer and save it again."
_MAX_OUTLINE_ENTRIES = 10_000
_PDFIUM = threading.RLock()  # guards the library, which is itself one for the process
_PASSWORD_CODES = (pypdfium2.raw.FPDF_ERR_PASSWORD, pypdfium2.raw.FPDF_ERR_SECURITY)


def page_count(source: Path | bytes, limits: FileLimits) -> int:
    """Number of pages, at least 1. Raises UnreadablePdfError, EncryptedPdfError, InputError."""
    with _opened(source, limits) as document:
        return len(document)


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


def render_pages(
    source: Path | bytes,
    pages: tuple[int, ...] | None,
    limits: FileLimits,
    *,
    max_pixels: int,
) -> list[PIL.Image.Image]:
    """RGB images of pages counted from 1 (None: all), each as `render_page` makes it."""
    return [
        render_page(source, page, limits, max_pixels=max_pixels)
        for page in page_numbers(source, pages, limits)
    ]


def render_page(
    source: Path | bytes, page: int, limits: FileLimits, *, max_pixels: int
) -> PIL.Image.Image:
    """An RGB image of one page, with its annotations and filled form fields.

    The model sees at most `max_pixels` of a page, so the page is drawn 1.5 times as long and wide
    as that, and the bicubic resize that follows has something to average: sharper small print than
    drawing at the final size, and no more memory for a huge MediaBox than for A4. Small pages are
    not blown up past 200 dpi (300 as drawn).
    """
    with _page(source, page, limits) as handle:
        width, height = handle.get_size()  # in points, rotation applied
        check_sides(height, width)
        fit = math.sqrt(max_pixels / (width * height))
        scale = OVERSAMPLING * min(fit, MAX_DPI / _POINTS_PER_INCH)
        with closing(handle.render(scale=scale, rev_byteorder=True)) as bitmap:
            image: PIL.Image.Image = bitmap.to_pil().convert("RGB").copy()  # outlives the bitmap
            return image


def page_text(source: Path | bytes, page: int, limits: FileLimits) -> str:
    """The text layer of a page counted from 1; empty for a scan. Lines end in a newline."""
    with _page(source, page, limits) as handle, closing(handle.get_textpage()) as layer:
        text = str(layer.get_text_bounded())
    # PDFium marks a word broken at a line's end by U+FFFE or U+0002.
    return re.sub("[\x00\x02\ufffe]", "", text).replace("\r\n", "\n").replace("\r", "\n")


def outline(
    source: Path | bytes, limits: FileLimits | None = None
) -> list[tuple[str, int, int | None]]:
    """Bookmarks as (title, level from 0, page from 1 or None where it leads nowhere)."""
    entries: list[tuple[str, int, int | None]] = []
    with _opened(source, limits or FileLimits()) as document:
        for bookmark in document.get_toc():
            target = bookmark.get_dest()
            index = None if target is None else target.get_index()
            page = None if index is None or index < 0 else index + 1
            entries.append((bookmark.get_title().strip(), bookmark.level, page))
            if len(entries) == _MAX_OUTLINE_ENTRIES:
                break
    return entries


@contextmanager
def _opened(source: Path | bytes, limits: FileLimits) -> Iterator[pypdfium2.PdfDocument]:
    if isinstance(source, Path):
        check_file(source, limits.max_file_bytes, "PDF")
    else:
        check_size(len(source), limits.max_file_bytes, "PDF")
    name = str(source) if isinstance(source, Path) else "PDF"
    with naming(name), _PDFIUM, _translated(), closing(_open(source)) as document:
        document.init_forms()  # or filled fields would be drawn empty
        if len(document) < 1:
            raise EmptyInputError("The PDF has no pages.", "Give a PDF that has some.")
        yield document


def _open(source: Path | bytes) -> pypdfium2.PdfDocument:
    # PdfDocument(source) would treat a PDF without pages as unreadable, for the reason that the
    # last PDF before it had.
    if isinstance(source, Path):
        path = str(source).encode("utf-8", "surrogateescape")
        handle = pypdfium2.raw.FPDF_LoadDocument(path, None)
    else:
        handle = pypdfium2.raw.FPDF_LoadMemDocument64(source, len(source), None)
    if handle:
        return pypdfium2.PdfDocument(handle)
    if pypdfium2.raw.FPDF_GetLastError() in _PASSWORD_CODES:
        raise EncryptedPdfError("The PDF asks for a password.", "Save a copy without one.")
    raise UnreadablePdfError("The PDF is damaged or is none.", _RESAVE)


@contextmanager
def _page(source: Path | bytes, page: int, limits: FileLimits) -> Iterator[pypdfium2.PdfPage]:
    with _opened(source, limits) as document:
        _check_page(page, len(document))
        with naming(f"page {page}"), _translated(), closing(document[page - 1]) as handle:
            yield handle


def _check_page(page: int, count: int) -> None:
    if not 1 <= page <= count:
        raise InputError(
            f"The PDF has no page {page}, it has pages 1 to {count}.", "Choose one of these."
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, MemoryError, RuntimeError) as error:  # PdfiumError among them
        raise UnreadablePdfError(f"The PDF cannot be read: {error}.", _RESAVE) from error
