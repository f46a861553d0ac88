"""`sightrank rank`: order documents by relevance to a query."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Protocol

import typer

from sightrank.cli import options, report
from sightrank.cli.documents import (
    PASSAGES,
    Expanded,
    PageCount,
    counted_pages,
    expand,
    standard_input,
)
from sightrank.cli.output import (
    named,
    nothing,
    nothing_relevant,
    print_error,
    print_json,
    print_table,
    ranking_json,
    warnings_shown,
)
from sightrank.config import CALIBRATION_FILE
from sightrank.types import Document, Query, Ranking


class Ranker(report.Explainer, Protocol):
    """What the command needs of a loaded model."""

    def rank(
        self,
        query: Query,
        documents: Sequence[Document] | None = None,
        top_k: int | None = None,
        *,
        index: Path | None = None,
        threshold: float | None = None,
        calibration: Path | None = None,
        diverse: float | None = None,
        diverse_by: str = "marginal",
        on_error: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> Ranking:
        """As `sightrank.Reranker.rank`."""


@dataclass(frozen=True)
class Request:
    """One ranking as the command line asks for it."""

    query: Query
    documents: tuple[str, ...]
    top: int | None = None
    index: Path | None = None
    whole: bool = False
    strict: bool = False
    json: bool = False
    threshold: float | None = None
    calibration: Path | None = None
    diverse: float | None = None
    diverse_by: str = "marginal"
    html: Path | None = None
    explained: int = 5


@options.model_options
def rank(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY", help="What is asked. With --query-image this is the first DOCUMENT."
        ),
    ] = None,
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOCUMENT",
            help="Files, folders, globs; PDF pages as FILE.pdf#page=3, #pages=2-5, #pages=1,4;"
            " - or nothing: standard input, one passage a line.",
        ),
    ] = None,
    query_image: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Ask with a picture instead of QUERY.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Rank what `sightrank index` put there, from disk."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", "-k", metavar="N", min=1, help="Show only the best N documents."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P", min=0, max=1, help="Show only documents of this probability or more."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Probabilities by `sightrank calibrate`. With --threshold the default is"
            " calibration.json in the index or the model's folder.",
        ),
    ] = None,
    diverse: Annotated[
        float | None,
        typer.Option(
            metavar="LAMBDA",
            min=0,
            max=1,
            help="Let each next document differ from those before it: 1 is all for relevance, 0 all"
            " for variety; 0.7 is a good start.",
        ),
    ] = None,
    diverse_by: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="With --diverse: marginal, unlike what stands before it; facility, so that those"
            " shown stand for all the relevant ones.",
        ),
    ] = "marginal",
    whole: options.Whole = False,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a report too: thumbnails, scores, heat maps."),
    ] = None,
    explained: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Documents that the report explains, the best first."
        ),
    ] = 5,
    strict: options.Strict = False,
) -> None:
    """Rank documents by relevance to a query, the best first.

    \b
    sightrank rank "total revenue 2023" report.pdf
    sightrank rank "a red fox in snow" pictures/ notes/*.txt --top 5
    sightrank rank "who signed?" "contract.pdf#pages=2-5" --json
    sightrank rank --query-image sketch.png drawings/
    sightrank rank "opening hours" --index pages.index
    sightrank rank "opening hours" notes/ --threshold 0.5 --calibration calibration.json
    sightrank rank "opening hours" notes/ --top 5 --diverse 0.5 --diverse-by facility
    sightrank rank "total revenue 2023" report.pdf --html report.html
    grep -h . notes/*.txt | sightrank rank "opening hours"

    A document that cannot be read is named on stderr and left out; the others are ranked.
    With --threshold the answer may be that nothing here is relevant.
    """
    asked, arguments = options.sides(query, documents or [], query_image)
    if index is not None and arguments:
        raise typer.BadParameter("Give documents or --index, not both.", param_hint="--index")
    if index is None and not arguments:
        arguments = standard_input(PASSAGES)
    if threshold is not None and calibration is None:
        calibration = find_calibration(index, model.model)
    request = Request(
        asked,
        tuple(arguments),
        top,
        index,
        whole,
        strict,
        as_json,
        threshold,
        calibration,
        diverse,
        diverse_by,
        html,
        explained,
    )
    raise typer.Exit(run(request, model.load, sys.stdin.buffer, counted_pages))


def find_calibration(index: Path | None, model: str | None) -> Path | None:
    """The calibration that lies in the index or in the model's folder, if one does."""
    folders = [Path(place) for place in (index, model) if place is not None]
    places = (folder / CALIBRATION_FILE for folder in folders)
    return next((place for place in places if place.is_file()), None)


def run(
    request: Request, load: Callable[[], Ranker], stdin: BinaryIO, page_count: PageCount
) -> int:
    """Rank and print; returns the exit status. Raises SightrankError where nothing can be ranked.

    `load` is called once there is something to rank.
    """
    if request.html is not None:
        report.check_writable(request.html)
    if request.index is not None:
        return _from_index(request, load)
    found = expand(request.documents, whole=request.whole, stdin=stdin, page_count=page_count)
    for failure in found.failures:
        print_error(failure, "left out")
    if not found.documents:
        raise nothing(len(found.failures))
    ranker = load()
    options.announce(ranker, found.documents)
    with options.progress_bar("ranking") as progress:
        ranking = ranker.rank(
            request.query,
            found.documents,
            request.top,
            threshold=request.threshold,
            calibration=request.calibration,
            diverse=request.diverse,
            diverse_by=request.diverse_by,
            on_error="skip",
            progress=progress,
        )
    return _show(request, ranker, ranking, found)


def _from_index(request: Request, load: Callable[[], Ranker]) -> int:
    ranker = load()
    with warnings_shown(), options.progress_bar("ranking") as progress:
        ranking = ranker.rank(
            request.query,
            top_k=request.top,
            index=request.index,
            threshold=request.threshold,
            calibration=request.calibration,
            diverse=request.diverse,
            diverse_by=request.diverse_by,
            on_error="skip",
            progress=progress,
        )
    return _show(request, ranker, ranking, Expanded((), ()))


def _show(request: Request, ranker: Ranker, ranking: Ranking, found: Expanded) -> int:
    for index, error in ranking.failures:
        # Out of an index there are no documents to name: those errors do so themselves.
        given = found.documents[index] if found.documents else Document.text("")
        print_error(named(error, given), "left out")
    left_out = len(found.failures) + len(ranking.failures)
    if not ranking.hits and not ranking.rejected:
        raise nothing(left_out)
    if request.html is not None:
        with options.progress_bar("explaining") as progress:
            report.write(request.html, ranker, ranking, request.explained, request.index, progress)
    if request.json:
        print_json(ranking_json(ranker.name, request.query, ranking))
    elif not ranking.hits:
        typer.echo(nothing_relevant(ranking, request.threshold))
    else:
        print_table(ranking)
    return 1 if request.strict and left_out else 0
