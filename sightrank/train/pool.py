"""Documents that negatives are mined from: what is equal to what, and a corpus in a JSONL file."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sightrank.errors import InputError
from sightrank.evaluate.datasets import CORPUS, text_of
from sightrank.evaluate.lines import read_lines
from sightrank.evaluate.run import is_blank
from sightrank.inputs.load import FileLimits, load
from sightrank.train.data import Files
from sightrank.train.records import document_of
from sightrank.types import Document, Image, Part, Pdf, Query, Text, TextFile


class Keys:
    """Content keys: equal for what a reader would call the same, wherever it stands."""

    def __init__(self) -> None:
        self._files: dict[Path, str] = {}

    def __call__(self, item: Query | Document) -> str:
        """SHA-256 (hex); case, white space and forms of characters make no difference in texts."""
        return hashlib.sha256("\n".join(map(self._part, item.parts)).encode()).hexdigest()

    def _part(self, part: Part) -> str:
        if isinstance(part, Text):
            return " ".join(unicodedata.normalize("NFKC", part.text).casefold().split())
        if isinstance(part, Pdf) and isinstance(part.source, Path):
            return f"pdf {self._file(part.source)} {part.pages}"
        if isinstance(part, Image) and isinstance(part.source, Path):
            return f"image {self._file(part.source)}"
        return f"image {getattr(part, 'source', '')!r}"

    def _file(self, path: Path) -> str:
        if path not in self._files:
            with path.open("rb") as file:
                self._files[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._files[path]


@dataclass(frozen=True)
class Pool:
    """Distinct documents: candidates first, then those that only the training file holds."""

    documents: tuple[Document, ...]
    places: dict[str, int]
    """Content key -> index in `documents`."""
    num_candidates: int
    repeated: int
    """Candidates left out because they are equal to another."""

    @cached_property
    def keys(self) -> list[str]:
        """The content key of each document."""
        return list(self.places)

    @cached_property
    def texts(self) -> list[str]:
        """The text of each document; empty for images and pages."""
        return [text_of(document) for document in self.documents]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what the candidates hold, in their order."""
        return hashlib.sha256("".join(self.keys[: self.num_candidates]).encode()).hexdigest()


def make_pool(candidates: Iterable[Document], others: dict[str, Document], keys: Keys) -> Pool:
    """Candidates without repetitions and blank texts, then `others` by content key.

    Raises InputError where no candidate is left.
    """
    found: dict[str, Document] = {}
    given = 0
    for document in candidates:
        if not is_blank(document):
            given += 1
            found.setdefault(keys(document), document)
    if not found:
        raise InputError(
            "The corpus holds no document.", "Give --corpus, DOCUMENTs, or several groups."
        )
    count = len(found)
    for key, document in others.items():
        found.setdefault(key, document)
    places = {key: at for at, key in enumerate(found)}
    return Pool(tuple(found.values()), places, count, given - count)


def read_corpus(path: Path, files: Path | None = None) -> list[Document]:
    """Documents of a JSONL file: a line is a SIDE of training data or a line of a set's corpus.jsonl.

    Images and PDFs are looked for beside the file or in `files`. Raises InputError with file and
    line.
    """
    seen = Files(FileLimits())

    def parse(number: int, line: str) -> Document:
        row = json.loads(line)
        try:
            return document_of(row, f"line {number}", files or path.parent, seen.look)
        except InputError as error:
            raise ValueError(error.message) from None

    found = list(read_lines(path, parse, f'{CORPUS} Or it is a SIDE: a string or {{"text"}}.'))
    if not found:
        raise InputError(f"{path} has no lines.", CORPUS)
    return found


def with_texts(documents: Iterable[Document]) -> list[Document]:
    """Documents as training data can hold them: text files read. Raises InputError."""
    read = []
    for document in documents:
        if any(isinstance(part, TextFile) for part in document.parts):
            texts = load(document, FileLimits(), max_pixels=1)
            document = Document(tuple(Text(str(text)) for text in texts), document.name)
        read.append(document)
    return read
