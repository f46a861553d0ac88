"""TREC runs: order and ties on the way in, and an order that no tool can misread on the way out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightrank.errors import InputError
from sightrank.evaluate.datasets import load
from sightrank.evaluate.trec import best_first, read_run, write_run

MakeSet = Callable[..., Path]


def test_the_score_decides_and_ties_keep_the_order_of_the_file(make_set: MakeSet) -> None:
    run = "q1 Q0 d3 1 1.5 x\nq1 Q0 d1 2 2.5 x\nq1 Q0 d2 3 1.5 x\n"
    folder = make_set(run=run)
    read = read_run(folder / "run.trec", load(folder))
    assert list(read["q1"].items()) == [("d1", 2.5), ("d3", 1.5), ("d2", 1.5)]


def test_queries_without_grades_are_left_out(make_set: MakeSet) -> None:
    folder = make_set(qrels="q2\td3\t1\n")
    assert list(read_run(folder / "run.trec", load(folder))) == ["q2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 d2 2 1.5", "5 fields instead of 6"),
        ("q1 Q0 d2 2 high x", "could not convert string to float: 'high'"),
        ("q1 Q0 d2 2 nan x", "score is nan"),
        ("q1 Q0 d9 2 1.5 x", "animals has no document 'd9'"),
        ("q9 Q0 d2 2 1.5 x", "animals has no query 'q9'"),
        ("q1 Q0 d1 2 1.5 x", "document 'd1' was there for query 'q1' before"),
    ],
)
def test_bad_lines(make_set: MakeSet, line: str, message: str) -> None:
    folder = make_set(run=f"q1 Q0 d1 1 2.5 x\n{line}\n")
    with pytest.raises(InputError, match=rf"run\.trec, line 2: {message}"):
        read_run(folder / "run.trec", load(folder))


def test_a_run_without_graded_queries_is_an_error(make_set: MakeSet) -> None:
    folder = make_set(run="")
    with pytest.raises(InputError, match="candidates for no graded query of animals"):
        read_run(folder / "run.trec", load(folder))


@given(
    st.lists(
        st.one_of(st.sampled_from([0.0, -0.0, 1.0, 1e-12, -math.inf]), st.floats(-50, 50)),
        min_size=1,
        max_size=12,
    )
)
def test_written_scores_fall_strictly_in_single_precision(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    path = tmp_path_factory.mktemp("run") / "out.trec"
    scores = {f"d{place}": value for place, value in enumerate(values)}
    write_run(path, {"q": scores})
    rows = [line.split() for line in path.read_text().splitlines()]
    assert [row[2] for row in rows] == list(best_first(scores))
    assert [row[3] for row in rows] == [str(rank) for rank in range(1, len(values) + 1)]
    written = np.array([row[4] for row in rows]).astype(np.float32)
    assert np.all(np.isfinite(written))
    assert np.all(np.diff(written) < 0)
