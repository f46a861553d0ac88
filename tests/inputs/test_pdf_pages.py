"""Rendering, text, outline, and PDFs that cannot be read."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank.config import MAX_PIXELS, MIN_PIXELS
from sightrank.errors import (
    AspectRatioError,
    EmptyInputError,
    EncryptedPdfError,
    InputError,
    TooLargeError,
    UnreadablePdfError,
)
from sightrank.inputs import pdf
from sightrank.inputs.images import patchify
from sightrank.inputs.load import FileLimits, load
from sightrank.types import Document

LIMITS = FileLimits()
MakePdf = Callable[..., bytes]


def drawn(document: Document, max_pixels: int) -> list[PIL.Image.Image]:
    """Its pages."""
    images = load(document, LIMITS, max_pixels=max_pixels)
    return [image for image in images if isinstance(image, PIL.Image.Image)]


def test_pages_text_and_outline(make_pdf: MakePdf, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_bytes(make_pdf(["First", "Second", "Third"], titles=["Intro", "Middle"]))
    for source in (path, path.read_bytes()):
        assert pdf.page_count(source, LIMITS) == 3
        assert [pdf.page_text(source, page, LIMITS) for page in (3, 1)] == ["Third", "First"]
        assert pdf.outline(source) == [("Intro", 0, 1), ("Middle", 0, 2)]


def test_pages_are_drawn_at_one_and_a_half_times_what_the_model_sees(make_pdf: MakePdf) -> None:
    (image,) = drawn(Document.pdf(make_pdf(box=(595, 842))), MAX_PIXELS)
    assert image.mode == "RGB"
    assert 2.25 * MAX_PIXELS <= image.width * image.height < 2.26 * MAX_PIXELS
    assert patchify(image, MIN_PIXELS, MAX_PIXELS).num_tokens > 700
    assert np.asarray(image).min() < 50  # ink
    assert np.asarray(image).max() > 250  # paper


def test_small_pages_stay_small_and_huge_ones_cost_no_more(make_pdf: MakePdf) -> None:
    (card,) = drawn(Document.pdf(make_pdf(box=(72, 144))), MAX_PIXELS)
    assert card.size == (300, 600)
    (wall,) = drawn(Document.pdf(make_pdf(box=(14400, 14400))), MAX_PIXELS)
    assert wall.width * wall.height < 2.26 * MAX_PIXELS
    with pytest.raises(AspectRatioError, match="page 1"):
        drawn(Document.pdf(make_pdf(box=(14400, 10))), MAX_PIXELS)


def test_chosen_pages_come_in_the_given_order(make_pdf: MakePdf) -> None:
    source = make_pdf(["I", "WWWWWWWWWW"])
    ink = [
        int((np.asarray(image) < 128).sum())
        for image in drawn(Document.pdf(source, pages=(2, 1)), 50_000)
    ]
    assert ink[0] > 3 * ink[1] > 0


def test_page_outside_names_the_range(make_pdf: MakePdf, tmp_path: Path) -> None:
    path = tmp_path / "two.pdf"
    path.write_bytes(make_pdf(["a", "b"]))
    with pytest.raises(InputError, match=r"two\.pdf: .*no page 3.*pages 1 to 2"):
        load(Document.pdf(path, 3), LIMITS, max_pixels=50_000)


def test_refused_pdfs(make_pdf: MakePdf) -> None:
    for error, source in [
        (EncryptedPdfError, make_pdf(encrypted=True)),
        (EmptyInputError, make_pdf([])),
        (EmptyInputError, b""),
        (UnreadablePdfError, b"%PDF-1.4 and then nothing"),
        (UnreadablePdfError, b"plain text"),
        (TooLargeError, make_pdf(["a", "b", "c"])),
    ]:
        with pytest.raises(error):
            load(Document.pdf(source), FileLimits(max_pdf_pages=2), max_pixels=50_000)


def test_too_many_pages_does_not_forbid_choosing_one(make_pdf: MakePdf) -> None:
    source = make_pdf(["a", "b", "c"])
    assert len(load(Document.pdf(source, 3), FileLimits(max_pdf_pages=2), max_pixels=50_000)) == 1


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.pdf does not exist"):
        pdf.page_count(tmp_path / "no.pdf", LIMITS)
    with pytest.raises(InputError, match="is a directory"):
        pdf.page_count(tmp_path, LIMITS)


def test_pdfs_that_pillow_writes() -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (300, 100), (0, 0, 255)).save(buffer, "PDF")
    (image,) = drawn(Document.pdf(buffer.getvalue()), 50_000)
    assert image.getpixel((image.width // 2, image.height // 2)) == pytest.approx(
        (0, 0, 255), abs=8
    )
    assert pdf.page_text(buffer.getvalue(), 1, LIMITS) == ""


def test_threads_may_render_at_once(make_pdf: MakePdf) -> None:
    source = make_pdf(["some text"])

    def render(_: int) -> bytes:
        return pdf.render_page(source, 1, LIMITS, max_pixels=50_000).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(render, range(16)))) == 1
