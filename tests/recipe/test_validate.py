"""Held-out data: what a first stage knows and the model may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from recipe import validate as subject
from recipe.fonts import Fonts
from recipe.pictures import PicturePack
from recipe.validate import Validation
from sightrank import Document, Query, Reranker
from sightrank.types import Text

WORDS = [f"{a}{b}" for a in "bdfghklm" for b in ("ax", "ex", "ix", "ox", "ux")]


class Counting:
    """Scores a passage by how often it has the last word of the title, or by nothing."""

    def __init__(self, knows: bool) -> None:
        self.knows = knows

    def score_matrix(
        self, queries: list[Query], documents: list[Document], pairs: list[tuple[int, int]]
    ) -> np.ndarray:
        found = [_words(documents[d]).count(_words(queries[q])[-1]) for q, d in pairs]
        return np.array(found if self.knows else np.zeros(len(found)), float)


def _words(document: Document | Query) -> list[str]:
    (part,) = document.parts
    assert isinstance(part, Text)
    return part.text.split()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Titles of two words: all passages have the first, and one passage most of the second."""
    folder = tmp_path / "text"
    folder.mkdir()
    passages, titles = [], []
    for place, word in enumerate(WORDS):
        row = {"group": word, "lang": "en", "split": "valid"}
        others = " ".join(WORDS[(place + step) % len(WORDS)] for step in range(1, 4))
        passages.append({**row, "text": f"common {others} " + " ".join([word] * 40)})
        titles.append({**row, "text": f"common {word}"})
    for name, rows in (("documents", passages), ("queries", titles)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def measured(data: Path, knows: bool, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    monkeypatch.setattr(PicturePack, "load", lambda path: None)
    monkeypatch.setattr(Fonts, "discover", lambda folder: None)
    monkeypatch.setattr(subject, "AMONG", 20)
    validation = Validation(cast(Reranker, Counting(knows)), data, rounds=1)
    return validation._first_stage()


def test_titles_are_asked_of_what_bm25_finds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(data, True, monkeypatch) == {"titles": 20, "bm25": 1, "nano": 1, "both": 1}
    blind = measured(data, False, monkeypatch)
    assert blind == {"titles": 20, "bm25": 1, "nano": 0, "both": 1}


def test_the_best_of_what_is_right_counts_and_ties_do_not() -> None:
    right = np.array([False, True, True, False])
    assert subject._first_right(np.array([0.0, 3.0, -1.0, 1.0]), right) == 1.0
    assert subject._first_right(np.array([3.0, 3.0, -1.0, 1.0]), right) == pytest.approx(
        1 / np.log2(3)
    )
    assert subject._first_right(np.arange(20.0), np.arange(20) == 0) == 0.0
