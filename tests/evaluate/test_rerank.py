"""Reranking: which pairs are scored, how often, and what comes out in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from sightrank.config import InputConfig
from sightrank.errors import SightrankError
from sightrank.evaluate.run import prepare, rerank
from sightrank.reranker import Reranker

MakeSet = Callable[..., Path]


def test_candidates_are_reranked_and_measured(make_set: MakeSet, scorer: Any) -> None:
    result = rerank(scorer, prepare(make_set(), "run.trec"))
    assert {query: list(found.items()) for query, found in result.run.items()} == {
        "q1": [("d2", 3.0), ("d1", 1.0), ("d3", 0.0)],
        "q2": [("d3", 2.0), ("d1", 0.0)],
    }
    report = result.to_dict()
    assert report["seconds"] >= 0
    del report["seconds"]
    # q3 has a grade and no candidates: it counts as 0.
    before = (1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert report == {
        "dataset": "animals",
        "model": "overlap",
        "queries": 3,
        "documents": 3,
        "depth": 3,
        "metrics": pytest.approx(
            {"ndcg@10": 2 / 3, "ndcg@5": 2 / 3, "mrr@10": 2 / 3, "recall@10": 2 / 3}
        ),
        "first_stage": pytest.approx(
            {
                "ndcg@10": (before + 1 / np.log2(3)) / 3,
                "ndcg@5": (before + 1 / np.log2(3)) / 3,
                "mrr@10": (1 + 1 / 2) / 3,
                "recall@10": 2 / 3,
            }
        ),
    }


def test_equal_scores_keep_the_order_of_the_first_stage(make_set: MakeSet, scorer: Any) -> None:
    folder = make_set(
        queries=[{"_id": "q1", "text": "zebra"}],
        qrels="q1\td3\t1\n",
        run="q1 Q0 d3 1 5 x\nq1 Q0 d1 2 5 x\nq1 Q0 d2 3 5 x\n",
    )
    result = rerank(scorer, prepare(folder, "run.trec"))
    assert list(result.run["q1"]) == ["d3", "d1", "d2"]
    assert result.per_query == result.first_stage
    assert result.per_query["q1"]["mrr@10"] == 1


def test_every_document_is_scored_once_for_all_its_queries(make_set: MakeSet, scorer: Any) -> None:
    seen: list[tuple[int, int]] = []
    task = prepare(make_set(), "run.trec")
    rerank(scorer, task, lambda done, total: seen.append((done, total)))
    assert [document.name for document in scorer.documents] == ["d1", "d2", "d3"]
    assert scorer.pairs == 5
    assert seen == [(5, 5)]


def test_pages_are_read_in_windows_within_a_budget(
    tmp_path: Path, make_set: MakeSet, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pages than fit at once are never in memory together, and nothing changes but that."""
    ranker = Reranker.from_pretrained(checkpoint, inputs=InputConfig(max_pixels=56 * 56))
    names = [f"d{number}" for number in range(8)]
    for number, name in enumerate(names):
        PIL.Image.new("RGB", (64, 64), (number * 30, 0, 0)).save(tmp_path / f"{name}.png")
    folder = make_set(
        corpus=[{"_id": name, "image": f"{name}.png"} for name in names],
        queries=[{"_id": "q1", "text": "red"}, {"_id": "q2", "text": "black"}],
        qrels="q1\td7\t1\nq2\td0\t1\n",
        run="".join(f"{q} Q0 {name} 1 1 x\n" for q in ("q1", "q2") for name in names),
    )
    task = prepare(folder, "run.trec", tmp_path)
    whole = rerank(ranker, task)
    ranker.engine.cache.clear()
    ranker.engine.limits = replace(ranker.engine.limits, waiting_bytes=1)
    sizes: list[int] = []
    score = ranker.engine.score

    def watched(documents: Any, *given: Any) -> Any:
        sizes.append(len(documents))
        return score(documents, *given)

    monkeypatch.setattr(ranker.engine, "score", watched)
    seen: list[int] = []
    cut = rerank(ranker, task, lambda done, _: seen.append(done))
    assert sizes == [1] * 8
    assert seen == [2 * number for number in range(1, 9)]
    for query in ("q1", "q2"):
        assert cut.run[query] == pytest.approx(whole.run[query], abs=1e-4)


def test_depth_and_the_number_of_queries(make_set: MakeSet, scorer: Any) -> None:
    result = rerank(scorer, prepare(make_set(), "run.trec", depth=1, max_queries=1))
    assert {query: list(found) for query, found in result.run.items()} == {"q1": ["d1"]}
    report = result.to_dict()
    assert (report["queries"], report["depth"]) == (1, 1)
    assert report["metrics"]["recall@10"] == 0.5  # of the queries asked, not of all
    assert report["first_stage"] == report["metrics"]


def test_bm25_without_a_run(make_set: MakeSet, scorer: Any) -> None:
    result = rerank(scorer, prepare(make_set()))
    assert {query: list(found) for query, found in result.run.items()} == {
        "q1": ["d2", "d1"],
        "q2": ["d3"],
        "q3": [],
    }
    assert result.to_dict()["queries"] == 3


def test_a_run_may_be_a_path(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set()
    elsewhere = tmp_path / "mine.trec"
    elsewhere.write_text("q2 Q0 d3 1 1 x\n")
    assert prepare(folder, str(elsewhere)).candidates == {"q2": {"d3": 1.0}}


def test_blank_documents_come_last_unscored(make_set: MakeSet, scorer: Any) -> None:
    folder = make_set(
        corpus=[
            {"_id": "d1", "text": " "},
            {"_id": "d2", "text": "cat"},
            {"_id": "d3", "text": "x"},
        ]
    )
    result = rerank(scorer, prepare(folder, "run.trec"))
    assert list(result.run["q1"]) == ["d2", "d3", "d1"]
    assert scorer.pairs == 3


def test_a_score_that_is_not_a_number_is_an_error(
    make_set: MakeSet, scorer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scorer, "score_matrix", lambda q, d, pairs, **_: np.full(len(pairs), np.nan)
    )
    with pytest.raises(SightrankError, match="overlap scores document 'd1' for query 'q1' as nan"):
        rerank(scorer, prepare(make_set(), "run.trec"))


def test_results_by_query(make_set: MakeSet, scorer: Any) -> None:
    rows = list(rerank(scorer, prepare(make_set(), "run.trec")).rows())
    assert [row["query"] for row in rows] == ["q1", "q2", "q3"]
    assert rows[1]["first_stage"]["mrr@10"] == 0.5
    assert rows[1]["metrics"]["mrr@10"] == 1
    assert set(rows[0]) == {"dataset", "model", "query", "metrics", "first_stage"}
