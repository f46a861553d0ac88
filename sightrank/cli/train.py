"""`sightrank train`: fine-tune a reranker on labelled groups."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightrank.cli import options
from sightrank.cli.output import print_json

if TYPE_CHECKING:
    from sightrank.train.loop import Finished
    from sightrank.train.settings import Settings


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")],
    as_json: options.Json = False,
) -> None:
    """Fine-tune a reranker on groups of a query, its positives and its negatives.

    \b
    sightrank train finetune.toml
    torchrun --nproc-per-node 4 -m sightrank train finetune.toml

    docs/training.md has the format of the data and every key. All lines are
    checked before the first step. A run that was killed goes on from its last
    state when the same command is given again.
    """
    from sightrank.train.packages import require
    from sightrank.train.settings import Settings

    settings = Settings.from_file(config)
    require()
    _train(settings, as_json)


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
