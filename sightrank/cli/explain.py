"""`sightrank explain`: which words or patches of a document made its score."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Protocol

import typer

from sightrank.cli import options
from sightrank.cli.documents import (
    PageCount,
    counted_pages,
    expand,
    standard_input,
)
from sightrank.cli.output import print_json, printable, typed, warnings_shown
from sightrank.errors import InputError, OptionError
from sightrank.types import Document, Query

if TYPE_CHECKING:
    from rich.console import Console

    from sightrank.analysis.explanation import Explanation, TextPart


class Explainer(Protocol):
    """What the command needs of a loaded model."""

    name: str

    def explain(
        self, query: Query, document: Document, method: str, *, index: Path | None = None
    ) -> Explanation:
        """As `sightrank.Reranker.explain`."""


@dataclass(frozen=True)
class Request:
    """One explanation as the command line asks for it."""

    query: Query
    document: str
    method: str = "attention"
    png: Path | None = None
    top: int = 5
    index: Path | None = None
    whole: bool = False
    json: bool = False
    matrix: bool = False


@options.model_options
def explain(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY", help="What is asked. With --query-image this is the DOCUMENT."
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Argument(
            metavar="DOCUMENT",
            help="A file, or a PDF page as FILE.pdf#page=3; - or nothing: a passage on standard input.",
        ),
    ] = None,
    query_image: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Ask with a picture instead of QUERY.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(metavar="NAME", help="attention, gradient, or occlusion (slow, the truth)."),
    ] = "attention",
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the heat map over the page there.")
    ] = None,
    top_spans: Annotated[
        int, typer.Option(metavar="N", min=1, help="Spans or boxes a part to show at most.")
    ] = 5,
    index: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Read what `sightrank index` kept of the document."),
    ] = None,
    whole: options.Whole = False,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="With --json: all scores, by token of the query.")
    ] = False,
) -> None:
    """Show which words or patches of a document made its score.

    \b
    sightrank explain "total revenue 2023" "report.pdf#page=3" --png heat.png
    sightrank explain "opening hours" notes/museum.txt
    sightrank explain "a red fox" fox.jpg --method occlusion --json
    sightrank explain "who signed?" contract.pdf --whole --index pages.index
    echo "The museum opens at nine." | sightrank explain "opening hours"
    """
    asked, arguments = options.sides(query, [] if document is None else [document], query_image)
    if not arguments:
        arguments = standard_input("Give a file or a PDF page.", "DOCUMENT")
    if len(arguments) > 1:
        raise typer.BadParameter("Give one document.", param_hint="DOCUMENT")
    if matrix and not as_json:
        raise typer.BadParameter("It goes with --json.", param_hint="--matrix")
    request = Request(asked, arguments[0], method, png, top_spans, index, whole, as_json, matrix)
    run(request, model.load, sys.stdin.buffer, counted_pages)


def run(
    request: Request, load: Callable[[], Explainer], stdin: BinaryIO, page_count: PageCount
) -> None:
    """Explain and print. Raises SightrankError."""
    document = _single(request, stdin, page_count)
    explainer = load()
    with warnings_shown():
        found = explainer.explain(request.query, document, request.method, index=request.index)
    files = _draw(found, request.png) if request.png else []
    if request.json:
        asked = {"query": typed(request.query), "document": typed(document)}
        print_json({"model": explainer.name, **asked, **found.to_dict(request.top, request.matrix)})
    else:
        _print(found, request.top, files)


def _single(request: Request, stdin: BinaryIO, page_count: PageCount) -> Document:
    found = expand([request.document], whole=request.whole, stdin=stdin, page_count=page_count)
    if found.failures:
        raise found.failures[0]
    if len(found.documents) != 1:
        first = found.documents[0].name or "the first"
        raise InputError(
            f"{request.document} gives {len(found.documents)} documents, explained is one.",
            f"Name one of them, such as {first}; with --whole a PDF is one.",
        )
    return found.documents[0]


def _draw(found: Explanation, target: Path) -> list[Path]:
    """Write a heat map a page; several pages become FILE-1.png, FILE-2.png and so on."""
    pages = found.pages
    if not pages:
        raise OptionError("The document has no picture to draw on.", "Leave out --png.")
    names = [target]
    if len(pages) > 1:
        names = [target.with_stem(f"{target.stem}-{number + 1}") for number in range(len(pages))]
    for number, name in enumerate(names):
        try:
            found.heat_map(number).save(name)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"{name} cannot be written: {error}.", "Give a .png file in a folder that is there."
            ) from error
    return names


def _print(found: Explanation, top: int, files: list[Path]) -> None:
    from rich.console import Console
    from rich.text import Text as Styled

    from sightrank.analysis.explanation import PagePart

    console = Console(highlight=False, soft_wrap=True)
    console.print(Styled(f"score {found.score:.4f}  by {found.method}", style="bold"))
    if found.truncated:
        console.print(Styled("The end of the document was cut off and is not explained.", "yellow"))
    for part in found.parts:
        if isinstance(part, PagePart):
            where = f"part {part.part + 1}" if part.page is None else f"page {part.page}"
            console.print(
                Styled(f"{where}: {part.image.width} x {part.image.height} pixels", "dim")
            )
            for box in found.boxes(part)[:top]:
                corners = ", ".join(f"{side:.0f}" for side in box.pixels)
                console.print(
                    Styled(f"{box.score:7.1%}  box ({corners})  {printable(box.words or '')}")
                )
        else:
            _print_text(console, found, part, top)
    for file in files:
        console.print(Styled(f"heat map in {printable(str(file))}", "dim"))
    if found.pages and not files:
        console.print(Styled("--png FILE draws this over the page", "dim"))


def _print_text(console: Console, found: Explanation, part: TextPart, top: int) -> None:
    """The text with its hot spans marked, and then the spans, so that a pipe has them too."""
    from rich.text import Text as Styled

    spans = found.spans(part)[:top]
    shown = Styled()
    at = 0
    for span in sorted(spans, key=lambda span: span.start):
        shown.append(_lines(part.text[at : span.start]))
        shown.append(_lines(part.text[span.start : span.end]), style="black on yellow")
        at = span.end
    console.print(shown.append(_lines(part.text[at:])))
    for span in spans:
        words = " ".join(printable(part.text[span.start : span.end]).split())
        console.print(Styled(f"{span.score:7.1%}  [{span.start}, {span.end})  {words}"))


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
