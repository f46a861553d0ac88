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
        self.asked: list[tuple[str, str]] = []

    def score_matrix(
        self, queries: list[Query], documents: list[Document], pairs: list[tuple[int, int]]
    ) -> np.ndarray:
        self.asked += [
            (" ".join(_words(queries[q])), " ".join(_words(documents[d]))) for q, d in pairs
        ]
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
    return validation._titles()


def test_titles_are_asked_of_what_bm25_finds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(data, True, monkeypatch) == {"queries": 40, "bm25": 1, "nano": 1, "both": 1}
    blind = measured(data, False, monkeypatch)
    assert blind == {"queries": 40, "bm25": 1, "nano": 0, "both": 1}


def test_sentences_are_asked_of_what_they_were_taken_out_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").mkdir()
    rows = []
    for word in WORDS:
        text = f"The one sentence here that is long enough ends with {word}." + f" {word}." * 60
        rows.append({"group": word, "lang": "en", "split": "valid", "text": text})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("documents", "queries"):
        (tmp_path / "text" / f"{name}.jsonl").write_text(lines)
    monkeypatch.setattr(PicturePack, "load", lambda path: None)
    monkeypatch.setattr(Fonts, "discover", lambda folder: None)
    model = Counting(True)
    figures = Validation(cast(Reranker, model), tmp_path, rounds=1)._sentences(str.upper)
    assert figures == {"queries": 40, "bm25": 1, "nano": 1, "both": 1}
    assert model.asked
    assert all(query.startswith("THE ONE SENTENCE") for query, _ in model.asked)
    # The sentence is gone from the passage that it was taken out of; the others keep theirs, if any.
    assert not any(query in document for query, document in model.asked)


def test_the_best_of_what_is_right_counts_and_ties_do_not() -> None:
    right = np.array([False, True, True, False])
    assert subject._first_right(np.array([0.0, 3.0, -1.0, 1.0]), right) == 1.0
    assert subject._first_right(np.array([3.0, 3.0, -1.0, 1.0]), right) == pytest.approx(
        1 / np.log2(3)
    )
    assert subject._first_right(np.arange(20.0), np.arange(20) == 0) == 0.0
