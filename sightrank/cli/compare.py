"""`sightrank compare`: models and other systems side by side on labelled sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sightrank.cli import options
from sightrank.cli.output import print_json, printable
from sightrank.errors import OptionError

if TYPE_CHECKING:
    from sightrank.evaluate.compare import Entrant, Measured
    from sightrank.evaluate.peers import Open
    from sightrank.evaluate.run import Progress, Task

METRICS = ("ndcg@10", "ndcg@5", "mrr@10", "recall@10")
WIDE = 160
"""Columns of a table that goes to a file or another program."""


class ManySets(TyperCommand):
    """Lets --on take all that follows it up to the next option, as `--on sets/*` becomes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat --on before each of its values."""
        spread: list[str] = []
        after_on = False
        for arg in args:
            if arg.startswith("-"):
                after_on = arg == "--on"
                if after_on:
                    continue
            elif after_on:
                spread.append("--on")
            spread.append(arg)
        return super().parse_args(ctx, spread)


@dataclass(frozen=True)
class Request:
    """One comparison as the command line asks for it."""

    models: tuple[str, ...]
    sets: tuple[Path, ...]
    model: options.ModelOptions = options.NANO
    run: str | None = None
    files: Path | None = None
    depths: tuple[int, ...] = (100,)
    max_pixels: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ()
    max_queries: int | None = None
    metric: str = "ndcg@10"
    permutations: int = 10_000
    seed: int = 0
    timeout: float = 60
    html: Path | None = None
    per_query: Path | None = None
    json: bool = False


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Models and peers; all are compared with the first."
        ),
    ],
    on: Annotated[
        list[Path], typer.Option("--on", metavar="DIR...", help="Folders as `evaluate` takes them.")
    ],
    run: options.Run = None,
    files: options.Files = None,
    depths: Annotated[
        str, typer.Option(metavar="N,...", help="Best candidates of a query that are reranked.")
    ] = "100",
    max_pixels: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Pixels of an image at most, for our models."),
    ] = None,
    dtypes: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="float32, bfloat16, for our models.")
    ] = None,
    max_queries: options.MaxQueries = None,
    metric: Annotated[
        str, typer.Option(metavar="NAME", help=f"What is tested: {', '.join(METRICS)}.")
    ] = METRICS[0],
    permutations: Annotated[
        int, typer.Option(metavar="N", min=1, help="Permutations of the randomisation test.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the permutations.", min=0)] = 0,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="How long a service may be silent.")
    ] = 60,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one HTML file.")
    ] = None,
    per_query: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write each query's metrics as JSON lines.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda or mps, for our models.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory that one of our models may take.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare models and other systems on labelled sets: quality, certainty, cost.

    \b
    sightrank compare nano bm25 --on sets/scifact
    sightrank compare nano ./mine first-stage --on sets/* --html report.html
    sightrank compare nano --on sets/scifact --depths 10,20,50,100 --html cost.html
    sightrank compare nano --on pages --run run.trec --max-pixels 150528,602112
    sightrank compare nano cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2 --on sets/scifact
    sightrank compare nano http+jina:http://localhost:8080/v1/rerank#some-model --on sets/scifact

    A MODEL is what --model takes elsewhere, or a peer: bm25, first-stage (the
    candidates' own order), cross-encoder:NAME_OR_FOLDER (texts only),
    http+jina:URL#MODEL (key in JINA_API_KEY) or http+cohere:URL#MODEL (texts
    only, key in CO_API_KEY).

    Each is tested against the first one by a paired randomisation test.
    """
    request = Request(
        tuple(models),
        tuple(on),
        options.ModelOptions(device=device, memory=memory),
        run,
        files,
        tuple(sorted({options.whole_number(each, "--depths") for each in depths.split(",")})),
        _numbers(max_pixels, "--max-pixels"),
        tuple(dtypes.split(",")) if dtypes else (),
        max_queries,
        metric,
        permutations,
        seed,
        timeout,
        html,
        per_query,
        as_json,
    )
    run_comparison(request)


def run_comparison(request: Request) -> None:
    """Compare, print and write. Raises SightrankError, before any model is loaded if it can."""
    from sightrank.evaluate.compare import Judge, measure_all, summary
    from sightrank.evaluate.metrics import require_metrics
    from sightrank.evaluate.report import html
    from sightrank.evaluate.run import prepare

    _check(request)
    require_metrics()
    depth = max(request.depths)
    tasks = [
        prepare(folder, request.run, request.files, depth, request.max_queries)
        for folder in request.sets
    ]
    _check_peers(request, tasks)
    measured: list[Measured] = []
    for each in measure_all(_entrants(request), tasks, request.depths, _watch):
        measured.append(each)
        if request.per_query is not None:
            _write_queries(request.per_query, measured)
    test = Judge(request.metric, request.permutations, request.seed)
    report = summary(measured, test)
    if request.html is not None:
        request.html.write_text(html(report), encoding="utf-8")
    if request.json:
        print_json(report)
    else:
        _print(report)


