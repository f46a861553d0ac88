"""`sightrank dedup`: groups of near-duplicate documents, and which of each to keep."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from sightrank.cli import options
from sightrank.cli.documents import (
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
    printable,
    snippet,
    typed,
    warnings_shown,
)
from sightrank.errors import SightrankError
from sightrank.types import Document

if TYPE_CHECKING:
    from sightrank.analysis.dedup import Group
    from sightrank.analysis.signatures import Signature
    from sightrank.reranker import Reranker


@dataclass(frozen=True)
class Request:
    """One search for copies as the command line asks for it."""

    documents: tuple[str, ...] = ()
    index: Path | None = None
    threshold: float | None = None
    states: float | None = None
    whole: bool = False
    strict: bool = False
    json: bool = False


@dataclass(frozen=True)
class Signed:
    """Documents that could be read, with their signatures, and how many could not."""

    documents: list[Document]
    signatures: list[Signature]
    left_out: int


@options.model_options
def dedup(
    documents: options.Documents = None,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Look among the documents of this index too; what is found out about them is kept"
            " there, and next time only new ones are read.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="How alike copies are. Default: 0.8 in words, 0.85 in looks, 0.65 in widths of words.",
        ),
    ] = None,
    states: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE",
            min=0,
            max=1,
            help="Compare what the model makes of the documents as well; runs it. With nano this"
            " finds little that is right.",
        ),
    ] = None,
    whole: options.Whole = False,
    model: options.ModelOptions = options.NANO,
    as_json: options.Json = False,
    strict: options.Strict = False,
) -> None:
    """Find groups of near-duplicate documents, and say which one of each to keep.

    \b
    sightrank dedup report.pdf scans/ notes/*.txt
    sightrank dedup --index pages.index --json
    sightrank dedup new/ --index pages.index
    sightrank dedup photos/ --threshold 0.95

    Texts, and PDF pages with a text layer, are compared by their words; pictures
    and pages by their looks; a picture without a text layer and all others by how
    wide one word after another is. No model runs unless --states is given. Kept is,
    in this order: what has a picture and a text layer, a picture, the most pixels,
    the longest text, the first. Nothing is removed.
    """
    if not documents and index is None:
        documents = standard_input(
            "Give files, folders or globs, passages on standard input, or --index."
        )
    request = Request(tuple(documents or ()), index, threshold, states, whole, strict, as_json)
    with warnings_shown():
        status = run(request, model.load, sys.stdin.buffer, counted_pages)
    raise typer.Exit(status)


def run(
    request: Request, load: Callable[[], Reranker], stdin: BinaryIO, page_count: PageCount
) -> int:
    """Find and print; returns the exit status. Raises SightrankError where nothing can be read."""
    from sightrank.analysis import dedup as analysis

    signed = _signed(request, stdin, page_count)
    if not signed.documents:
        raise nothing(signed.left_out)
    vectors = None
    if request.states is not None:
        vectors = (_states(load(), signed), request.states)
    least = analysis.Least() if request.threshold is None else analysis.Least.all(request.threshold)
    found = analysis.groups(signed.signatures, least, vectors)
    if request.json:
        print_json(to_json(found, signed))
    else:
        typer.echo("\n".join(lines(found, signed.documents)))
    return 1 if request.strict and signed.left_out else 0


def _signed(request: Request, stdin: BinaryIO, page_count: PageCount) -> Signed:
    """Signatures of the index's documents, then of those named; failures go to stderr."""
    from sightrank.analysis.neighbours import require_neighbours

    documents: list[Document] = []
    signatures: list[Signature] = []
    left_out = 0
    if request.index is not None:
        documents, signatures, left_out = _of_index(request.index)
    if request.documents:
        found = expand(request.documents, whole=request.whole, stdin=stdin, page_count=page_count)
        for failure in found.failures:
            print_error(failure, "left out")
        require_neighbours(len(documents) + len(found.documents))
        read = [(each, _signature(each)) for each in _shown(found.documents)]
        documents += [document for document, one in read if one is not None]
        signatures += [one for _, one in read if one is not None]
        left_out += len(found.failures) + sum(one is None for _, one in read)
    return Signed(documents, signatures, left_out)


def _of_index(folder: Path) -> tuple[list[Document], list[Signature], int]:
    from sightrank.analysis import kept
    from sightrank.analysis.neighbours import require_neighbours
    from sightrank.engine.index import Index

    index = Index(folder)
    known = kept.read(folder)
    records = {kept.key_of(held.record): held.record for held in index.documents()}
    require_neighbours(len(records))
    new = [key for key in records if key not in known]
    made = dict(
        zip(new, map(_signature, _shown([records[key].document for key in new])), strict=True)
    )
    signatures = {key: found for key in records if (found := known.get(key) or made.get(key))}
    if new or len(signatures) != len(known):
        kept.write(folder, signatures)
    documents = [records[key].document for key in signatures]
    return documents, list(signatures.values()), len(records) - len(signatures)


def _shown(documents: Sequence[Document]) -> Iterator[Document]:
    """The documents, with a bar that says how many have been read."""
    with options.progress_bar("reading") as progress:
        for done, document in enumerate(documents):
            yield document
            if progress:
                progress(done + 1, len(documents))


def _signature(document: Document) -> Signature | None:
    from sightrank.analysis.signatures import signature
    from sightrank.inputs.load import FileLimits

    try:
        return signature(document, FileLimits())
    except SightrankError as error:
        print_error(named(error, document), "left out")
        return None


def _states(ranker: Reranker, signed: Signed) -> Any:
    from sightrank.analysis.states import centred, document_vectors

    kinds = [bool(one.num_pixels) for one in signed.signatures]
    return centred(document_vectors(ranker, signed.documents), kinds)


def to_json(found: Sequence[Group], signed: Signed) -> dict[str, Any]:
    """Groups as `--json` prints them."""
    return {
        "documents": len(signed.documents),
        "left_out": signed.left_out,
        "groups": [
            {
                "keep": typed(signed.documents[group.keep]),
                "why": group.why,
                "members": [
                    {
                        "index": member.index,
                        "document": typed(signed.documents[member.index]),
                        "similarity": member.similarity,
                        "because": member.because,
                    }
                    for member in group.members
                ],
            }
            for group in found
        ],
    }


def lines(found: Sequence[Group], documents: Sequence[Document]) -> list[str]:
    """The groups as people read them."""
    spare = sum(len(group.members) - 1 for group in found)
    if not found:
        plural = "" if len(documents) == 1 else "s"
        return [f"No copies among {len(documents):,} document{plural}."]
    rows = [f"{len(documents):,} documents, {len(found):,} with copies; {spare:,} could go."]
    for group in found:
        rows += ["", f"keep {_label(documents[group.keep])}  ({group.why})"]
        rows += [
            f"     {_label(documents[member.index])}  ({member.because} {member.similarity:.2f})"
            for member in group.members
            if member.index != group.keep
        ]
    return rows


def _label(document: Document) -> str:
    return printable(document.name or "") or snippet(document)
