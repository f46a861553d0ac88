"""Options that several commands share, and the reranker they describe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightrank.reranker import Reranker

Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A model folder or a hub id such as jinaai/jina-reranker-m0. Default: nano, built in.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="cpu, cuda or mps. Default: the best one present."),
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="float32 or bfloat16. Default: what the checkpoint names."),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pixels of an image at most. Default: 602112, 768 tokens."),
]
MaxLength = Annotated[
    int | None,
    typer.Option(metavar="N", help="Tokens of query and document at most. Default: 10240."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]


def load(
    model: str | None,
    device: str | None,
    dtype: str | None,
    max_pixels: int | None = None,
    max_length: int | None = None,
) -> Reranker:
    """The reranker that these options ask for. Raises OptionError, CheckpointError."""
    from sightrank.config import InputConfig
    from sightrank.reranker import Reranker

    given = {"max_pixels": max_pixels, "max_length": max_length}
    limits = {name: value for name, value in given.items() if value is not None}
    return Reranker.from_pretrained(model, device=device, dtype=dtype, inputs=InputConfig(**limits))


@contextmanager
def progress_bar(label: str, *, rate: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A callback (done, total) that draws a bar on stderr; None where stderr is no terminal.

    `rate` adds how many are done a second.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    speed = [TextColumn("{task.fields[rate]}")] if rate else []
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), *speed, Left())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None, rate="")
        start = time.perf_counter()

        def show(done: int, total: int) -> None:
            each = done / max(time.perf_counter() - start, 1e-9)
            bar.update(task, completed=done, total=total, rate=f"{each:.1f}/s" if done else "")

        yield show
