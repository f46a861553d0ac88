"""`sightrank rank`: order documents by relevance to a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightrank.cli import options
from sightrank.errors import OptionError, SightrankError

if TYPE_CHECKING:
    from sightrank.types import Document, Query, Ranking


def rank(
    query: Annotated[
        str | None, typer.Argument(help="What is asked; with --query-image, a first document.")
    ] = None,
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, globs, PDFs (every page a document; file.pdf#page=3,"
            " file.pdf#pages=2-5), or - for passages on standard input, one a line."
        ),
    ] = None,
    query_image: Annotated[
        Path | None, typer.Option(help="An image that is the query; there is no QUERY then.")
    ] = None,
    top: Annotated[int | None, typer.Option("--top", "-k", help="Show only the best K.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="A PDF is one document of many pages.")
    ] = False,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    max_pixels: options.MaxPixels = None,
    max_length: options.MaxLength = None,
    as_json: options.Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if any document failed.")
    ] = False,
) -> None:
    """Order documents by relevance to a query.

    Examples:

        sightrank rank "total revenue in 2023" report.pdf photos/ notes.txt

        sightrank rank "how do I mount a disk?" manual.pdf#pages=10-40 --top 3 --json

        sightrank rank --query-image cat.png pictures/*.png

        cat passages.txt | sightrank rank "gold rush"
    """
    from sightrank.cli.documents import collect, read_stdin

    asked, named = _query(query, query_image, documents or [])
    found = collect(named, whole=whole, stdin=read_stdin())
    good = [item for item in found if not isinstance(item, SightrankError)]
    failures: list[Exception] = [item for item in found if isinstance(item, SightrankError)]
    ranking, name = None, model or "nano"
    if good:
        ranker = options.load(model, device, dtype, max_pixels, max_length)
        name = ranker.name
        with options.progress_bar("ranking") as progress:
            ranking = ranker.rank(asked, good, top, on_error="skip", progress=progress)
        failures += [error for _, error in ranking.failures]
    _show(ranking, name, _text(asked), as_json)
    for failure in failures:
        _report(failure)
    if failures and (strict or ranking is None or not len(ranking)):
        raise typer.Exit(1)


def _query(query: str | None, image: Path | None, documents: list[str]) -> tuple[Query, list[str]]:
    from sightrank.types import Query

    if image is not None:
        return Query.image(image), [*([query] if query is not None else []), *documents]
    if query is None:
        raise OptionError("There is no query.", "Give QUERY, or an image with --query-image.")
    return Query.text(query), documents


def _text(query: Query) -> str:
    return query.name or "".join(getattr(part, "text", "") for part in query.parts)


def _show(ranking: Ranking | None, model: str, query: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(as_object(ranking, model, query), ensure_ascii=False))
    elif ranking is not None:
        _table(ranking)


def as_object(ranking: Ranking | None, model: str, query: str) -> dict[str, Any]:
    """The JSON that scripts read."""
    from sightrank.cli.documents import typed

    return {
        "model": model,
        "query": query,
        "results": [
            {
                "rank": hit.rank,
                "index": hit.index,
                "document": typed(hit.document),
                "score": hit.score,
                "logit": hit.logit,
            }
            for hit in ranking or ()
        ],
        "usage": {"total_tokens": ranking.total_tokens if ranking else 0},
    }


def _table(ranking: Ranking) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("document", overflow="fold")
    for hit in ranking:
        table.add_row(str(hit.rank), f"{hit.score:.4f}", Text(_label(hit.document)))
    Console().print(table)


def _label(document: Document, width: int = 96) -> str:
    """The name, and the beginning of the text where there is one to show."""
    from sightrank.types import Text, TextFile

    words = ""
    for part in document.parts:
        if isinstance(part, Text):
            words = part.text
        elif isinstance(part, TextFile):
            words = part.path.read_text(encoding="utf-8", errors="replace")[:200]
        if words:
            break
    snippet = " ".join(words.split())
    snippet = snippet if len(snippet) <= width else snippet[: width - 1] + "…"
    return "  ".join(part for part in (document.name, snippet) if part)


def _report(error: Exception) -> None:
    from sightrank.cli import report

    report(error)
