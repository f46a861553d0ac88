"""Long requests stay inside their budget, and where memory fails less runs at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from sightrank.config import EngineConfig
from sightrank.engine import available, memory
from sightrank.engine.indexing import Failures
from sightrank.engine.memory import RUNTIME_BYTES, in_halves, is_out_of_memory, limits
from sightrank.engine.reading import Reader
from sightrank.errors import OptionError, OutOfMemoryError
from sightrank.inputs.segments import Segment
from sightrank.reranker import Reranker
from sightrank.types import Document, Query
from tests.engine import long_request
from tests.engine.conftest import KINDS, Bench, score
from tests.engine.long_request import PIXEL_BYTES
from tests.tolerances import ENGINE

MIB = 1024**2
ROOM = 32 * MIB
"""Beside the tiny model, which takes less than one."""
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"
)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_two_thousand_pictures_stay_inside_a_budget_that_their_pixels_do_not_fit(
    checkpoint: Path,
) -> None:
    budget = RUNTIME_BYTES + ROOM
    assert 2000 * PIXEL_BYTES > 4 * ROOM
    found = subprocess.run(
        [sys.executable, "-m", long_request.__name__, str(checkpoint), "2000", str(budget)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    facts = json.loads(found.stdout)
    assert facts["ranked"] == 2000
    assert facts["peak_bytes"] <= facts["expected_bytes"] <= budget


def test_pixels_are_gone_before_the_next_are_read(ranker: Reranker) -> None:
    """A window holds what is allowed, or a single document that is larger."""
    encode = ranker.encoder.document
    alive: list[weakref.ref[Any]] = []

    def watched(document: Document) -> Segment:
        held = [each for each in alive if each() is not None]
        assert len(held) <= 3
        segment = encode(document)
        alive.append(weakref.ref(segment.images[0]))
        return segment

    ranker.encoder.document = watched  # type: ignore[method-assign]
    random = np.random.default_rng(0)
    images = [
        PIL.Image.fromarray(random.integers(0, 256, (84, 84, 3), dtype=np.uint8)) for _ in range(9)
    ]
    most = 2 * ranker.encoder.document(Document.of(images[0])).num_bytes
    alive.clear()
    ranker.engine.limits = replace(ranker.engine.limits, waiting_bytes=most)
    ranking = ranker.rank("q", images)
    assert len(alive) == 9
    ranker.encoder.document = encode  # type: ignore[method-assign]
    for hit in ranking.hits[::4]:
        assert hit.logit == pytest.approx(ranker.score_one("q", hit.document), abs=ENGINE)


@pytest.mark.parametrize(("most", "sizes"), [(0, [1, 1, 1]), (10**9, [3])])
def test_windows_hold_at_least_one_document(ranker: Reranker, most: int, sizes: list[int]) -> None:
    query = ranker.encoder.query(Query.text("q"))
    reader = Reader(ranker.encoder, [query], lambda _: [0], Failures("raise"))
    assert [len(window) for window in reader.windows(enumerate("abc"), most)] == sizes


def test_progress_counts_all_windows_and_what_failed(ranker: Reranker) -> None:
    ranker.engine.limits = replace(ranker.engine.limits, waiting_bytes=0)
    seen: list[tuple[int, int]] = []
    documents: list[Any] = ["a", "", "b", "c", ""]
    ranking = ranker.rank("q", documents, on_error="skip", progress=lambda *at: seen.append(at))
    assert len(ranking) == 3
    assert seen == [(2, 5), (3, 5), (5, 5)]


@pytest.mark.parametrize("most", [1, 2])
def test_less_runs_at_once_where_memory_fails(bench: Bench, most: int) -> None:
    ranker = bench.ranker()
    runner, tokens = ranker.runner, ranker.engine.limits.batch_tokens
    for name in ("look", "prefill", "extend"):
        setattr(runner, name, scarce(getattr(runner, name), most))
    segments = [ranker.encoder.document(item) for item in bench.documents.values()]
    truth = np.array([bench.truth[kind] for kind in KINDS])
    assert np.abs(score(ranker, segments) - truth).max() <= ENGINE
    assert ranker.engine.limits.batch_tokens < tokens


def scarce(run: Callable[..., Any], most: int) -> Callable[..., Any]:
    """Fails as PyTorch does when it is given more than `most` segments."""

    def limited(items: Sequence[Any], *rest: Any) -> Any:
        if len(items) > most:
            raise RuntimeError(NO_MEMORY)
        return run(items, *rest)

    return limited


def test_one_document_too_many_is_an_error_that_says_what_to_do(ranker: Reranker) -> None:
    ranker.runner.prefill = scarce(ranker.runner.prefill, 0)  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError, match=r"single document.*can't allocate.*max_pixels"):
        ranker.rank("q", ["d"])


def test_other_errors_pass() -> None:
    def run(items: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_halves(run, [1, 2], lambda: None)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(RuntimeError(NO_MEMORY))
    assert not is_out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize("room", [MIB // 4, 64 * MIB, 2048 * MIB, 64 * 1024 * MIB])
def test_a_budget_is_shared_out_whole(ranker: Reranker, room: int) -> None:
    fixed = ranker.engine.limits.fixed_bytes
    shared = limits(EngineConfig(memory_bytes=fixed + room), ranker.runner.model, ranker.device)
    parts = shared.batch_tokens * shared.token_bytes + shared.waiting_bytes + shared.cache_bytes
    assert room // 2 < parts <= room
    assert shared.batch_tokens >= 1


def test_what_is_asked_for_is_what_is_had(ranker: Reranker) -> None:
    config = EngineConfig(batch_tokens=77, cache_bytes=3)
    shared = limits(config, ranker.runner.model, ranker.device)
    assert (shared.batch_tokens, shared.cache_bytes) == (77, 3)


def test_only_a_gpu_has_a_host(ranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    model, gpu = ranker.runner.model, torch.device("cuda")
    monkeypatch.setattr(memory, "available_bytes", lambda device: 8 * MIB * MIB)
    assert limits(EngineConfig(host_bytes=5), model, ranker.device).host_bytes == 0
    assert limits(EngineConfig(host_bytes=5), model, gpu).host_bytes == 5
    assert limits(EngineConfig(), model, gpu).host_bytes == 2 * MIB * MIB


def test_a_budget_below_the_model_is_refused(checkpoint: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"memory_bytes is 1,000, .* Allow more"):
        Reranker.from_pretrained(checkpoint, device="cpu", engine=EngineConfig(memory_bytes=1000))


@pytest.mark.parametrize("name", ["memory_bytes", "batch_tokens", "cache_bytes", "host_bytes"])
def test_limits_are_numbers(name: str) -> None:
    for value in (-1, 1.5, "2GiB", True):
        given: dict[str, Any] = {name: value}
        with pytest.raises(OptionError, match=name):
            EngineConfig(**given)


def test_nothing_is_expected_of_nothing_readable(ranker: Reranker) -> None:
    assert ranker.expect([]) is None
    assert ranker.expect([Path("gone.png")]) is None
    few, many = ranker.expect(["a b c"] * 10), ranker.expect(["a b c"] * 10_000)
    assert few is not None and many is not None
    assert many.num_tokens == 1000 * few.num_tokens and many.peak_bytes > few.peak_bytes


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available, without control groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 8388608 kB\n")
    (tmp_path / "own").write_text("")
    monkeypatch.setattr(available, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(available, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(available, "GROUPS", tmp_path / "groups")
    return tmp_path


def free() -> int:
    return available.available_bytes(torch.device("cpu"))


def test_available_is_what_the_machine_says(system: Path) -> None:
    assert free() == 8192 * MIB
    (system / "meminfo").unlink()
    assert free() > 0


def group(folder: Path, files: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def test_a_container_has_what_its_tightest_group_leaves(system: Path) -> None:
    (system / "own").write_text("0::/outer/inner\n")
    group(system / "groups/outer", {"memory.max": 1000, "memory.current": 700})
    group(system / "groups/outer/inner", {"memory.max": "max", "memory.current": 600})
    assert free() == 300
    (system / "groups/outer/memory.stat").write_text("anon 5\ninactive_file 200\n")
    assert free() == 500
    group(system / "groups", {"memory.max": 400, "memory.current": 500})
    assert free() == 0


def test_groups_of_the_first_version_count_too(system: Path) -> None:
    (system / "own").write_text("9:name=systemd:/\n4:cpu,memory:/job\n")
    limit = {"memory.limit_in_bytes": 1000, "memory.usage_in_bytes": 900}
    group(system / "groups/memory", limit)
    assert free() == 100
