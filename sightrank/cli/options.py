"""Options that several commands share, and the reranker they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sightrank.reranker import Reranker

Model = Annotated[
    str | None,
    typer.Option(help="A model folder or hub id, e.g. jinaai/jina-reranker-m0; default: nano."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; default: the best present.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or bfloat16; default: the model's own.")]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="Most pixels of an image; 784 make one visual token. Default: 602112."),
]
MaxLength = Annotated[
    int | None, typer.Option(help="Most tokens of a prompt, up to 32768. Default: 10240.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout instead of a table.")]


def load(
    model: str | None,
    device: str | None,
    dtype: str | None,
    max_pixels: int | None = None,
    max_length: int | None = None,
) -> Reranker:
    """The reranker that these options ask for."""
    from sightrank.config import InputConfig
    from sightrank.reranker import Reranker

    given = {"max_pixels": max_pixels, "max_length": max_length}
    limits = {name: value for name, value in given.items() if value is not None}
    return Reranker.from_pretrained(model, device=device, dtype=dtype, inputs=InputConfig(**limits))


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr, or nothing where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