def _check(request: Request) -> None:
    if request.metric not in METRICS:
        raise OptionError(f"The metric is {request.metric!r}.", f"Allowed: {', '.join(METRICS)}.")
    repeated = {name for name in request.models if request.models.count(name) > 1}
    if repeated:
        raise OptionError(f"{min(repeated)} is named twice.", "Name each model once.")
    sets = [path.resolve() for path in request.sets]
    if len(set(sets)) < len(sets):
        raise OptionError("A set is named twice.", "Name each folder once.")
    for path in (request.html, request.per_query):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise OptionError(f"{path} cannot be written.", "Name a file in a folder that exists.")


def _check_peers(request: Request, tasks: Sequence[Task]) -> None:
    from sightrank.evaluate.peers import check, is_peer
    from sightrank.weights import locate

    for name in request.models:
        if is_peer(name):
            for task in tasks:
                check(name, task)
        else:
            locate(name)  # a folder that is not there is named now; a hub's page is fetched


def _entrants(request: Request) -> list[Entrant]:
    """Our models once for each pixel budget and dtype, the others once."""
    from sightrank.evaluate.compare import Entrant
    from sightrank.evaluate.peers import is_peer, open_peer

    entrants: list[Entrant] = []
    for name in request.models:
        if is_peer(name):
            entrants.append(Entrant(name, {}, partial(open_peer, name, request.timeout)))
            continue
        for pixels in request.max_pixels or (None,):
            for dtype in request.dtypes or (None,):
                chosen = replace(request.model, model=name, max_pixels=pixels, dtype=dtype)
                given = {"max_pixels": pixels, "dtype": dtype}
                settings = {key: value for key, value in given.items() if value is not None}
                label = ", ".join([name, *(f"{key} {value}" for key, value in settings.items())])
                entrants.append(Entrant(label, settings, partial(_ours, chosen)))
    return entrants


def _ours(chosen: options.ModelOptions) -> Open:
    ranker = chosen.load()
    ranker.score([("warm", "up")])  # what a first call sets up is no cost of the first set

    def open_for(_: Task) -> Any:
        ranker.forget()
        return ranker

    return open_for


@contextmanager
def _watch(label: str) -> Iterator[Progress | None]:
    with options.progress_bar(label) as progress:
        yield progress


def _numbers(given: str | None, name: str) -> tuple[int, ...]:
    numbers = given.split(",") if given else []
    return tuple(dict.fromkeys(options.whole_number(each, name) for each in numbers))


def _write_queries(path: Path, measured: Sequence[Measured]) -> None:
    lines = (
        json.dumps({"depth": each.depth, **row, "model": each.entrant.label}, ensure_ascii=False)
        for each in measured
        for row in each.result.rows()
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _print(report: dict[str, Any]) -> None:
    """A line for each system on each set, at the largest depth; all depths with --json or --html."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sightrank.evaluate.compare import deepest, means
    from sightrank.evaluate.report import cells

    metric = report["metric"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("set / system", overflow="fold")
    for title in (metric, "difference", "p", "won/lost/tied", "ms/query", "ms/document"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in report["sets"]:
        runs = deepest(each)
        first = f"{runs[0]['first_stage'][metric]:.4f}"
        size = f"{each['dataset']}: {each['queries']} queries, depth {runs[0]['depth']}"
        table.add_row(Text(printable(size), style="dim"), Text(f"was {first}", style="dim"))
        for run in runs:
            table.add_row(
                Text(f"  {printable(run['model'])}"), f"{run['metrics'][metric]:.4f}", *cells(run)
            )
    if len(report["sets"]) > 1:
        table.add_row(Text("mean over the sets", style="dim"))
        for row in means(report):
            table.add_row(Text(f"  {printable(row['model'])}"), f"{row['metrics'][metric]:.4f}")
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDE)
    console.print(table)
    test = report["test"]
    console.print(
        f"{test['name']}, at most {test['permutations']:,} permutations, seed {test['seed']};"
        f" against {printable(report['baseline'])}",
        style="dim",
        highlight=False,
        markup=False,
    )
