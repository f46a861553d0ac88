"""Options that several commands share, and the reranker they describe."""

from __future__ import annotations

import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli.output import readable_bytes
from sightrank.errors import OptionError
from sightrank.types import Document, Image, Query

if TYPE_CHECKING:
    from sightrank.inputs.files import FileLimits
    from sightrank.reranker import Reranker

MANY = 50
"""Documents from which on work counts as long."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Documents = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DOCUMENT",
        help="As for rank: files, folders, globs, PDF pages; - for passages on standard input.",
    ),
]
Whole = Annotated[
    bool, typer.Option("--whole", help="A PDF is one document, not one document a page.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with status 1 if any document was left out.")
]
Run = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Candidates: a TREC run, by its name in DIR or its path. Default: BM25.",
    ),
]
Files = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the corpus's PDFs and images are. Default: DIR."),
]
MaxQueries = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Only the first N graded queries.")
]


@dataclass(frozen=True)
class ModelOptions:
    """Which model, on what, and within what limits; `load` makes it."""

    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A model folder or a hub id such as jinaai/jina-reranker-m0."
            " Default: nano, built in.",
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cpu, cuda or mps. Default: the best one present."),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="float32, bfloat16, or on a CPU int8. Default: what the checkpoint names.",
        ),
    ] = None
    max_pixels: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pixels of an image at most. Default: 602112, 768 tokens."),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens of query and document at most. Default: 10240."),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that all of it may take, such as 2GiB. Default: half of what is free.",
        ),
    ] = None

    def load(self, files: FileLimits | None = None, models: int = 1) -> Reranker:
        """`files`: what is read at most; `models`: how many share the memory.

        Raises OptionError, CheckpointError, OutOfMemoryError.
        """
        from sightrank.config import EngineConfig, InputConfig
        from sightrank.reranker import Reranker

        given = {"max_pixels": self.max_pixels, "max_length": self.max_length}
        limits = {name: value for name, value in given.items() if value is not None}
        engine = EngineConfig(
            memory_bytes=None if self.memory is None else parse_bytes(self.memory), models=models
        )
        return Reranker.from_pretrained(
            self.model,
            device=self.device,
            dtype=self.dtype,
            inputs=InputConfig(**limits),
            engine=engine,
            limits=files,
        )


NANO = ModelOptions()


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options of `ModelOptions` where it has a parameter of that type."""
    chosen = inspect.signature(ModelOptions, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)
    (place,) = (name for name, each in own.parameters.items() if each.annotation is ModelOptions)

    @wraps(command)
    def run(**given: Any) -> None:
        given[place] = ModelOptions(**{name: given.pop(name) for name in chosen})
        command(**given)

    parameters = [
        each
        for name, parameter in own.parameters.items()
        for each in (chosen.values() if name == place else [parameter])
    ]
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = own.replace(parameters=keywords)  # type: ignore[attr-defined]
    return run


def sides(
    query: str | None, documents: Sequence[str], query_image: Path | None
) -> tuple[Query, list[str]]:
    """The query, and the arguments that are documents."""
    if query_image is not None:
        first = [] if query is None else [query]
        return Query((Image(query_image),), str(query_image)), [*first, *documents]
    if query is None:
        raise typer.BadParameter("Give a QUERY or --query-image.", param_hint="QUERY")
    return Query.text(query), list(documents)


def parse_bytes(size: str) -> int:
    """2GiB, 512 MB or 1000000 as a number of bytes. Raises OptionError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(?:([kmgt]?)(i?)b)?", size.strip(), re.IGNORECASE)
    if not match:
        raise OptionError(f"The size is {size!r}.", "Write 2GiB, 512MB or a number of bytes.")
    power = " kmgt".index((match[2] or " ").lower())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def whole_number(given: str, name: str) -> int:
    """`given` as a number from 1. Raises OptionError naming the option."""
    if not given.strip().isascii() or not given.strip().isdigit() or int(given) < 1:
        raise OptionError(f"{name} has {given!r}.", "Write whole numbers from 1, as in 10,20,50.")
    return int(given)


def announce(ranker: object, documents: Sequence[Document]) -> None:
    """Before long work, where somebody watches: say what it is and what memory it will take."""
    if len(documents) < MANY or not sys.stderr.isatty():
        return
    from sightrank.reranker import Reranker

    expected = ranker.expect(documents) if isinstance(ranker, Reranker) else None
    if expected is not None:
        print(
            f"{len(documents):,} documents, about {expected.num_tokens:,} tokens:"
            f" up to {readable_bytes(expected.peak_bytes)} of memory.",
            file=sys.stderr,
        )


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
