"""However a document is asked for, its scores are those of the plain path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sightrank.config import EngineConfig
from sightrank.engine.precision import Precision
from sightrank.engine.prefix_cache import PrefixCache
from sightrank.errors import OtherModelError
from sightrank.reranker import Reranker
from tests.engine import arrangements
from tests.engine.arrangements import ARRANGEMENTS, ask, config, forbid_images
from tests.engine.conftest import KINDS, QUERIES, Bench, indexed, score
from tests.int8 import NEEDS_INT8, here
from tests.tolerances import BF16_LOGIT, ENGINE, INT8_LOGIT, INT8_MODEL_LOGIT, INT8_STEPS

SMALL_CACHE = 80_000
"""Bytes: less than any two of the short documents in float32, and a tenth of the longest."""
FROM_DISK: dict[str, Precision] = {"disk": "exact", "disk, features": "features"}
IN_NEW_PROCESS: dict[str, Precision] = {"process": "exact", "process, features": "features"}
STATES = ("cold", "warm", "evicted", *FROM_DISK, *IN_NEW_PROCESS)

Answers = dict[str, dict[str, list[float]]]


@pytest.fixture(scope="session")
def elsewhere(benches: dict[str, Bench]) -> dict[tuple[str, str], Answers]:
    """What a new process finds in the indexes, by dtype and state."""
    jobs = {
        (dtype, state): f"{dtype}:{bench.index(precision).path}"
        for dtype, bench in benches.items()
        for state, precision in IN_NEW_PROCESS.items()
        if here(dtype) and (dtype, precision) != ("bfloat16", "features")
    }
    checkpoint = benches["float32"].checkpoint
    found = subprocess.run(
        [sys.executable, "-m", arrangements.__name__, str(checkpoint), *jobs.values()],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    answers: dict[str, Answers] = json.loads(found.stdout)
    return {place: answers[job] for place, job in jobs.items()}


def answer(bench: Bench, state: str, arrangement: str, kind: str) -> NDArray[np.float64]:
    """Logits of `kind`, its document being where `state` says."""
    small = SMALL_CACHE // 2 if bench.dtype == "bfloat16" else SMALL_CACHE
    ranker = bench.ranker(config(arrangement, small if state == "evicted" else 1 << 30))
    if state in FROM_DISK:
        forbid_images(ranker)
        index = bench.index(FROM_DISK[state])
        return ask(ranker, indexed(ranker, index), arrangement, kind, index.store)
    segments = {kind: ranker.encoder.document(item) for kind, item in bench.documents.items()}
    if state != "cold":
        ask(ranker, segments, arrangement, kind)
    if state == "warm":
        ranker.runner.prefill = None  # type: ignore[method-assign, assignment]
    if state == "evicted":
        score(ranker, [segments[other] for other in KINDS if other != kind])
        assert ranker.engine.cache.get(ranker.engine.key(segments[kind])) is None
    return ask(ranker, segments, arrangement, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(
    ("dtype", "limit"),
    [("float32", ENGINE), pytest.param("int8", INT8_STEPS, marks=NEEDS_INT8)],
)
def test_scores_are_those_of_the_plain_path(
    benches: dict[str, Bench],
    elsewhere: dict[tuple[str, str], Answers],
    dtype: str,
    limit: float,
    arrangement: str,
    state: str,
    kind: str,
) -> None:
    found = (
        np.array(elsewhere[dtype, state][arrangement][kind])
        if state in IN_NEW_PROCESS
        else answer(benches[dtype], state, arrangement, kind)
    )
    off = np.abs(found - benches[dtype].truth[kind])
    assert off.max() <= limit, f"largest difference {off.max():.2e}, mean {off.mean():.2e}"


@NEEDS_INT8
def test_int8_gives_the_same_order(benches: dict[str, Bench]) -> None:
    truth, found = (
        np.array([benches[dtype].truth[kind] for kind in KINDS]) for dtype in ("float32", "int8")
    )
    assert np.abs(found - truth).max() > 10 * ENGINE, "int8 that is exact was not used"
    same_order(truth, found, INT8_MODEL_LOGIT)


@pytest.mark.parametrize("state", ["cold", "warm", "evicted", *FROM_DISK])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_bfloat16_gives_the_same_order(
    benches: dict[str, Bench], arrangement: str, state: str
) -> None:
    bench = benches["bfloat16"]
    found = np.array([answer(bench, state, arrangement, kind) for kind in KINDS])
    truth = np.array([benches["float32"].truth[kind] for kind in KINDS])
    same_order(truth, found, BF16_LOGIT)


def test_bfloat16_gives_the_same_order_in_a_new_process(
    bench: Bench, elsewhere: dict[tuple[str, str], Answers]
) -> None:
    truth = np.array([bench.truth[kind] for kind in KINDS])
    for by_kind in elsewhere["bfloat16", "process"].values():
        same_order(truth, np.array([by_kind[kind] for kind in KINDS]), BF16_LOGIT)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", pytest.param("int8", marks=NEEDS_INT8)])
def test_an_index_made_in_another_dtype_is_never_read(
    benches: dict[str, Bench], dtype: str
) -> None:
    ranker = benches[dtype].ranker()
    for other, bench in benches.items():
        if other == dtype or not here(other):
            continue
        segments = [ranker.encoder.document(each) for each in bench.documents.values()]
        store = bench.index("exact").store
        assert all(store.read(ranker.engine.key(segment)) is None for segment in segments)
        with pytest.raises(OtherModelError, match=other):
            ranker.rank("q", index=bench.index("exact"))


def same_order(truth: NDArray[np.float64], found: NDArray[np.float64], limit: float) -> None:
    """Documents that the plain path in float32 puts apart stand in the same order here."""
    off = np.abs(found - truth)
    assert off.max() <= limit, f"largest difference {off.max():.2e}, mean {off.mean():.2e}"
    apart = 0
    for column in range(len(QUERIES)):
        for one, two in combinations(range(len(truth)), 2):
            gap = truth[one, column] - truth[two, column]
            if abs(gap) > limit:
                apart += 1
                assert (found[one, column] > found[two, column]) == (gap > 0)
    assert apart >= 24, "of 30 pairs, so that the order means something"


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_keys_and_values_in_int8_are_off_by_what_is_stated(bench: Bench, arrangement: str) -> None:
    index = bench.index("int8")
    ranker = bench.ranker(config(arrangement))
    forbid_images(ranker)
    documents = indexed(ranker, index)
    found = np.array([ask(ranker, documents, arrangement, kind, index.store) for kind in KINDS])
    truth = np.array([bench.truth[kind] for kind in KINDS])
    off = np.abs(found - truth)
    assert off.max() <= INT8_LOGIT, f"largest difference {off.max():.2e}, mean {off.mean():.2e}"
    assert off.max() > ENGINE, "int8 that is exact was not read from the index"
    same_order(truth, found, BF16_LOGIT)


def test_int8_from_an_index_never_answers_for_a_document_itself(bench: Bench) -> None:
    index = bench.index("int8")
    ranker = bench.ranker()
    score(ranker, list(indexed(ranker, index).values()), index.store)
    segments = [ranker.encoder.document(item) for item in bench.documents.values()]
    truth = np.array([bench.truth[kind] for kind in KINDS])
    assert np.abs(score(ranker, segments) - truth).max() <= ENGINE


def test_a_document_larger_than_the_cache_scores(bench: Bench) -> None:
    ranker = bench.ranker(config("alone", cache_bytes=1))
    segments = [ranker.encoder.document(item) for item in bench.documents.values()]
    truth = np.array([bench.truth[kind] for kind in KINDS])
    assert np.abs(score(ranker, segments) - truth).max() <= ENGINE
    assert len(ranker.engine.cache) == 0


def test_what_a_gpu_has_no_room_for_comes_back_from_the_host(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = bench.ranker()
    ranker.engine.cache = PrefixCache(1, PrefixCache(1 << 30))
    segments = [ranker.encoder.document(item) for item in bench.documents.values()]
    score(ranker, segments)
    monkeypatch.setattr(ranker.runner, "prefill", None)  # nothing is run again
    truth = np.array([bench.truth[kind] for kind in KINDS])
    assert np.abs(score(ranker, segments) - truth).max() <= ENGINE


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("cache_bytes", [1 << 30, 1])
def test_a_gpu_scores_as_the_cpu(bench: Bench, cache_bytes: int) -> None:
    ranker = Reranker.from_pretrained(
        bench.checkpoint,
        device="cuda",
        dtype="bfloat16",
        engine=EngineConfig(cache_bytes=cache_bytes),
    )
    segments = [ranker.encoder.document(item) for item in bench.documents.values()]
    truth = np.array([bench.truth[kind] for kind in KINDS])
    for _ in range(2):  # run, then from memory
        found = score(ranker, segments)
        assert np.abs(found - truth).max() <= BF16_LOGIT
        same_order(truth, found, BF16_LOGIT)


def test_a_document_that_is_twice_in_a_request_is_run_once(bench: Bench) -> None:
    ranker = bench.ranker()
    segment = ranker.encoder.document(bench.documents["image"])
    first, second = score(ranker, [segment, segment])
    assert np.abs([first, second] - bench.truth["image"]).max() <= ENGINE
    assert len(ranker.engine.cache) == 1
