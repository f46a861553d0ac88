"""Metrics equal pytrec_eval's, with ties broken by the run's own order."""

from __future__ import annotations

import sys

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from sightrank.errors import MissingExtraError
from sightrank.evaluate.metrics import METRICS, average, measure, require_metrics

DOCUMENTS = st.sampled_from([f"d{number}" for number in range(30)])
QUERIES = st.sampled_from(["a", "b", "c"])
GRADES = st.dictionaries(
    QUERIES, st.dictionaries(DOCUMENTS, st.integers(-1, 3), min_size=1), min_size=1
)
DISTINCT = st.lists(DOCUMENTS, unique=True, max_size=25).map(
    lambda keys: {key: 40.0 - place for place, key in enumerate(keys)}
)


@given(GRADES, st.dictionaries(QUERIES, DISTINCT))
def test_equal_to_pytrec_eval(
    grades: dict[str, dict[str, int]], run: dict[str, dict[str, float]]
) -> None:
    names = {"ndcg_cut_10": "ndcg@10", "ndcg_cut_5": "ndcg@5", "recall_10": "recall@10"}
    whole = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut", "recall"}).evaluate(run)
    top = {query: dict(list(scores.items())[:10]) for query, scores in run.items()}
    cut = pytrec_eval.RelevanceEvaluator(grades, {"recip_rank"}).evaluate(top)
    values = measure(grades, run)
    assert set(values) == set(grades)
    for query, row in values.items():
        expected = {ours: whole.get(query, {}).get(theirs, 0.0) for theirs, ours in names.items()}
        expected["mrr@10"] = cut.get(query, {}).get("recip_rank", 0.0)
        assert row == pytest.approx(expected, abs=1e-9)


RUNS = st.dictionaries(QUERIES, st.dictionaries(DOCUMENTS, st.integers(0, 3), max_size=25))


@given(GRADES, RUNS)
def test_equal_to_pytrec_eval_on_runs_full_of_ties(
    grades: dict[str, dict[str, int]], tied: dict[str, dict[str, int]]
) -> None:
    """trec_eval puts equal scores in falling order of id; a run in that order has its metrics."""
    run = {
        query: {key: float(score) for key, score in sorted(
            scores.items(), key=lambda item: (item[1], item[0]), reverse=True)}
        for query, scores in tied.items()
    }  # fmt: skip
    names = {"ndcg_cut_10": "ndcg@10", "ndcg_cut_5": "ndcg@5", "recall_10": "recall@10"}
    whole = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut", "recall"}).evaluate(run)
    ours = measure(grades, run)
    for query in grades:
        for theirs, name in names.items():
            expected = whole.get(query, {}).get(theirs, 0.0)
            assert ours[query][name] == pytest.approx(expected, abs=1e-9)


def test_ties_keep_the_order_of_the_run() -> None:
    grades = {"q": {"m": 1}}
    assert measure(grades, {"q": {"m": 1.0, "z": 1.0, "a": 1.0}})["q"]["mrr@10"] == 1
    assert measure(grades, {"q": {"z": 1.0, "m": 1.0, "a": 1.0}})["q"]["mrr@10"] == 0.5


def test_a_query_that_the_run_lacks_counts_as_nothing() -> None:
    values = measure({"a": {"d": 1}, "b": {"d": 1}}, {"a": {"d": 1.0}})
    assert values["b"] == dict.fromkeys(METRICS, 0.0)
    assert average(values) == dict.fromkeys(METRICS, 0.5)
    assert average(measure({"a": {"d": 1}}, {})) == dict.fromkeys(METRICS, 0.0)
    assert average(measure({"a": {"d": 1}}, {"a": {}})) == dict.fromkeys(METRICS, 0.0)


def test_without_ir_measures_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sightrank\[evaluate\]'"):
        require_metrics()
