"""Variety: the formula on vectors that are known, and rankings of a tiny model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.analysis.diverse import POOL, most_covering, most_marginal
from sightrank.analysis.select import Selection
from sightrank.analysis.states import centred, document_vectors, indexed_vectors
from sightrank.cli import main
from sightrank.engine.index import Index
from sightrank.errors import OptionError
from sightrank.reranker import Reranker
from sightrank.types import Document, RankedDocument

ALIKE = ["tea with milk", "milk with tea", "with tea milk"]
OTHERS = ["0123456789 42", "ZZZ! XX? QQQ"]


@pytest.fixture(scope="module")
def ranker(checkpoint: Path) -> Reranker:
    return Reranker.from_pretrained(checkpoint)


def test_each_next_one_is_the_best_by_the_formula() -> None:
    random = np.random.default_rng(0)
    logits = np.sort(random.normal(0, 3, 12))[::-1]
    vectors = random.normal(0, 1, (12, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = most_marginal(logits, vectors, 0.6)
    assert sorted(order) == list(range(12))
    relevance = (logits - logits.min()) / (logits.max() - logits.min())
    for at in range(12):
        values = {}
        for one in order[at:]:
            cosines = [float(vectors[one] @ vectors[other]) for other in order[:at]]
            values[one] = 0.6 * relevance[one] - 0.4 * max([0.0, *cosines])
        assert values[order[at]] == pytest.approx(max(values.values()))


def test_a_copy_gives_way_and_a_balance_of_one_changes_nothing() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    logits = np.array([3.0, 2.9, 1.0])
    assert most_marginal(logits, vectors, 0.5) == [0, 2, 1]
    assert most_marginal(logits, vectors, 1) == [0, 1, 2]
    assert most_marginal(np.ones(3), vectors, 1) == [0, 1, 2]


def drawn(seed: int, count: int = 9) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    vectors = random.normal(0, 1, (count, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.sort(random.normal(0, 3, count))[::-1], vectors


def value(
    logits: NDArray[np.float64], vectors: NDArray[np.float32], balance: float, chosen: Sequence[int]
) -> float:
    """What `most_covering` says that it makes high, written out."""
    relevance = (logits - logits.min()) / (logits.max() - logits.min())
    cosines = np.maximum(vectors @ vectors.T, 0)
    unit = max(float(relevance @ row) for row in cosines)
    covered = sum(
        relevance[one] * max(cosines[one, other] for other in chosen) for one in range(len(logits))
    )
    return float(balance * relevance[list(chosen)].sum() + (1 - balance) * covered / unit)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7])
def test_what_is_chosen_is_within_the_bound_of_the_best(balance: float) -> None:
    """And each next one adds as much as any could, though few gains are computed anew."""
    for seed in range(8):
        logits, vectors = drawn(seed)
        order = most_covering(logits, vectors, balance)
        assert sorted(order) == list(range(len(logits)))
        for count in range(1, 5):
            sets = list(combinations(range(len(logits)), count))
            best = max(value(logits, vectors, balance, each) for each in sets)
            got = value(logits, vectors, balance, order[:count])
            assert got >= (1 - 1 / math.e) * best - 1e-9
            steps = [
                value(logits, vectors, balance, [*order[: count - 1], one])
                for one in order[count - 1 :]
            ]
            assert got == pytest.approx(max(steps), abs=1e-6)


def test_one_stands_for_many() -> None:
    """Of three that are alike and two that are alike one each comes first."""
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    logits = np.array([3.0, 2.9, 2.8, 2.0, 1.0])
    assert most_covering(logits, vectors, 0.1)[:2] == [0, 3]
    assert most_covering(logits, vectors, 1) == [0, 1, 2, 3, 4]
    assert most_covering(np.ones(3), np.eye(3, dtype=np.float32), 0.5) == [0, 1, 2]
    assert most_covering(np.ones(0), np.ones((0, 2), np.float32), 0.5) == []


def test_rules_are_named(ranker: Reranker) -> None:
    documents = [*ALIKE, *OTHERS]
    plain = ranker.rank("tea", documents)
    vectors = centred(document_vectors(ranker, [hit.document for hit in plain]))
    order = most_covering(np.array([hit.logit for hit in plain]), vectors, 0.05)
    varied = ranker.rank("tea", documents, diverse=0.05, diverse_by="facility")
    assert [hit.index for hit in varied] == [plain[at].index for at in order]
    with pytest.raises(OptionError, match="diverse_by is 'luck'"):
        ranker.rank("tea", documents, diverse=0.5, diverse_by="luck")


def test_copies_do_not_stand_together(ranker: Reranker) -> None:
    documents = [*ALIKE, *OTHERS]
    plain = ranker.rank("tea", documents)
    varied = ranker.rank("tea", documents, diverse=0.05)
    assert [hit.rank for hit in varied] == [1, 2, 3, 4, 5]
    assert varied[0].index == plain[0].index
    assert sum(hit.index < len(ALIKE) for hit in varied[:3]) == 1
    same = ranker.rank("tea", documents, diverse=1)
    assert [(hit.index, hit.logit) for hit in same] == [(hit.index, hit.logit) for hit in plain]
    assert len(ranker.rank("tea", documents, top_k=2, diverse=0.05)) == 2


def test_an_index_gives_the_same_order(ranker: Reranker, tmp_path: Path) -> None:
    documents = [Document.text(text, name=text) for text in [*ALIKE, *OTHERS]]
    folder = tmp_path / "i.index"
    ranker.index(documents, folder)
    here = ranker.rank("tea", documents, diverse=0.3)
    there = ranker.rank("tea", index=folder, diverse=0.3)
    assert [hit.index for hit in there] == [hit.index for hit in here]
    np.testing.assert_allclose(
        indexed_vectors(ranker, Index(folder), [3, 0]),
        document_vectors(ranker, [documents[3], documents[0]]),
        atol=1e-5,
    )


def test_words_in_another_order_have_nearly_one_vector(ranker: Reranker) -> None:
    vectors = centred(document_vectors(ranker, [*ALIKE, *OTHERS]))
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.8 > 0.3 > max(cosines[0, 3], cosines[0, 4])
    assert document_vectors(ranker, []).size == 0


def test_kinds_are_centred_by_themselves() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (20, 4)).astype(np.float32)
    moved = vectors + np.repeat([[0.0], [9.0]], 10, axis=0).astype(np.float32)
    kinds = [0] * 10 + [1] * 10
    np.testing.assert_allclose(centred(moved, kinds), centred(vectors, kinds), atol=1e-5)
    assert np.isfinite(centred(np.ones((3, 2), np.float32))).all()


def test_beyond_the_pool_the_order_stays() -> None:
    hits = [RankedDocument(n + 1, n, 0.5, -float(n), Document.text("x")) for n in range(POOL + 5)]
    chosen, _ = Selection(None, None, None, 0.1).choose(
        hits, lambda pool: np.eye(len(pool), dtype=np.float32)
    )
    assert [hit.index for hit in chosen[POOL:]] == list(range(POOL, POOL + 5))
    assert [hit.rank for hit in chosen] == list(range(1, POOL + 6))


@pytest.mark.parametrize("diverse", [-1, 1.01, "much", True])
def test_the_balance_is_a_share(ranker: Reranker, diverse: Any) -> None:
    with pytest.raises(OptionError, match="diverse is"):
        ranker.rank("tea", ALIKE, diverse=diverse)


def test_the_command_takes_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, text in enumerate([*ALIKE, *OTHERS]):
        (tmp_path / f"{number}.txt").write_text(text)
    arguments = ["rank", "tea", tmp_path, "--model", checkpoint, "--diverse", 0.05, "--json"]
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    assert exit_info.value.code == 0
    places = [hit["index"] for hit in json.loads(capsys.readouterr().out)["results"]]
    assert sum(place < 3 for place in places[:3]) == 1
