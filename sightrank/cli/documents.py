"""What a DOCUMENT argument stands for: a file, a folder, a glob, pages of a PDF, standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import typer

from sightrank.errors import EmptyInputError, InputError, SightrankError, UnsupportedInputError
from sightrank.types import IMAGE_SUFFIXES, Document

TEXT_SUFFIXES = frozenset(
    {".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".csv", ".tsv", ".log"}
)
KNOWN_SUFFIXES = TEXT_SUFFIXES | IMAGE_SUFFIXES | {".pdf"}
"""What is taken from a folder. A file that is named itself may have any suffix."""
STANDARD_INPUT = "-"
PASSAGES = "Give files, folders or globs, or passages on standard input."
"""What a command without documents is told."""

_FRAGMENT = re.compile(r"(?P<path>.+\.pdf)#pages?=(?P<pages>[^#]*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)

PageCount = Callable[[Path], int]


def standard_input(instead: str, hint: str = "DOCUMENT...") -> list[str]:
    """The arguments where none was given: standard input, unless somebody sits at it.

    `instead` says what to give then. Raises BadParameter.
    """
    if sys.stdin.isatty():
        raise typer.BadParameter(instead, param_hint=hint)
    return [STANDARD_INPUT]


@dataclass(frozen=True)
class Expanded:
    """The documents of a command line, and the arguments that gave none, with the reason."""

    documents: tuple[Document, ...]
    failures: tuple[SightrankError, ...]


def expand(
    arguments: Iterable[str], *, whole: bool, stdin: BinaryIO, page_count: PageCount
) -> Expanded:
    """Documents of all arguments, in order. Each one's name is what to type to get it again.

    `whole`: a PDF is one document, not one a page. Nothing is raised for an argument that cannot
    be read: it becomes a failure, and so does a damaged file among a folder's.
    """
    documents: list[Document] = []
    failures: list[SightrankError] = []
    for argument in arguments:
        try:
            if argument == STANDARD_INPUT:
                documents += _lines(stdin.read())
                continue
            for path, pages in _files(argument):
                try:
                    documents += _documents(path, pages, whole, page_count)
                except SightrankError as error:
                    failures.append(error)
        except SightrankError as error:
            failures.append(error)
    return Expanded(tuple(documents), tuple(failures))


def counted_pages(path: Path) -> int:
    """The number of pages of a PDF; what opens it is imported only here."""
    from sightrank.inputs.load import FileLimits
    from sightrank.inputs.pdf import page_count

    return page_count(path, FileLimits())


def _lines(content: bytes) -> list[Document]:
    """One passage a line, blank lines left out. Line N is named `-:N`, like a compiler's."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsupportedInputError(
            f"Standard input is not UTF-8 text (byte {error.start}).", "Give one passage a line."
        ) from None
    passages = [
        Document.text(line, name=f"{STANDARD_INPUT}:{number}")
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1)
        if line.strip()
    ]
    if not passages:
        raise EmptyInputError("Standard input holds no passage.", "Give one passage a line.")
    return passages


def _files(argument: str) -> Iterator[tuple[Path, str | None]]:
    """(path, pages as written or None) of what an argument names. Raises InputError."""
    path, pages = Path(argument), None
    match = None if os.path.lexists(argument) else _FRAGMENT.fullmatch(argument)
    if match:
        path, pages = Path(match["path"]), match["pages"]
    for found in _matches(path):
        if found.is_dir():
            for file in _folder(found):
                yield file, None
        else:
            yield found, pages


def _matches(path: Path) -> Sequence[Path]:
    """The path itself if it exists, or what it matches as a glob. Raises InputError."""
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        if found:
            return found
        raise InputError(f"{path} matches no file.", "Check the pattern.")
    raise InputError(
        f"{path} does not exist.",
        "A DOCUMENT is a file, folder or glob; passages come on standard input, one a line.",
    )


def _folder(folder: Path) -> list[Path]:
    """Files of known suffixes at any depth, sorted by path; hidden ones are left out."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in KNOWN_SUFFIXES
        ]
    if not found:
        raise EmptyInputError(
            f"{folder} holds no text, image or PDF.",
            f"Suffixes looked for: {' '.join(sorted(KNOWN_SUFFIXES))}.",
        )
    return sorted(found)


def _documents(path: Path, pages: str | None, whole: bool, page_count: PageCount) -> list[Document]:
    if path.suffix.lower() != ".pdf":
        return [Document.of(path)]
    count = page_count(path)
    chosen = range(1, count + 1) if pages is None else _pages(path, pages, count)
    if whole:
        return [Document.pdf(path, None if pages is None else chosen)]
    return [Document.pdf(path, page) for page in chosen]


def _pages(path: Path, written: str, count: int) -> list[int]:
    """Page numbers of `3`, `2-5` or `1,4-6`, all within 1 to `count`. Raises InputError."""
    chosen: list[int] = []
    for part in written.split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match:
            raise InputError(
                f"{path}#pages={written}: {part.strip()!r} is not a page or a range of pages.",
                "Write #page=3, #pages=2-5 or #pages=1,4.",
            )
        first = int(match[1])
        last = int(match[2] or first)
        if not 1 <= first <= last <= count:
            raise InputError(
                f"{path}#pages={written}: {part.strip()} is outside pages 1 to {count}.",
                "Pages count from 1, ranges go upwards.",
            )
        chosen += range(first, last + 1)
    return chosen
