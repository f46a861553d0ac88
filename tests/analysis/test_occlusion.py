"""Occlusion: a window's drop is what scoring the edited document says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank import Document, Query, Reranker
from sightrank.analysis.case import Case
from sightrank.analysis.occlusion import MOST_WINDOWS, cut, occlusion
from tests import tolerances


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint, device="cpu")


def test_words_cut_out_are_the_text_without_them(ranker: Reranker) -> None:
    text = "Three words here."
    case = Case.of(ranker, Query.text("words?"), Document.text(text))
    found = occlusion(case).values
    left = {str(window.content[0]) for window in cut(case)}
    assert left >= {" words here.", "Three  here.", "Three words ."}
    whole = ranker.score_one("words?", text)
    for window in cut(case):
        drop = whole - ranker.score_one("words?", str(window.content[0]))
        assert found[window.tokens].sum() == pytest.approx(drop, abs=2 * tolerances.ENGINE)


def test_squares_painted_over_are_the_painted_picture(ranker: Reranker) -> None:
    pixels = np.full((84, 112, 3), 250, np.uint8)
    pixels[10:40, 60:100] = np.random.default_rng(1).integers(0, 99, (30, 40, 3))
    case = Case.of(ranker, Query.text("what?"), Document.of(PIL.Image.fromarray(pixels)))
    found = occlusion(case).values
    windows = list(cut(case))
    assert len(windows) == 12  # 3 x 4 visual tokens, each a window
    whole = ranker.score_one("what?", PIL.Image.fromarray(pixels))
    for place, window in enumerate(windows):
        row, column = divmod(place, 4)
        painted = pixels.copy()
        painted[28 * row : 28 * row + 28, 28 * column : 28 * column + 28] = 250
        drop = whole - ranker.score_one("what?", PIL.Image.fromarray(painted))
        assert found[window.tokens].sum() == pytest.approx(drop, abs=2 * tolerances.ENGINE)


def test_every_token_of_the_document_is_in_one_window_of_few(ranker: Reranker) -> None:
    document = Document.of([PIL.Image.new("RGB", (560, 420)), "many words " * 50])
    case = Case.of(ranker, Query.text("q"), document)
    windows = list(cut(case))
    assert len(windows) <= 2 * MOST_WINDOWS
    tokens = np.concatenate([window.tokens for window in windows])
    np.testing.assert_array_equal(np.sort(tokens), np.flatnonzero(case.places.part >= 0))


def test_a_single_word_can_be_cut_out(ranker: Reranker) -> None:
    assert (
        np.abs(occlusion(Case.of(ranker, Query.text("q"), Document.text("word"))).values).max() > 0
    )
