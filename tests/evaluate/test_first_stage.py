"""BM25 against scores worked out by hand, and terms of scripts with and without spaces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sightrank.errors import InputError
from sightrank.evaluate.datasets import load
from sightrank.evaluate.first_stage import Analyzer, Bm25, search

MakeSet = Callable[..., Path]


def test_scores_worked_out_by_hand() -> None:
    # Three texts of 2, 4 and 3 terms, on average 3. "a" stands in two of them, "b" in one.
    index = Bm25(["a b", "a a a c", "c c d"])
    idf_a = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    idf_b = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    # k1 (1 - b + b dl / avgdl) = 1.2 (0.25 + 0.75 * 2 / 3) = 0.9 and 1.2 (0.25 + 1) = 1.5
    first = (idf_a + idf_b) * 1 * 2.2 / (1 + 0.9)
    second = idf_a * 3 * 2.2 / (3 + 1.5)
    np.testing.assert_allclose(index.scores("a b z a"), [first, second, 0], rtol=1e-12)


def test_no_terms_score_nothing() -> None:
    np.testing.assert_array_equal(Bm25(["...", ""]).scores("a ?"), [0, 0])


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Wind-tunnel, 3.5 Mach!", ["wind", "tunnel", "3", "5", "mach"]),
        ("Größe café", ["größe", "café"]),
        ("cafe\u0301", ["café"]),
        ("黑豹队 2 次", ["黑豹", "豹队", "2", "次"]),
        ("Debianのカーネル", ["debian", "のカ", "カー", "ーネ", "ネル"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("ที่นี่", ["ที", "ี่", "่น", "นี", "ี่"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        (" \n", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert Analyzer()(text) == terms


def test_finds_what_shares_a_term_best_first_and_at_most_depth(make_set: MakeSet) -> None:
    dataset = load(make_set())
    run = search(dataset, 100)
    assert {query: list(found) for query, found in run.items()} == {
        "q1": ["d2", "d1"],
        "q2": ["d3"],
        "q3": [],
    }
    assert list(search(dataset, 1)["q1"]) == ["d2"]


def test_equal_scores_come_in_the_order_of_the_corpus(make_set: MakeSet) -> None:
    rows = [{"_id": name, "text": "cat"} for name in ("z", "m", "a")]
    dataset = load(make_set(corpus=rows, qrels="q1\tz\t1\n"))
    assert list(search(dataset, 2)["q1"]) == ["z", "m"]


def test_pages_need_a_run(make_set: MakeSet, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    folder = make_set(corpus=[{"_id": "p", "pdf": "a.pdf", "page": 1}])
    with pytest.raises(InputError, match=r"no text documents.*--run"):
        search(load(folder, tmp_path), 100)
