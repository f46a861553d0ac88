"""`sightrank explain` and `rank --html` on a tiny model: output, files, refusals."""

from __future__ import annotations

import html.parser
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from sightrank import Reranker
from sightrank.cli import main
from sightrank.cli.documents import counted_pages
from sightrank.cli.explain import Request
from sightrank.cli.explain import run as explain
from sightrank.cli.rank import Request as Ranked
from sightrank.cli.rank import run as rank
from sightrank.errors import InputError, OptionError
from sightrank.types import Query

EVIL = '<script>alert(1)</script> & "quotes" \'\x07'
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(f"Some words. {EVIL}", encoding="utf-8")
    PIL.Image.new("RGB", (90, 60), "white").save("b<i>.png")
    pages = [PIL.Image.new("RGB", (100, 140), colour) for colour in ("white", "grey")]
    pages[0].save("c.pdf", save_all=True, append_images=pages[1:])
    return tmp_path


def run(ranker: Reranker, request: Request, stdin: bytes = b"") -> None:
    explain(request, lambda: ranker, io.BytesIO(stdin), counted_pages)


def test_a_text_is_shown_with_its_spans(
    ranker: Reranker, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(ranker, Request(Query.text("words?"), "-"), b"A line that has words.\n")
    out = capsys.readouterr().out
    assert "by attention" in out and "A line that has words." in out
    assert "%  [" in out and "\x1b" not in out


def test_json_has_spans_boxes_and_query_tokens(
    ranker: Reranker, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(document: str, **more: Any) -> dict[str, Any]:
        run(ranker, Request(Query.text("hi"), document, json=True, **more))
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        return content

    text = printed("a.txt", matrix=True)
    assert (
        text["document"] == "a.txt"
        and text["query"] == "hi"
        and text["heads"] == {"text": None, "image": None}
    )
    (part,) = text["parts"]
    assert set(part["relevant_spans"][0]) == {"start", "end", "score"}
    assert len(part["by_query"]) == len(text["query_tokens"]) == 3
    assert len(part["by_query"][0]) == len(part["tokens"])
    page = printed("c.pdf#page=2", top=1)
    (part,) = page["parts"]
    assert part["page"] == 2 and len(part["boxes"]) <= 1
    assert {"pixels", "cells", "score", "points", "words"} == set(part["boxes"][0])
    assert [set(token) for token in page["query_tokens"]] == [
        {"text", "start", "end", "is_score", "looks"}
    ] * 3


def test_heat_maps_are_written_one_a_page(
    ranker: Reranker, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(ranker, Request(Query.text("q"), "c.pdf", png=Path("h.png"), whole=True))
    assert "heat map in h-1.png" in capsys.readouterr().out
    assert {path.name for path in folder.glob("h*")} == {"h-1.png", "h-2.png"}
    run(ranker, Request(Query.text("q"), "b<i>.png", png=Path("h.png")))
    with PIL.Image.open("h.png") as image:
        assert image.size == (90, 60)


def test_what_cannot_be_explained_is_refused(ranker: Reranker, folder: Path) -> None:
    query = Query.text("q")
    with pytest.raises(InputError, match=r"2 documents.*c\.pdf#page=1"):
        run(ranker, Request(query, "c.pdf"))
    with pytest.raises(InputError, match="does not exist"):
        run(ranker, Request(query, "no.txt"))
    with pytest.raises(OptionError, match="no picture"):
        run(ranker, Request(query, "a.txt", png=Path("h.png")))
    with pytest.raises(OptionError, match="cannot be written"):
        run(ranker, Request(query, "b<i>.png", png=Path("no/h.png")))
    with pytest.raises(SystemExit, match="2"):
        main(["explain", "q", "a.txt", "--matrix"])


class Outline(html.parser.HTMLParser):
    """Tags that open and close in order, and what a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write_report(ranker: Reranker, **more: Any) -> str:
    documents = ("a.txt", "b<i>.png", "c.pdf")
    request = Ranked(Query.text(f"asked {EVIL}"), documents, html=Path("r.html"), **more)
    assert rank(request, lambda: ranker, io.BytesIO(), counted_pages) == 0
    return Path("r.html").read_text(encoding="utf-8")


def test_the_report_is_whole_escaped_and_needs_nothing_else(ranker: Reranker, folder: Path) -> None:
    page = write_report(ranker, explained=4)
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert "script" not in outline.seen and "i" not in outline.seen
    assert outline.seen.count("li") == 4 and outline.seen.count("details") == 4
    assert "mark" in outline.seen
    assert all(link.startswith("data:image/jpeg;base64,") for link in outline.links)
    assert len(outline.links) == 3 + 3  # thumbnails and heat maps
    assert "\x07" not in page and "prefers-color-scheme" not in page
    assert "color-scheme: light dark" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;" in page


def test_only_the_best_are_explained_and_a_bad_target_is_found_first(
    ranker: Reranker, folder: Path
) -> None:
    assert write_report(ranker, explained=1).count("<details>") == 1
    request = Ranked(Query.text("q"), ("a.txt",), html=Path("no/r.html"))
    with pytest.raises(OptionError, match="cannot be written"):
        rank(request, lambda: pytest.fail("loaded"), io.BytesIO(), counted_pages)
