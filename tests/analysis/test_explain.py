"""`Reranker.explain`: places in texts, on pages and in several parts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank import Document, Query, Reranker
from sightrank.analysis import regions
from sightrank.analysis.case import CHOICE_FILE, Heads, read_heads
from sightrank.analysis.explanation import PagePart, TextPart
from sightrank.config import InputConfig
from sightrank.errors import CheckpointError, OptionError
from sightrank.types import Image, Text

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def nano() -> Reranker:
    return Reranker.from_pretrained(device="cpu")


def test_nano_points_at_the_sentence_that_answers(nano: Reranker) -> None:
    text = (
        "Tickets cost twelve euros and six for children. The cafe on the second floor serves"
        " coffee. Opening hours are from nine to six. Dogs have to stay outside."
    )
    found = nano.explain("opening hours", text)
    (part,) = found.parts
    assert isinstance(part, TextPart)
    best = found.spans(part)[0]
    assert "Opening" in text[best.start : best.end]
    assert found.score == pytest.approx(nano.score([("opening hours", text)])[0], abs=1e-6)


@pytest.mark.parametrize("method", ["attention", "gradient", "occlusion"])
def test_every_part_is_explained_and_points_into_what_was_given(
    ranker: Reranker, method: str
) -> None:
    parts = (
        Text("First words.\nA line."),
        Text("  "),
        Text("Zweiter Teil äöü."),
        Image(PIL.Image.new("RGB", (90, 60), "white")),
        Text("日本語 after the picture"),
    )
    found = ranker.explain("which?", Document(parts), method)
    assert [part.part for part in found.parts] == [0, 2, 3, 4]
    for part in found.parts:
        if isinstance(part, PagePart):
            assert part.scores.shape == (2, 3) and part.page is None
            assert part.image.size == (90, 60)
            continue
        given = parts[part.part]
        assert isinstance(given, Text)
        assert part.text == given.text
        covered = np.zeros(len(part.text), bool)
        for start, end in zip(part.starts, part.ends, strict=True):
            covered[start:end] = True
        assert covered.all()
        assert len(part.scores) == len(part.starts)
    assert json.loads(json.dumps(found.to_dict(matrix=True)))["method"] == method
    assert (found.parts[0].by_query is None) == (method == "occlusion")
    assert found.query_tokens[-1].is_score
    assert "".join(token.text for token in found.query_tokens) == "which?"


def test_a_page_has_its_boxes_in_points_and_the_words_under_them(ranker: Reranker) -> None:
    found = ranker.explain("xfig", Document.pdf(DEMO / "xfig-howto.pdf", 3), "gradient")
    (page,) = found.pages
    assert page.page == 3 and page.words is not None
    assert (page.words.width, page.words.height) == (612, 792)
    rows, columns = page.scores.shape
    everything = page.box(regions.Cells(0, 0, columns, rows, 1.0))
    assert everything.points == pytest.approx((0, 0, 612, 792))
    assert everything.pixels == pytest.approx((0, 0, *page.image.size))
    assert everything.words is not None and everything.words.startswith("1 Producing Documents")
    top = page.box(regions.Cells(0, 0, columns, 4, 1.0))
    assert top.words == "1 Producing Documents"
    assert found.heat_map().size == page.image.size
    assert found.heat_map().tobytes() != page.image.tobytes()


def test_a_cut_document_says_so_and_is_explained_as_far_as_it_was_read(
    ranker: Reranker,
) -> None:
    inputs = InputConfig(max_length=200, max_query_length=40, max_doc_length=60)
    text = "Word after word after word. " * 20
    found = ranker.with_inputs(inputs).explain("which?", Document.of([text, "never read"]))
    assert found.truncated
    (part,) = found.parts
    assert isinstance(part, TextPart)
    assert text.startswith(part.text) and len(part.text) < len(text)
    assert int(part.ends.max()) == len(part.text)


def test_a_long_query_has_as_many_rows_as_fit(ranker: Reranker) -> None:
    inputs = InputConfig(max_length=120, max_query_length=60)
    found = ranker.with_inputs(inputs).explain("many words " * 30, "document " * 5)
    (part,) = found.parts
    assert part.by_query is not None
    assert len(part.by_query) == len(found.query_tokens) < 120


def test_a_picture_may_ask(ranker: Reranker) -> None:
    found = ranker.explain(Query.image(PIL.Image.new("RGB", (60, 60))), "some words")
    assert found.query_tokens[0].text == "" and len(found.query_tokens) == 2 + 4 + 1


def test_refusals_name_what_is_allowed(ranker: Reranker) -> None:
    with pytest.raises(OptionError, match=r"'magic'.*attention, gradient, occlusion"):
        ranker.explain("q", "d", "magic")
    found = ranker.explain("q", "d")
    with pytest.raises(OptionError, match="no picture"):
        found.heat_map()
    seen = ranker.explain("q", PIL.Image.new("RGB", (60, 60)))
    with pytest.raises(OptionError, match="0 to 0"):
        seen.heat_map(1)


def test_heads_are_read_for_the_weights_they_were_chosen_for(tmp_path: Path) -> None:
    path = tmp_path / CHOICE_FILE
    assert read_heads(tmp_path, "f") == Heads(None, None)
    heads = Heads(((1, 2),), None)
    path.write_text(json.dumps({"fingerprint": "f", "heads": heads.to_dict()}), encoding="utf-8")
    assert read_heads(tmp_path, "f") == heads
    assert read_heads(tmp_path, "other") == Heads(None, None)
    for broken in ("[]", "{", '{"fingerprint": "f", "heads": [3]}', '{"heads": {}}'):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(CheckpointError, match=CHOICE_FILE):
            read_heads(tmp_path, "f")


def test_tokens_become_words_and_words_spans() -> None:
    text = "one twothree 日本"
    starts = np.array([0, 3, 7, 12, 13, 14], np.int32)
    ends = np.array([3, 7, 12, 13, 14, 15], np.int32)
    assert regions.word_starts(text, starts, ends).tolist() == [0, 1, 3, 4, 5]
    scores = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    (span,) = regions.spans(text, starts, ends, scores, total=2.0, top=0.6)
    assert (text[span.start : span.end], span.score) == ("twothree", 1.0)
    assert regions.spans(text, starts, ends, -np.abs(scores), total=0.0, top=0.0) == []


def test_touching_cells_share_a_box() -> None:
    grid = np.zeros((8, 9))
    grid[1:3, 1:3] = 1.0
    grid[6, 7] = 2.0
    found = regions.boxes(grid, grid.sum(), float(regions.smoothed_grid(grid).max()))
    assert [(box.left, box.top, box.right, box.bottom) for box in found] == [
        (1, 1, 3, 3),
        (7, 6, 8, 7),
    ]
    assert sum(box.score for box in found) == pytest.approx(1.0)
    assert regions.boxes(-grid, 0.0, 0.0) == []
