"""`sightrank index`: run documents once and keep them on disk, and look after what is kept."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from sightrank.cli import index_folder, options
from sightrank.cli.documents import (
    PASSAGES,
    STANDARD_INPUT,
    Expanded,
    PageCount,
    counted_pages,
    expand,
    standard_input,
)
from sightrank.cli.output import (
    named,
    nothing,
    print_error,
    print_json,
    readable_bytes,
    warnings_shown,
)
from sightrank.types import Document

if TYPE_CHECKING:
    from sightrank.engine.index import Index
    from sightrank.engine.indexing import Report
    from sightrank.reranker import Reranker

MILLION = 1_000_000


@dataclass(frozen=True)
class Request:
    """One indexing as the command line asks for it."""

    documents: tuple[str, ...]
    to: Path
    precision: str | None = None
    whole: bool = False
    strict: bool = False
    json: bool = False


@options.model_options
def index(
    documents: options.Documents = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The index; made if it is not there.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="exact: the same scores. int8: half of bfloat16's space, scores a little off."
            " features: a tenth of a page's space with large models; ranking runs the decoder"
            " again."
            " Default: what the index has, exact for a new one.",
        ),
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", metavar="FOLDER", help="Print what an index holds.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Read all of an index and remove what is damaged; status 1 if anything is.",
        ),
    ] = None,
    prune: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Remove documents whose files are gone, and what nothing refers to;"
            " with --model also what other models or settings made.",
        ),
    ] = None,
    whole: options.Whole = False,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
    strict: options.Strict = False,
) -> None:
    """Run documents once and keep them on disk, to be ranked for any query without their files.

    \b
    sightrank index report.pdf photos/ notes/*.txt --to pages.index
    sightrank rank "total revenue 2023" --index pages.index
    sightrank index scans/ --to small.index --precision features
    sightrank index --list pages.index
    sightrank index --verify pages.index
    sightrank index --prune pages.index

    Run again, it computes only what is new or has changed; stopped, it goes on where it was.
    """
    if sum(place is not None for place in (to, listed, verify, prune)) != 1:
        raise typer.BadParameter("Give one of --to, --list, --verify and --prune.")
    if to is None and documents:
        raise typer.BadParameter("Documents go with --to.", param_hint="DOCUMENT...")
    with warnings_shown():
        if listed is not None:
            status = index_folder.show(listed, as_json)
        elif verify is not None:
            status = index_folder.verify(verify, as_json)
        elif prune is not None:
            status = index_folder.prune(
                prune, model.load if model.model is not None else None, as_json
            )
        else:
            assert to is not None
            arguments = tuple(documents or standard_input(PASSAGES))
            request = Request(arguments, to, precision, whole, strict, as_json)
            status = run(request, model.load, sys.stdin.buffer, counted_pages)
    raise typer.Exit(status)


def run(
    request: Request, load: Callable[[], Reranker], stdin: BinaryIO, page_count: PageCount
) -> int:
    """Index and print; returns the exit status. Raises SightrankError where nothing can be done.

    `load` is called once there is something to index.
    """
    from sightrank.engine.index import Index

    found = expand(request.documents, whole=request.whole, stdin=stdin, page_count=page_count)
    for failure in found.failures:
        print_error(failure, "left out")
    if not found.documents:
        raise nothing(len(found.failures))
    documents = [_unnumbered(document) for document in found.documents]
    ranker = load()
    opened = Index.create(request.to, request.precision)
    options.announce(ranker, documents)
    _announce(ranker, opened, documents)
    start = time.perf_counter()
    with options.progress_bar("indexing", rate=True) as progress:
        report = ranker.index(documents, request.to, on_error="skip", progress=progress)
    return _show(request, ranker, opened, report, found, time.perf_counter() - start)


def _unnumbered(document: Document) -> Document:
    """A line of standard input is known by what it says: the next input has a line 1 as well."""
    is_line = (document.name or "").startswith(f"{STANDARD_INPUT}:")
    return Document(document.parts) if is_line else document


def _announce(ranker: Reranker, opened: Index, documents: Sequence[Document]) -> None:
    """Say on stderr what room this will take and what there is."""
    expected = ranker.estimate(documents, opened.precision)
    if expected is None:
        return
    free = shutil.disk_usage(opened.path).free
    print(
        f"{len(documents):,} documents at precision {opened.precision}: about"
        f" {readable_bytes(expected)}, of which some may be there already;"
        f" {readable_bytes(free)} are free.",
        file=sys.stderr,
    )


def _show(
    request: Request,
    ranker: Reranker,
    opened: Index,
    report: Report,
    found: Expanded,
    seconds: float,
) -> int:
    for place, error in report.failures:
        print_error(named(error, found.documents[place]), "left out")
    left_out = len(found.failures) + len(report.failures)
    if not report.computed + report.found:
        raise nothing(left_out)
    facts = {
        "index": str(request.to),
        "model": ranker.name,
        "precision": opened.precision,
        "computed": report.computed,
        "found": report.found,
        "left_out": left_out,
        "seconds": round(seconds, 3),
        "bytes": costs(opened, ranker.engine.settings),
    }
    if request.json:
        print_json(facts)
    else:
        typer.echo("\n".join(lines(facts)))
    return 1 if request.strict and left_out else 0


def costs(opened: Index, settings: str) -> dict[str, Any]:
    """Count, mean bytes, and bytes of a million, of pages (what has a picture) and of texts."""
    sizes: dict[str, list[int]] = {"page": [], "text": []}
    for held in opened.documents():
        if held.settings == settings:
            kinds = {part["kind"] for part in held.record.parts}
            sizes["page" if kinds & {"image", "pdf"} else "text"].append(held.num_bytes)
    return {
        kind: {
            "count": len(each),
            "mean": round(sum(each) / len(each)),
            "million": round(sum(each) / len(each) * MILLION),
        }
        for kind, each in sizes.items()
        if each
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts as people read them."""
    computed, seconds = facts["computed"], facts["seconds"]
    rate = f" in {seconds:.1f} s, {seconds / computed:.3f} s each" if computed else ""
    rows = [
        f"{facts['index']}: {computed:,} computed{rate}; {facts['found']:,} there before;"
        f" {facts['left_out']:,} left out"
    ]
    rows += [
        f"{cost['count']:,} {kind}s: {readable_bytes(cost['mean'])} a {kind},"
        f" {readable_bytes(cost['million'])} a million"
        for kind, cost in facts["bytes"].items()
    ]
    return rows
