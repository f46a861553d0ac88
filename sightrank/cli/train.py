"""`sightrank train`: fine-tune a reranker on labelled groups."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli import options
from sightrank.cli.output import print_json, readable_bytes
from sightrank.errors import OptionError

NEEDED = ("accelerate", "ir_measures", "matplotlib", "peft", "tensorboard")

if TYPE_CHECKING:
    from sightrank.train.loop import Finished
    from sightrank.train.settings import Settings


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the data, say what it would take, and stop.")
    ] = False,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --dry-run: a card, such as h100.")
    ] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="With --dry-run: memory, such as 24GB.")
    ] = None,
    tflops: Annotated[
        float | None,
        typer.Option(metavar="N", min=1e-6, help="With --dry-run: 10^12 operations a second."),
    ] = None,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="With --dry-run: how many share the work.")
    ] = 1,
    as_json: options.Json = False,
) -> None:
    """Fine-tune a reranker on groups of a query, its positives and its negatives.

    \b
    sightrank train finetune.toml
    sightrank train finetune.toml --dry-run --gpu-memory 24GB --tflops 50
    sightrank train finetune.toml --dry-run --gpu h100 --json
    torchrun --nproc-per-node 4 -m sightrank train finetune.toml

    docs/training.md has the format of the data and every key. All lines are
    checked before the first step. A run that was killed goes on from its last
    state when the same command is given again.
    """
    from sightrank.extras import require
    from sightrank.train.settings import Settings

    settings = Settings.from_file(config)
    require("train", "Training runs", *NEEDED)
    if dry_run:
        _dry_run(settings, Asked(gpu, gpu_memory, tflops, processes), as_json)
        return
    if gpu or gpu_memory or tflops or processes > 1:
        raise OptionError(
            "--gpu, --gpu-memory, --tflops and --processes belong to --dry-run.", "Add it."
        )
    _train(settings, as_json)


@dataclass(frozen=True)
class Asked:
    """What a dry run is to be judged for."""

    gpu: str | None = None
    gpu_memory: str | None = None
    tflops: float | None = None
    processes: int = 1


def _dry_run(settings: Settings, asked: Asked, as_json: bool) -> None:
    from sightrank.train.dry_run import dry_run, machine_of

    size = None if asked.gpu_memory is None else options.parse_bytes(asked.gpu_memory)
    report = dry_run(settings, machine_of(asked.gpu, size, asked.tflops, asked.processes))
    if as_json:
        print_json(report)
    else:
        print("\n".join(_lines(report)))


def _lines(report: dict[str, Any]) -> list[str]:
    """A dry run as people read it."""
    weights, step, time = report["parameters"], report["step"], report["time"]
    lines = [
        f"data         {report['groups']:,} groups of {report['documents']:,} documents",
        f"weights      {weights['total']:,}: {weights['trained']:,} learn,"
        f" {weights['frozen']:,} are frozen",
        f"a step       {step['tokens']:,} tokens, {step['patches']:,} image patches,"
        f" {step['pairs']:,} pairs, {step['flops']:.3g} operations",
    ]
    for name, label in (("as_it_is", "memory"), ("checkpointing", "checkpointed")):
        each = report["memory"][name]
        parts = ", ".join(
            f"{part} {readable_bytes(each[part])}"
            for part in ("weights", "gradients", "optimizer", "activations", "workspace")
        )
        lines.append(f"{label:12} {readable_bytes(each['total'])}: {parts}")
        if each["fits"] is not None:
            room = readable_bytes(report["memory"]["given"])
            fits = "fits" if each["fits"] else "does not fit"
            most = f"train.groups may be {each['most_groups']}" if each["most_groups"] else "never"
            lines.append(f"{'':12} {fits} into {room}; {most}")
    if time["seconds"] is not None:
        hours = time["seconds"] / 3600
        lines.append(f"time         {time['steps']:,} steps, {hours:.2f} hours")
    return lines


def _train(settings: Settings, as_json: bool) -> None:
    from sightrank.train.loop import train as run

    main = int(os.environ.get("RANK", "0")) == 0

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with options.progress_bar("steps", rate=True) as progress:
        finished = run(settings, say, progress if main else None)
    if main:
        _print(finished, as_json)


def _print(finished: Finished, as_json: bool) -> None:
    if as_json:
        print_json({**vars(finished), "folder": str(finished.folder)})
        return
    loss = "" if finished.loss is None else f", loss {finished.loss:.4f}"
    ndcg = "" if finished.ndcg is None else f", nDCG@10 {finished.ndcg:.4f}"
    print(f"{finished.folder}: {finished.steps} steps{loss}{ndcg}")
