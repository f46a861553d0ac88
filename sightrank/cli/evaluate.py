"""`sightrank evaluate`: ranking quality on labelled sets, beside the first stage's own order."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli import options

if TYPE_CHECKING:
    from sightrank.evaluate.datasets import Dataset, Run


def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Folders with corpus, queries and qrels.")],
    run: Annotated[
        str | None, typer.Option(help="Candidates: a TREC run, in the folder or a path. Or BM25.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="Where the PDF and image names of the corpus are found.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Candidates a query that are reranked.")] = 100,
    max_queries: Annotated[int | None, typer.Option(help="Only the first N queries.")] = None,
    per_query: Annotated[
        Path | None, typer.Option(help="Write every query's metrics to a JSONL file.")
    ] = None,
    trec_out: Annotated[Path | None, typer.Option(help="Write the reranked run.")] = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_pixels: options.MaxPixels = None,
    max_length: options.MaxLength = None,
    as_json: options.Json = False,
) -> None:
    """Rerank a first stage's candidates and measure nDCG, MRR and recall.

    Examples:

        sightrank evaluate sets/cranfield --run run.bm25.trec

        sightrank evaluate sets/pages-en-en --run run.random.trec --files pdfs/ --json
    """
    from sightrank.evaluate import datasets
    from sightrank.evaluate.run import measure, rerank

    ranker = options.load(model, device, dtype, max_pixels, max_length)
    reports = []
    for folder in folders:
        dataset = datasets.load(folder, files)
        candidates = _candidates(dataset, folder, run, depth, max_queries)
        with options.progress_bar(dataset.name) as progress:
            result = rerank(ranker, dataset, candidates, progress)
        reports.append(result.as_object(ranker.name))
        if per_query:
            _write_per_query(per_query, dataset.name, measure(result.grades, result.run))
        if trec_out:
            datasets.write_run(trec_out, result.run)
    if as_json:
        typer.echo(json.dumps(reports[0] if len(reports) == 1 else reports))
    else:
        _table(reports)


def _candidates(
    dataset: Dataset, folder: Path, run: str | None, depth: int, max_queries: int | None
) -> Run:
    from sightrank.evaluate.datasets import best_first, load_run
    from sightrank.evaluate.first_stage import bm25

    if run is None:
        asked = {key: getattr(q.parts[0], "text", "") for key, q in dataset.queries.items()}
        found = bm25(asked, dataset.texts, depth)
    else:
        found = load_run(folder / run if (folder / run).exists() else Path(run))
    chosen = islice((key for key in found if key in dataset.grades), max_queries)
    return {key: dict(best_first(found[key])[:depth]) for key in chosen}


def _write_per_query(path: Path, dataset: str, values: dict[str, dict[str, float]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for query in next(iter(values.values())):
            row = {"dataset": dataset, "query": query}
            file.write(json.dumps(row | {name: of[query] for name, of in values.items()}) + "\n")


def _table(reports: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for title in ("set", "queries", "depth", "metric", "first stage", "reranked"):
        table.add_column(title, justify="left" if title in ("set", "metric") else "right")
    for report in reports:
        for metric, value in report["metrics"].items():
            head = metric == next(iter(report["metrics"]))
            facts = (report["dataset"], str(report["queries"]), str(report["depth"]))
            table.add_row(
                *(facts if head else ("", "", "")),
                metric,
                f"{report['first_stage'][metric]:.4f}",
                f"{value:.4f}",
            )
    Console().print(table)
