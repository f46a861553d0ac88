"""The reports as a browser shows them: whole without script or network, and usable by keyboard."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser

from sightrank.cli.documents import counted_pages
from sightrank.cli.rank import Request, run
from sightrank.reranker import Reranker
from sightrank.types import Query
from tests.browser import alone, chromium, problems
from tests.command import status


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A passage, a picture and two pages, of which the best three are explained."""
    place = tmp_path_factory.mktemp("report")
    (place / "a.txt").write_text("The museum opens at nine. " * 12)
    pages = [Image.new("RGB", (210, 297), "white") for _ in range(2)]
    for number, page in enumerate(pages):
        ImageDraw.Draw(page).text((20, 30 + 60 * number), "opening hours", fill="black")
    pages[0].save(place / "b.png")
    pages[0].save(place / "c.pdf", save_all=True, append_images=pages[1:])
    documents = tuple(str(place / name) for name in ("a.txt", "b.png", "c.pdf"))
    request = Request(Query.text("opening hours"), documents, html=place / "r.html", explained=3)
    ranker = Reranker.from_pretrained(checkpoint, device="cpu")
    assert run(request, lambda: ranker, io.BytesIO(), counted_pages) == 0
    return place / "r.html"


def test_it_can_be_read_without_javascript(browser: Browser, report: Path) -> None:
    with alone(browser, report.as_uri(), java_script_enabled=False) as page:
        assert page.title() == "opening hours - Sightrank"
        assert page.get_by_role("heading", level=1).inner_text() == "opening hours"
        assert page.get_by_role("listitem").count() == 4
        for place in range(4):
            assert page.get_by_role("heading", level=2).nth(place).is_visible()
        why = page.locator("details").first
        assert why.locator("img, mark").count() and not why.locator("img, mark").first.is_visible()
        why.locator("summary").click()
        assert why.locator("img, mark").first.is_visible()


def test_a_heat_map_opens_by_keyboard(browser: Browser, report: Path) -> None:
    with alone(browser, report.as_uri()) as page:
        heat = page.locator("details img[alt^='heat map']").first
        assert not heat.is_visible()
        for _ in range(page.locator("summary").count()):
            page.keyboard.press("Tab")
            focused = page.locator("summary:focus")
            assert focused.count() == 1, "one press of Tab leads from one to the next"
            page.keyboard.press("Enter")
        assert heat.is_visible()
        width, height = heat.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert width > 100 and height > 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(browser: Browser, report: Path, scheme: str) -> None:
    with alone(browser, report.as_uri(), color_scheme=scheme) as page:
        for summary in page.locator("summary").all():
            summary.click()
        assert problems(page) == []


def test_what_keeps_people_out_is_found(browser: Browser) -> None:
    with alone(browser, "about:blank") as page:
        page.set_content('<html lang="en"><title>t</title><img src="data:,"></html>')
        assert [each.partition(":")[0] for each in problems(page)] == ["image-alt"]


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, report: Path, width: int) -> None:
    with alone(browser, report.as_uri(), viewport={"width": width, "height": 700}) as page:
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_comparison_too(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(
        '{"_id": "a", "text": "a cat"}\n{"_id": "b", "text": "a dog"}'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}')
    (folder / "qrels.tsv").write_text("q\ta\t1\n")
    (folder / "run.trec").write_text("q Q0 b 1 2 x\nq Q0 a 2 1 x\n")
    page_file = tmp_path / "c.html"
    compared = ("compare", "first-stage", "bm25", "--on", folder, "--run", "run.trec")
    assert status(*compared, "--html", page_file) == 0
    with alone(browser, page_file.as_uri(), java_script_enabled=False) as page:
        assert page.get_by_role("heading", level=1).is_visible()
        assert page.locator("svg").is_visible()
    for scheme in ("light", "dark"):
        with alone(browser, page_file.as_uri(), color_scheme=scheme) as page:
            page.locator("summary").click()
            assert problems(page) == []
