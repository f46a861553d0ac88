"""Files of groups: checked before training, then read as a stream that is never held as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sightrank.errors import InputError
from sightrank.evaluate.lines import reason
from sightrank.inputs.decode import check_image, decode_base64
from sightrank.inputs.files import FileLimits, check_file, naming, read_file
from sightrank.inputs.pdf import page_count
from sightrank.train.records import LAYOUT, Group, parse
from sightrank.types import Image, Part, Pdf

MOST_REPORTED = 10

Progress = Callable[[int], None]


class Needs(Protocol):
    """What a loss has to find in a group: None, or what is missing."""

    def __call__(self, group: Group) -> str | None:
        """The complaint."""
        ...


@dataclass(frozen=True)
class Checked:
    """What a check found: every line can be read."""

    num_groups: int
    num_documents: int
    digest: str
    """SHA-256 (hex) of the files, and of the names and sizes of the images and PDFs they name."""


def check(
    paths: Sequence[Path],
    needs: Needs,
    limits: FileLimits | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Read every line and look at every file that is named, once each.

    Images are opened up to their header, PDFs are asked for the number of their pages. Raises
    InputError with the first ten bad lines and the number of the others.
    """
    files = Files(limits or FileLimits())
    digest = hashlib.sha256()
    problems: list[str] = []
    groups = documents = 0
    for path in paths:
        for number, line in _lines(path):
            digest.update(line)
            name = f"{path}, line {number}"
            try:
                text = _decoded(line, number)
                if not text.strip():
                    continue
                group = parse(text, name, path.parent, files.look)
                if complaint := needs(group):
                    raise ValueError(complaint)
                groups += 1
                documents += len(group.candidates)
            except ValueError as error:
                problems.append(f"{name}: {reason(error)}")
            except InputError as error:
                problems.append(f"{name}: {error.message.rstrip('.')}")
            if progress:
                progress(groups + len(problems))
    if problems:
        raise _bad(problems)
    if not groups:
        raise InputError(f"{', '.join(map(str, paths))}: there are no lines.", LAYOUT)
    for key in sorted(files.sizes):
        digest.update(f"{key} {files.sizes[key]}\n".encode())
    return Checked(groups, documents, digest.hexdigest())


def stream(paths: Sequence[Path], seed: int, buffer: int) -> Iterator[Group]:
    """Groups without end: all of the files, pass after pass, each in another order.

    Of every pass `buffer` lines are held at a time, and a random one of them goes next: at a buffer
    as long as the files the order is uniform. The same seed gives the same stream. The files must
    have been checked.
    """
    turn = 0
    while True:
        rng = np.random.default_rng((seed, turn))
        held: list[tuple[Path, int, bytes]] = []
        for path in paths:
            for number, line in _lines(path):
                held.append((path, number, line))
                if len(held) > buffer:
                    yield from _parsed(held, int(rng.integers(len(held))))
        while held:
            yield from _parsed(held, int(rng.integers(len(held))))
        turn += 1


def ordered(paths: Sequence[Path]) -> Iterator[Group]:
    """All groups of the files once, in their order."""
    for path in paths:
        for number, line in _lines(path):
            yield from _parsed([(path, number, line)], 0)


def _parsed(held: list[tuple[Path, int, bytes]], place: int) -> Iterator[Group]:
    held[place], held[-1] = held[-1], held[place]
    path, number, line = held.pop()
    text = _decoded(line, number)
    if text.strip():
        yield parse(text, f"{path}, line {number}", path.parent)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        content = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", LAYOUT) from None
    with content:
        yield from enumerate(content, start=1)


def _decoded(line: bytes, number: int) -> str:
    return line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")


def _bad(problems: Sequence[str]) -> InputError:
    shown = "\n".join(problems[:MOST_REPORTED])
    more = len(problems) - MOST_REPORTED
    rest = f"\nand {more} more" if more > 0 else ""
    lines = "1 line is" if len(problems) == 1 else f"{len(problems)} lines are"
    return InputError(f"{lines} no training data:\n{shown}{rest}", LAYOUT)


class Files:
    """Looks at each file once, however many lines name it."""

    def __init__(self, limits: FileLimits) -> None:
        self.limits = limits
        self.sizes: dict[str, int] = {}
        self._pages: dict[Path, int] = {}
        self._failures: dict[Path, InputError] = {}

    def look(self, part: Part) -> None:
        """Raise InputError for an image or page that training could not read."""
        if isinstance(part, Image) and isinstance(part.source, str):
            check_image(decode_base64(part.source, self.limits), self.limits)
            return
        path = part.source if isinstance(part, (Image, Pdf)) else None
        assert isinstance(path, Path)
        if path in self._failures:
            raise self._failures[path]
        if str(path) not in self.sizes:
            try:
                self._open(part, path)
            except InputError as error:
                self._failures[path] = error
                raise
        if isinstance(part, Pdf) and part.pages and part.pages[0] > self._pages[path]:
            raise InputError(f"{path} has {self._pages[path]} pages, so no page {part.pages[0]}.")

    def _open(self, part: Part, path: Path) -> None:
        if isinstance(part, Pdf):
            check_file(path, self.limits.max_file_bytes, "PDF")
            self._pages[path] = page_count(path, self.limits)
        else:
            with naming(str(path)):
                check_image(read_file(path, self.limits.max_file_bytes, "image"), self.limits)
        self.sizes[str(path)] = path.stat().st_size
