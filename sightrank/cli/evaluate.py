"""`sightrank evaluate`: ranking quality on labelled sets, beside the first stage's own order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightrank.cli import options
from sightrank.cli.output import print_json, printable
from sightrank.cli.suite import SuiteRequest, run_suite_command
from sightrank.errors import OptionError

if TYPE_CHECKING:
    from sightrank.evaluate.run import Result, Scorer


@dataclass(frozen=True)
class Request:
    """One evaluation as the command line asks for it."""

    folders: tuple[Path, ...]
    run: str | None = None
    files: Path | None = None
    depth: int = 100
    max_queries: int | None = None
    per_query: Path | None = None
    trec_out: Path | None = None
    json: bool = False


@options.model_options
def evaluate(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIR...", help="Folders with corpus.jsonl, queries.jsonl, qrels."),
    ] = None,
    run: options.Run = None,
    files: options.Files = None,
    depth: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Best candidates of a query that are reranked. Default: 100, or the suite's.",
        ),
    ] = None,
    max_queries: options.MaxQueries = None,
    per_query: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write each query's metrics, of a suite each task's, as JSON lines.",
        ),
    ] = None,
    trec_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the reranked run of one DIR.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A public suite, such as beir, in place of DIR."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where a suite's repositories were fetched to."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Of a suite only these tasks.")
    ] = None,
    subsets: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of a suite only these, such as languages."),
    ] = None,
    show: Annotated[
        str, typer.Option(metavar="WHAT", help="Of a suite's documents: image, text or both.")
    ] = "image",
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
) -> None:
    """Measure how well labelled sets are reranked: nDCG, MRR and recall.

    \b
    sightrank evaluate sets/scifact
    sightrank evaluate sets/cranfield --run run.bm25.trec --depth 50
    sightrank evaluate sets/pages-en-en --run run.random.trec --files pdf/ --json
    sightrank evaluate sets/* --per-query queries.jsonl
    sightrank evaluate --suite beir --tasks SciFact,NFCorpus
    sightrank evaluate --suite vidore-v1 --data fetched/ --run runs/

    A set is a folder in BEIR's layout, or with qrels.tsv without titles in
    place of qrels/test.tsv. Documents are {"_id", "text"}, {"_id", "image"}
    or {"_id", "pdf", "page"}. Without --run, BM25 finds candidates among texts.

    Equal scores keep the first stage's order; a query without candidates counts
    as 0; the metrics see only the candidates that were reranked.

    The sets pages-* rank pages of the Debian Reference, which has to be fetched:

    \b
    apt-get download debian-reference-en
    dpkg-deb -x debian-reference-en_*.deb unpacked
    sightrank evaluate sets/pages-en-en --run run.random.trec \\
      --files unpacked/usr/share/debian-reference
    """
    if suite is not None:
        if folders or files or max_queries or trec_out:
            raise OptionError(
                "--suite goes with neither DIR, --files, --max-queries nor --trec-out.",
                "Evaluate one or the other.",
            )
        asked = SuiteRequest(
            suite, data, Path(run) if run else None, _names(tasks), _names(subsets), depth, show,
            per_query, as_json,
        )  # fmt: skip
        run_suite_command(asked, model.load)
        return
    if not folders:
        raise OptionError("There is nothing to evaluate.", "Give a folder, or --suite NAME.")
    if data or tasks or subsets:
        raise OptionError("--data, --tasks and --subsets belong to --suite.", "Add --suite NAME.")
    request = Request(
        tuple(folders), run, files, depth or 100, max_queries, per_query, trec_out, as_json
    )
    run_evaluation(request, model.load)


def _names(given: str | None) -> tuple[str, ...] | None:
    return tuple(given.split(",")) if given else None


def run_evaluation(request: Request, load: Callable[[], Scorer]) -> None:
    """Evaluate and print. Raises SightrankError.

    All sets are read before `load` is called, so that a bad line is not found after hours.
    """
    from sightrank.evaluate.metrics import require_metrics
    from sightrank.evaluate.run import prepare, rerank

    require_metrics()
    _check_outputs(request)
    tasks = [
        prepare(folder, request.run, request.files, request.depth, request.max_queries)
        for folder in request.folders
    ]
    scorer = load()
    results: list[Result] = []
    for task in tasks:
        options.announce(scorer, task.documents)
        with options.progress_bar(task.dataset.name) as progress:
            results.append(rerank(scorer, task, progress))
        _write_files(request, results)
    if request.json:
        objects = [result.to_dict() for result in results]
        print_json(objects[0] if len(objects) == 1 else objects)
    else:
        _print_table(results)


def _check_outputs(request: Request) -> None:
    for path in (request.per_query, request.trec_out):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise OptionError(f"{path} cannot be written.", "Name a file in a folder that exists.")
    if request.trec_out is not None and len(request.folders) > 1:
        raise OptionError(
            f"--trec-out is one file, and there are {len(request.folders)} sets.",
            "Query ids of several sets can be equal: evaluate one set at a time.",
        )


def _write_files(request: Request, results: Sequence[Result]) -> None:
    """Write what is known so far, so that an interrupted evaluation leaves what it has done."""
    from sightrank.evaluate.trec import write_run

    if request.per_query is not None:
        rows = (row for result in results for row in result.rows())
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        request.per_query.write_text(lines, encoding="utf-8")
    if request.trec_out is not None:
        write_run(request.trec_out, results[-1].run)


def _print_table(results: Sequence[Result]) -> None:
    """Two rows a set; under its name queries x candidates at most, and seconds in the model."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sightrank.evaluate.metrics import METRICS

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("set")
    table.add_column("order by")
    for name in METRICS:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        report = result.to_dict()
        size = f"{report['queries']} x {report['depth']}, {result.seconds:.0f} s"
        before, after = (
            [f"{report[kind][name]:.4f}" for name in METRICS] for kind in ("first_stage", "metrics")
        )
        table.add_row(Text(printable(report["dataset"])), "first stage", *before)
        model = Text(printable(Path(result.model).name), style="bold")
        table.add_row(Text(size, style="dim"), model, *after)
    Console().print(table)
