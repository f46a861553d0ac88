"""PDFs that would take all time or memory end in an error that names them and the limit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightrank.config import InputConfig
from sightrank.errors import InputError, TooLargeError, UnreadablePdfError
from sightrank.inputs import pdf
from sightrank.inputs.load import FileLimits, load
from sightrank.inputs.pdf_process import PdfProcess
from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.inputs import bombs

MIB = 1024 * 1024
MakePdf = Callable[..., bytes]
BOMBS = {"itself": bombs.drawn_by_itself, "nested": bombs.nested, "lines": bombs.lines}
SHORT = FileLimits(max_pdf_seconds=1)
SMALL = FileLimits(max_pdf_memory_bytes=100 * MIB)
measured = pytest.mark.skipif(sys.platform != "linux", reason="how memory is measured differs")


@pytest.fixture(scope="module", params=BOMBS)
def bomb(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bombs") / f"{request.param}.pdf"
    path.write_bytes(BOMBS[request.param]())
    assert path.stat().st_size < 100_000
    return path


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[PdfProcess]:
    """One that no other test has used."""
    process = PdfProcess()
    monkeypatch.setattr(pdf, "_PROCESS", process)
    yield process
    process.close()


def test_time_is_limited(bomb: Path, make_pdf: MakePdf) -> None:
    says = rf"{bomb.name}: .*(Opening|Drawing).* more than the 1 seconds allowed.*max_pdf_seconds"
    with pytest.raises(TooLargeError, match=says):
        load(Document.pdf(bomb), SHORT, max_pixels=50_000)
    assert pdf.page_count(make_pdf(["a", "b"]), FileLimits()) == 2


@measured
def test_memory_is_limited(bomb: Path, make_pdf: MakePdf) -> None:
    says = rf"{bomb.name}: page 1: Drawing .* 104,857,600 bytes of memory.*max_pdf_memory_bytes"
    with pytest.raises(TooLargeError, match=says):
        load(Document.pdf(bomb), SMALL, max_pixels=50_000)
    assert pdf.page_count(make_pdf(["a", "b"]), FileLimits()) == 2


def test_pages_can_be_counted_without_drawing_them() -> None:
    assert pdf.page_count(bombs.nested(), SMALL) == 1


def test_a_bomb_is_left_out_of_a_ranking(checkpoint: Path, make_pdf: MakePdf) -> None:
    inputs, limits = InputConfig(max_length=2048, max_pixels=50_000), FileLimits(max_pdf_seconds=4)
    ranker = Reranker.from_pretrained(checkpoint, device="cpu", inputs=inputs, limits=limits)
    documents = [
        Document.pdf(make_pdf(["one"])),
        Document.pdf(bombs.drawn_by_itself(), name="the bomb"),
        Document.pdf(make_pdf(["two"])),
    ]
    ranking = ranker.rank("q", documents, on_error="skip")
    assert sorted(hit.index for hit in ranking) == [0, 2]
    ((index, error),) = ranking.failures
    assert index == 1 and isinstance(error, TooLargeError) and "the bomb" in error.message


@measured
def test_a_picture_that_finds_no_memory_is_never_just_left_out() -> None:
    source = bombs.picture()
    whole = pdf.render_page(source, 1, FileLimits(), max_pixels=50_000)
    assert whole.getpixel((50, 50)) == pytest.approx((255, 0, 0), abs=3)
    outcomes = set()
    for size in range(8, 72, 1):
        limits = FileLimits(max_pdf_memory_bytes=size * MIB)
        try:
            drawn = pdf.render_page(source, 1, limits, max_pixels=50_000)
        except InputError:
            outcomes.add("refused")
        else:
            assert drawn.tobytes() == whole.tobytes(), size
            outcomes.add("drawn")
    assert outcomes == {"refused", "drawn"}


def test_a_long_text_layer_is_refused(make_pdf: MakePdf) -> None:
    limits = FileLimits(max_text_bytes=10)
    assert pdf.page_text(make_pdf(["short"]), 1, limits) == "short"
    with pytest.raises(TooLargeError, match="text gives more than the 10 bytes"):
        pdf.page_text(make_pdf(["longer than that"]), 1, limits)
    assert pdf.page_text(make_pdf(["short"]), 1, limits) == "short"


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({}, b""),
        ({"failed": ["?"]}, b""),
        ({"failed": "shape", "width": "x", "height": None}, b""),
        ({"failed": "shape", "width": 5, "height": 5}, b""),
        ({"done": True}, b""),
        ({"done": True, "mode": "RGB", "width": 10**9, "height": 10**9, "stride": 1}, b"x"),
        ({"done": True, "mode": "RGB", "width": -1, "height": -1, "stride": -1}, b"x"),
        ({"done": True, "mode": "RGBA", "width": 1, "height": 1, "stride": 4}, b"abcd"),
        ({"done": True, "mode": "RGB", "width": 1, "height": 1, "stride": [3]}, b"abc"),
    ],
)
def test_answers_are_not_trusted(
    header: dict[str, object], body: bytes, make_pdf: MakePdf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> tuple[dict[str, object], bytearray]:
        return {"opened": 1} | header, bytearray(body)

    monkeypatch.setattr(pdf, "_PROCESS", type("Mad", (), {"ask": ask})())
    with pytest.raises(UnreadablePdfError) as caught:
        pdf.render_page(make_pdf(), 1, FileLimits(), max_pixels=50_000)
    assert caught.value.hint
    if "failed" not in header:
        with pytest.raises(UnreadablePdfError):
            pdf.outline(make_pdf())
