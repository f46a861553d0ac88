"""The arithmetic of a step beside what PyTorch counts and allocates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sightrank.inputs.segments import Encoder
from sightrank.train.batches import Batch, assemble
from sightrank.train.estimate import Load, flops, memory, parameters, trained
from sightrank.train.packed import PairScorer
from sightrank.train.settings import Settings
from sightrank.train.stages import Stage, prepare
from sightrank.types import Document, Query
from tests.train.conftest import DOCUMENTS, make_groups
from tests.train.runs import settings

FACTOR = 1.4
"""Most that a measured peak may be off the estimate, either way."""
KINDS: list[dict[str, dict[str, Any]]] = [
    {},
    {"lora": {"dropout": 0.0, "targets": ["q_proj", "v_proj"]}},
    {"model": {"language": "full"}, "train": {"checkpointing": True}},
    {"model": {"language": "full"}},
    {"model": {"language": "frozen"}, "train": {"head": True}},
]


def load_of(batch: Batch) -> Load:
    trees = tuple((tree.prefix, sum(tree.suffixes), len(tree.suffixes)) for tree in batch.trees)
    return Load(trees, tuple(rows * columns for rows, columns in batch.grids))


def batch_of(encoder: Encoder, *, pictures: bool) -> Batch:
    texts = {str(n): Document.text(f"{n} the lion sleeps at noon. " * 9) for n in range(12)}
    queries = {"a": Query.text("what was it?"), "b": Query.text("who sleeps at noon then?")}
    return assemble(make_groups(queries, {**texts, **DOCUMENTS} if pictures else texts), encoder)


def step(config: Settings, batch: Batch) -> Any:
    prepared = prepare(config, Stage("main", 0, config.train.steps), None)
    scorer = PairScorer(prepared.model).train()
    learning = [each for each in scorer.parameters() if each.requires_grad]
    return scorer, torch.optim.AdamW(learning), lambda: scorer(batch).sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model(
    tmp_path: Path, checkpoint: Path, kind: dict[str, Any]
) -> None:
    config = settings(tmp_path, checkpoint, **kind)
    prepared = prepare(config, Stage("main", 0, 1), None)
    shape = prepared.checkpoint.config
    sizes = [(each.numel(), each.requires_grad) for each in prepared.model.parameters()]
    assert parameters(shape, config).total == sum(size for size, _ in sizes)
    assert trained(shape, config) == sum(size for size, learns in sizes if learns)


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_those_that_pytorch_counts(
    tmp_path: Path, checkpoint: Path, encoder: Encoder, kind: dict[str, Any]
) -> None:
    config = settings(tmp_path, checkpoint, **kind)
    batch = batch_of(encoder, pictures=True)
    scorer, _, run = step(config, batch)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    expected = flops(
        scorer.model.config, config, load_of(batch), checkpointing=config.train.checkpointing
    )
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_what_a_step_allocates(
    tmp_path: Path, checkpoint: Path, encoder: Encoder, kind: dict[str, Any]
) -> None:
    config = settings(tmp_path, checkpoint, **kind)
    batch = batch_of(encoder, pictures=False)
    scorer, optimizer, run = step(config, batch)
    run()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    running = peak = 0
    for event in sorted(
        (each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"),
        key=lambda each: each.start_ns(),
    ):
        running += event.nbytes()
        peak = max(peak, running)
    found = memory(
        scorer.model.config, config, load_of(batch), checkpointing=config.train.checkpointing
    )
    grown = found.gradients + found.activations + found.workspace
    assert 1 / FACTOR < grown / peak < FACTOR
    held = sum(each.nbytes for each in scorer.parameters())
    moments = sum(
        value.nbytes for each in optimizer.state.values() for value in each.values() if value.ndim
    )
    assert (found.weights, found.optimizer) == (held, moments)
