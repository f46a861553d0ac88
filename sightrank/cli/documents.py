"""From what people type to documents: files, folders, globs, PDF pages, standard input."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sightrank.errors import InputError, OptionError, SightrankError
from sightrank.types import IMAGE_SUFFIXES, Document

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})
_PAGES = re.compile(r"(?P<path>.+\.pdf)#pages?=(?P<pages>[0-9,\-]+)", re.IGNORECASE)

Found = Document | SightrankError


def collect(arguments: Sequence[str], *, whole: bool, stdin: Iterable[str]) -> list[Found]:
    """A document, or the error in its place, for everything that the arguments name.

    Without arguments, and for "-", each line of `stdin` that is not blank is a passage. `whole`
    makes a PDF one document; otherwise each of its pages is one.
    """
    found: list[Found] = []
    for argument in arguments or ["-"]:
        try:
            for document in _expand(argument, whole, stdin):
                found.append(document)
        except SightrankError as error:
            found.append(error)
    return found


def _expand(argument: str, whole: bool, stdin: Iterable[str]) -> Iterator[Document]:
    if argument == "-":
        yield from (Document.text(line.strip()) for line in stdin if line.strip())
    elif match := _PAGES.fullmatch(argument):
        yield from _pdf(Path(match["path"]), _page_numbers(match["pages"], argument), whole)
    elif Path(argument).is_dir():
        yield from _folder(Path(argument), whole)
    elif Path(argument).exists() or not glob.has_magic(argument):
        yield from _file(Path(argument), whole)
    else:
        paths = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207  (absolute patterns)
        if not paths:
            raise InputError(f"{argument} matches no file.", "Check the pattern and the folder.")
        for path in paths:
            yield from (
                _folder(Path(path), whole) if Path(path).is_dir() else _file(Path(path), whole)
            )


def _folder(folder: Path, whole: bool) -> Iterator[Document]:
    known = IMAGE_SUFFIXES | TEXT_SUFFIXES | {".pdf"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in known)
    if not paths:
        raise InputError(f"{folder} holds no text, image or PDF.", "Name the files one by one.")
    for path in paths:
        yield from _file(path, whole)


def _file(path: Path, whole: bool) -> Iterator[Document]:
    if path.suffix.lower() == ".pdf":
        yield from _pdf(path, None, whole)
    else:
        yield Document.of(path)


def _pdf(path: Path, pages: tuple[int, ...] | None, whole: bool) -> Iterator[Document]:
    if whole:
        yield Document.pdf(path, pages)
        return
    if pages is None:
        from sightrank.inputs.files import FileLimits
        from sightrank.inputs.pdf import page_count

        pages = tuple(range(1, page_count(path, FileLimits()) + 1))
    for page in pages:
        yield Document.pdf(path, page)


def _page_numbers(text: str, argument: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise OptionError(
                f"{argument} does not name pages.", "Write #page=3, #pages=2-5 or #pages=1,4."
            )
        numbers += range(int(first), int(last if dash else first) + 1)
    return tuple(numbers)


def typed(document: Document) -> str:
    """What the user would type to get the document again; a passage is its own text."""
    if document.name:
        return document.name
    return "\n".join(getattr(part, "text", "[image]") for part in document.parts)


def read_stdin() -> Iterable[str]:
    """Lines of standard input, read only when asked for."""
    return (line for line in sys.stdin)
