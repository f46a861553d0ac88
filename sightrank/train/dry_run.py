"""What a training would take, from its configuration, its data and the start's `config.json` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sightrank.config import ModelConfig
from sightrank.errors import OptionError
from sightrank.inputs.segments import Encoder
from sightrank.train.batches import Batch
from sightrank.train.data import check
from sightrank.train.estimate import Load, flops, memory, parameters, trained
from sightrank.train.feed import Feed
from sightrank.train.needs import needs
from sightrank.train.settings import Settings
from sightrank.weights import M0, NANO, locate

SAMPLED = 8
"""Batches that are read to judge the others by."""
QWEN = "Qwen/Qwen2-VL-2B-Instruct"
GB = 10**9


@dataclass(frozen=True)
class Card:
    """A GPU: memory, and operations a second at most in bfloat16 without sparsity."""

    memory_bytes: int
    flops: float


def cards() -> dict[str, Card]:
    """By name; figures of the makers' data sheets, dense bfloat16."""
    return {
        "l4": Card(24 * GB, 121e12),
        "a10": Card(24 * GB, 125e12),
        "rtx3090": Card(24 * GB, 71e12),
        "rtx4090": Card(24 * GB, 165e12),
        "l40s": Card(48 * GB, 362e12),
        "a100-40gb": Card(40 * GB, 312e12),
        "a100-80gb": Card(80 * GB, 312e12),
        "h100": Card(80 * GB, 989e12),
        "h200": Card(141 * GB, 989e12),
    }


USED = 0.4
"""Share of a card's figure that training is taken to reach."""


@dataclass(frozen=True)
class Machine:
    """What it would run on; None where nothing was said."""

    memory_bytes: int | None = None
    flops: float | None = None
    """A second, reached and not promised, of all processes together."""
    processes: int = 1


def dry_run(settings: Settings, machine: Machine) -> dict[str, Any]:
    """Check the data and report sizes, memory and time as JSON. Raises SightrankError."""
    checked = check([Path(name) for name in settings.data.train], needs(settings))
    if settings.data.valid:
        check([Path(name) for name in settings.data.valid], needs(None))
    config, encoder, counted_with = _shape(settings)
    loads = [_load(batch) for batch in _batches(settings, encoder)]
    largest = max(loads, key=lambda load: load.tokens + sum(load.images))
    batches = settings.train.accumulate
    found, learning = parameters(config, settings), trained(config, settings)
    work = [
        flops(config, settings, load, checkpointing=settings.train.checkpointing) for load in loads
    ]
    step = sum(work) / len(work) * batches
    steps = settings.train.steps or settings.head.steps
    return {
        "start": settings.model.start,
        "groups": checked.num_groups,
        "documents": checked.num_documents,
        "parameters": {
            **vars(found), "total": found.total, "trained": learning,
            "frozen": found.total - learning,
        },
        "step": {
            "tokens": round(sum(load.tokens for load in loads) / len(loads) * batches),
            "patches": round(sum(sum(load.images) for load in loads) / len(loads) * batches),
            "pairs": round(sum(load.pairs for load in loads) / len(loads) * batches),
            "flops": round(step),
            "batches_sampled": len(loads),
            "tokenizer": counted_with,
        },
        "memory": _memory(config, settings, largest, machine),
        "time": {
            "steps": steps,
            "flops_a_second": machine.flops,
            "seconds": None if machine.flops is None else round(step * steps / machine.flops, 1),
        },
    }  # fmt: skip


def _memory(
    config: ModelConfig, settings: Settings, largest: Load, machine: Machine
) -> dict[str, Any]:
    """Bytes at the largest batch met, both ways, and whether they fit."""
    shards = machine.processes if settings.train.fsdp else 1
    report: dict[str, Any] = {"given": machine.memory_bytes}
    for name, checkpointing in (("as_it_is", False), ("checkpointing", True)):
        found = memory(config, settings, largest, checkpointing=checkpointing, shards=shards)
        fits = None if machine.memory_bytes is None else found.total <= machine.memory_bytes
        report[name] = {
            **vars(found),
            "total": found.total,
            "fits": fits,
            "chosen": checkpointing == settings.train.checkpointing,
            "most_groups": _most_groups(config, settings, largest, machine, checkpointing, shards),
        }
    return report


def _most_groups(
    config: ModelConfig,
    settings: Settings,
    largest: Load,
    machine: Machine,
    checkpointing: bool,
    shards: int,
) -> int | None:
    """The largest `train.groups` that would fit; 0 if not even one does."""
    if machine.memory_bytes is None:
        return None
    fixed = memory(config, settings, Load(()), checkpointing=checkpointing, shards=shards).total
    whole = memory(config, settings, largest, checkpointing=checkpointing, shards=shards).total
    each = max((whole - fixed) / settings.train.groups, 1)
    return max(0, int((machine.memory_bytes - fixed) / each))


def _shape(settings: Settings) -> tuple[ModelConfig, Encoder, str]:
    """The start's shape and an encoder; weights are neither needed nor fetched."""
    name = settings.model.start
    if name in (M0, QWEN):
        config, folder = ModelConfig(), None
    else:
        folder = locate(name, ("config.json", "tokenizer.json"))
        config = ModelConfig.from_file(folder / "config.json")
    if folder is not None and (folder / "tokenizer.json").exists():
        return config, Encoder.from_folder(folder, config, settings.inputs()), name
    # Nano's tokenizer is Qwen2's with fewer merges: it gives a few tokens more, never fewer.
    nano = ModelConfig.from_file(NANO / "config.json")
    return config, Encoder.from_folder(NANO, nano, settings.inputs()), "nano"


def _batches(settings: Settings, encoder: Encoder) -> Iterator[Batch]:
    return islice(iter(Feed(settings, encoder, 0, 1)), SAMPLED)


def _load(batch: Batch) -> Load:
    trees = tuple((tree.prefix, sum(tree.suffixes), len(tree.suffixes)) for tree in batch.trees)
    return Load(trees, tuple(rows * columns for rows, columns in batch.grids))


def machine_of(
    gpu: str | None, memory_bytes: int | None, tflops: float | None, processes: int
) -> Machine:
    """Of a named card and what overrules it. Raises OptionError."""
    known = cards()
    if gpu is not None and gpu.lower() not in known:
        raise OptionError(f"The card is {gpu!r}.", f"Known: {', '.join(known)}; or --gpu-memory.")
    card = None if gpu is None else known[gpu.lower()]
    if memory_bytes is None and card is not None:
        memory_bytes = card.memory_bytes
    speed = None if tflops is None else tflops * 1e12
    if speed is None and card is not None:
        speed = USED * card.flops
    return Machine(memory_bytes, None if speed is None else speed * processes, processes)
