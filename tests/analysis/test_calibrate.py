"""Calibrations: honest on data they were not fitted to, kept with their model, refused for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.analysis.calibrate import Calibration, calibrate, halves
from sightrank.analysis.fits import sigmoid
from sightrank.analysis.select import Selection
from sightrank.analysis.thresholds import Goal, Labelled, choose, measure
from sightrank.errors import InputError, OptionError, OtherModelError
from sightrank.types import Document, RankedDocument

FACTS = {"model": "m", "weights": "ab" * 32, "dtype": "float32", "template": ["x", 1]}


def simulated(seed: int = 0, queries: int = 300, each: int = 10) -> Labelled:
    """Pairs of a model that is far too sure, and whose queries differ in how hard they are."""
    random = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(queries), each)
    logits = random.normal(-2, 8, len(numbers))
    odds = (logits + random.normal(0, 1, queries)[numbers]) / 2 - 0.5
    return Labelled(logits, random.random(len(numbers)) < sigmoid(odds), numbers)


@pytest.mark.parametrize("method", ["temperature", "isotonic", None])
def test_the_error_falls_on_queries_that_were_held_out(method: str | None) -> None:
    result = calibrate(FACTS, simulated(), logit_bias=2.65, method=method)
    before, after = (
        result.reliabilities[name].ece for name in ("before", result.calibration.method)
    )
    assert before > 0.05 and after < before / 2
    assert not set(result.fitted.queries.tolist()) & set(result.held_out.queries.tolist())


SIMULATED = 120
BY_LUCK = 2 * (0.05 * 0.95 / SIMULATED) ** 0.5
"""Twice the standard error of a share of 5 % among so many sets of labels."""


def figure(goal: str, taken: NDArray[np.bool_], relevant: NDArray[np.bool_]) -> float:
    return float(relevant[taken].mean() if goal == "precision" else taken[relevant].mean())


def test_what_is_promised_holds_in_the_whole_population() -> None:
    """Of many sets of labels at most 5 % give a threshold that misses what was wanted, and the
    intervals of at least 95 % hold the truth, but for luck. The same thresholds on fresh labels as
    many as were measured on, which vary as much, lie inside in about 83 %: 1.96 / sqrt(2) standard
    errors."""
    queries, population = 200, simulated(10**6, queries=8_000)
    goals: list[tuple[Goal, float]] = [("precision", 0.8), ("recall", 0.9)]
    given, missed, inside, again = (dict.fromkeys(goals, 0) for _ in range(4))
    for seed in range(SIMULATED):
        fresh = simulated(seed + 5000, queries=queries // 2)
        pairs = simulated(seed, queries=queries)
        made = calibrate(FACTS, pairs, logit_bias=2.65, method="temperature", wanted=goals)
        for goal, each in zip(goals, made.thresholds, strict=True):
            if each.probability is None:
                continue
            found = [
                figure(
                    goal[0], made.calibration.apply(one.logits) >= each.probability, one.relevant
                )
                for one in (population, fresh)
            ]
            given[goal] += 1
            missed[goal] += found[0] < goal[1]
            inside[goal] += each.reached.low <= found[0] <= each.reached.high
            again[goal] += each.reached.low <= found[1] <= each.reached.high
    for goal in goals:
        assert given[goal] > SIMULATED / 2
        assert missed[goal] / SIMULATED <= 0.05 + BY_LUCK
        assert inside[goal] / given[goal] >= 0.95 - BY_LUCK
        assert 0.75 <= again[goal] / given[goal] <= 0.95


def test_thresholds_take_as_much_as_their_goal_allows() -> None:
    """A step down, precision is not sure to reach the goal; a step up, recall is not."""
    pairs = simulated(queries=100)
    p = sigmoid(pairs.logits / 2)
    chosen = choose("precision", 0.8, p, pairs)
    assert chosen is not None
    assert measure("precision", 0.8, chosen, p, pairs).precision.low >= 0.8
    below = np.sort(p[p < chosen])[-20]
    assert measure("precision", 0.8, float(below), p, pairs).precision.low < 0.8
    chosen = choose("recall", 0.9, p, pairs)
    assert chosen is not None
    one_sided = measure("recall", 0.9, chosen, p, pairs, confidence=0.9)
    assert one_sided.recall.low >= 0.9
    above = np.sort(p[p > chosen])[7]
    assert measure("recall", 0.9, float(above), p, pairs, confidence=0.9).recall.low < 0.9


def test_a_goal_out_of_reach_has_no_threshold() -> None:
    few = Labelled(np.arange(4.0), np.array([False, False, True, True]), np.arange(4))
    assert choose("precision", 0.9, sigmoid(few.logits), few) is None  # two pairs show nothing
    with pytest.raises(OptionError, match="precision is 1"):
        choose("precision", 1, sigmoid(few.logits), few)


def test_a_query_is_in_the_same_half_whatever_the_others_are() -> None:
    pairs = simulated(queries=40)
    keys = [f"query {number}" for number in range(40)]
    _, second = halves(pairs, keys)
    again = Labelled(pairs.logits, pairs.relevant, 39 - pairs.queries)
    _, second_again = halves(again, keys[::-1])
    assert sorted(second.logits.tolist()) == sorted(second_again.logits.tolist())


def test_too_few_labels_are_named() -> None:
    pairs = Labelled(np.arange(4.0), np.array([True, False, True, True]), np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="2 queries and 4 pairs are too few"):
        calibrate(FACTS, pairs, logit_bias=0)


def test_it_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    made = calibrate(FACTS, simulated(queries=60), logit_bias=2.65).calibration
    made.save(tmp_path / "c.json")
    read = Calibration.load(tmp_path / "c.json")
    logits = np.linspace(-30, 30, 99)
    np.testing.assert_array_equal(read.apply(logits), made.apply(logits))
    assert read.apply(1.5) == made.apply(1.5) and isinstance(read.apply(1.5), float)
    assert (np.diff(read.apply(logits)) >= 0).all()
    read.check(FACTS)
    assert read.report == json.loads(json.dumps(made.report))


@pytest.mark.parametrize(
    ("name", "value"), [("weights", "cd" * 32), ("dtype", "bfloat16"), ("template", ["x", 2])]
)
def test_another_model_or_setting_is_refused(name: str, value: object) -> None:
    made = calibrate(FACTS, simulated(queries=60), logit_bias=2.65).calibration
    with pytest.raises(OtherModelError, match=rf"{name} .* there, .* here"):
        made.check(FACTS | {name: value})
    with pytest.raises(OtherModelError):
        Selection.of(None, 0.5, made, None, FACTS | {name: value})


def spoiled(**changes: Any) -> dict[str, Any]:
    content = {
        "format": 1,
        "facts": {},
        "method": "isotonic",
        "temperature": {"temperature": 1.0, "bias": 0.0},
        "isotonic": {"logits": [0, 1], "probabilities": [0, 1], "num_pairs": 9},
        "report": {},
    }
    return content | changes


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("no JSON", "Expecting value"),
        (spoiled(format=2), "format is 2"),
        (spoiled(method="magic"), "method is 'magic'"),
        ({"format": 1}, "'temperature' is missing"),
        (spoiled(isotonic={"logits": [1, 0], "probabilities": [0, 1], "num_pairs": 9}), "rise"),
        (spoiled(isotonic={"logits": [1], "probabilities": [0, 1], "num_pairs": 9}), "pair up"),
        ([], "list"),
        (None, "cannot be read"),
    ],
)
def test_other_files_are_no_calibration(tmp_path: Path, content: object, named: str) -> None:
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=named):
        Calibration.load(path)


def test_where_nothing_can_be_written_nothing_is_left(tmp_path: Path) -> None:
    made = calibrate(FACTS, simulated(queries=60), logit_bias=2.65).calibration
    with pytest.raises(OptionError, match="cannot be written"):
        made.save(tmp_path / "no" / "c.json")


def unwanted(_: object) -> NDArray[np.float32]:
    raise AssertionError("nobody asked for variety")


HITS = [
    RankedDocument(rank, rank, 0.5**rank, -float(rank), Document.text("x")) for rank in (1, 2, 3)
]


def test_a_threshold_divides_and_top_k_cuts_after_it() -> None:
    hits, rejected = Selection.of(1, 0.25, None, None, FACTS).choose(HITS, unwanted)
    assert [hit.rank for hit in hits] == [1]
    assert [hit.rank for hit in rejected] == [3]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "0.5", True, float("nan")])
def test_a_threshold_is_a_probability(threshold: Any) -> None:
    with pytest.raises(OptionError, match="threshold is"):
        Selection.of(None, threshold, None, None, FACTS)
