"""Documents that callers leave here: their files, and an index that remembers what the model saw.

`data/<owner>/<index>/files` holds what was sent, `.../index` is an index as `sightrank index` makes
it. A document's files are named by a digest of its id, so no caller's text becomes a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from sightrank.errors import DiskFullError, InputError, OptionError, OtherModelError, SightrankError
from sightrank.inputs.pdf import page_count
from sightrank.serve.errors import StaleIndexError, UnknownIndexError
from sightrank.types import Document, Image, Part, Pdf, Query, TextFile

if TYPE_CHECKING:
    from sightrank.engine.batch import Prepared
    from sightrank.engine.index import Index
    from sightrank.reranker import Reranker

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names of indexes."""
SUFFIXES = (".pdf", ".image", ".txt")
Opened = dict[Path, "Index"]
"""Indexes that are open, by their folder."""


@dataclass(frozen=True)
class Given:
    """A document to keep. At least one of its contents is there; a PDF's pages become documents."""

    id: str
    text: str | None = None
    image: bytes | None = None
    pdf: bytes | None = None


@dataclass(frozen=True)
class Kept:
    """A document that is there."""

    id: str
    num_tokens: int
    truncated: bool
    digest: str
    """Of what the model saw."""


class Shelf:
    """One index of one owner. Its calls run where the model is, one at a time."""

    def __init__(self, folder: Path, opened: Opened) -> None:
        self._folder, self._files, self._opened = folder, folder / "files", opened

    @classmethod
    def of(cls, data: Path, owner: str | None, name: str, opened: Opened) -> Shelf:
        """The shelf of that name; it need not be there yet. Raises OptionError for a bad name.

        `opened` keeps indexes open between requests: what was read once is not checked again.
        """
        if not NAME.fullmatch(name):
            raise OptionError(
                f"The index's name is {name[:80]!r}.",
                "Use up to 64 letters, digits, dots, dashes and underscores.",
            )
        return cls(owner_folder(data, owner) / name, opened)

    @property
    def exists(self) -> bool:
        """Whether anything was ever put there."""
        return self._files.is_dir()

    def put(self, reranker: Reranker, documents: Sequence[Given]) -> tuple[list[Kept], int]:
        """Keep documents, replacing those of the same id; also the tokens that were run for it."""
        self._files.mkdir(parents=True, exist_ok=True)
        before = self.kept(reranker)
        ids = {_base(kept.id) for kept in before} | {kept.id for kept in before}
        try:
            with self.untold([given.id for given in documents]):
                made = [each for given in documents for each in self._written(reranker, given)]
                reranker.index(made, self._index(reranker).path)
        except BaseException as error:
            # All or nothing: what was sent with the one that failed is taken back.
            for given in documents:
                if given.id not in ids:
                    self._unlink(given.id)
            self._index(reranker).prune()
            if isinstance(error, OSError):
                raise DiskFullError(
                    f"There is no room: {error.strerror}.", "Delete some."
                ) from error
            raise
        self._index(reranker).prune()
        names = {document.name for document in made}
        kept = [each for each in self.kept(reranker) if each.id in names]
        known = {each.digest for each in before}
        run = {each.digest: each.num_tokens for each in kept if each.digest not in known}
        return kept, sum(run.values())

    def prepare(self, reranker: Reranker, query: Query, ids: Collection[str] | None) -> Prepared:
        """A query to all documents, or to some. Raises UnknownIndexError, StaleIndexError."""
        index = self.open(reranker)
        names = None if ids is None else self.names(reranker, ids)
        try:
            return reranker.prepare_indexed(query, index, names)
        except OtherModelError as error:
            raise StaleIndexError(
                f"{self._folder.name} holds no document for this model and its limits.",
                "POST /v1/documents to index some.",
            ) from error

    def kept(self, reranker: Reranker) -> list[Kept]:
        """All that this model can rank, in the order in which they came."""
        try:
            records = self.open(reranker).records(reranker.engine.settings, reranker.facts())
        except OtherModelError:
            return []
        return [
            Kept(each.name or "", each.num_tokens, each.truncated, each.digest) for each in records
        ]

    def open(self, reranker: Reranker) -> Index:
        """The index itself. Raises UnknownIndexError."""
        if not self.exists:
            raise UnknownIndexError(
                f"There is no index {self._folder.name!r}.", "POST /v1/documents makes one."
            )
        return self._index(reranker)

    def names(self, reranker: Reranker, ids: Collection[str]) -> list[str]:
        """Names in the index of these ids; a PDF's id means all its pages."""
        wanted = set(ids)
        there = [kept.id for kept in self.kept(reranker)]
        found = [name for name in there if name in wanted or _base(name) in wanted]
        missing = wanted - {*found, *map(_base, found)}
        if missing:
            raise UnknownIndexError(
                f"There is no document {sorted(missing)[0][:80]!r}.",
                "List them: GET /v1/documents.",
            )
        return found

    def document(self, reranker: Reranker, id: str) -> Document:
        """A document that is there, to be read again: a page, or all that came under an id.

        Raises UnknownIndexError, StaleIndexError.
        """
        if id not in {kept.id for kept in self.kept(reranker)}:
            raise UnknownIndexError(
                f"There is no document {id[:80]!r}.",
                "List them: GET /v1/documents. Pages of a PDF are ID#page=1 and so on.",
            )
        pdf = self._path(_base(id), ".pdf")
        if id != _base(id) and pdf.exists():
            return Document((Pdf(pdf, (int(id.rpartition("=")[2]),)),), id)
        image, text = self._path(id, ".image"), self._path(id, ".txt")
        parts: list[Part] = [Image(image)] if image.exists() else []
        parts += [TextFile(text)] if text.exists() else []
        if not parts:
            raise StaleIndexError(f"{id[:80]} has lost its file.", "POST it again.")
        return Document(tuple(parts), id)

    @contextmanager
    def untold(self, ids: Sequence[str]) -> Iterator[None]:
        """Let errors name documents by their ids, and no folder of this machine."""
        try:
            yield
        except InputError as error:
            message = error.message
            for id, suffix in product({*ids, *map(_base, ids)}, SUFFIXES):
                message = message.replace(str(self._path(id, suffix)), id[:80])
            raise type(error)(message, error.hint) from error

    def delete(self, reranker: Reranker, id: str) -> None:
        """Forget a document. Raises UnknownIndexError."""
        self.open(reranker)
        if not self._unlink(id):
            raise UnknownIndexError(f"There is no document {id[:80]!r}.", "List them first.")
        self._index(reranker).prune()

    def delete_all(self, reranker: Reranker) -> None:
        """Forget the index. Raises UnknownIndexError."""
        self.open(reranker)
        gone = self._folder.with_name(f".gone-{uuid.uuid4().hex}")  # at once, for whoever looks
        self._folder.rename(gone)
        self._opened.pop(self._folder / "index", None)
        shutil.rmtree(gone, ignore_errors=True)

    def _path(self, id: str, suffix: str) -> Path:
        return self._files / f"{_digest(id)}{suffix}"

    def _index(self, reranker: Reranker) -> Index:
        path = self._folder / "index"
        if path not in self._opened or not path.exists():
            self._opened[path] = reranker.open_index(path)
        return self._opened[path]

    def _written(self, reranker: Reranker, given: Given) -> Iterator[Document]:
        limits = reranker.encoder.limits
        self._unlink(given.id)
        if given.pdf is not None:
            path = self._write(given.id, ".pdf", given.pdf)
            for page in range(1, page_count(path, limits) + 1):
                yield Document((Pdf(path, (page,)),), f"{given.id}#page={page}")
            return
        parts: list[Part] = []
        if given.image is not None:
            parts.append(Image(self._write(given.id, ".image", given.image)))
        if given.text is not None:
            text = given.text.encode("utf-8", "replace")
            parts.append(TextFile(self._write(given.id, ".txt", text)))
        yield Document(tuple(parts), given.id)

    def _write(self, id: str, suffix: str, content: bytes) -> Path:
        path = self._path(id, suffix)
        unfinished = path.with_name(f".{uuid.uuid4().hex}")
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def _unlink(self, id: str) -> int:
        paths = [self._path(id, suffix) for suffix in SUFFIXES]
        there = [path for path in paths if path.exists()]
        for path in there:
            path.unlink()
        return len(there)


def shelves(data: Path, owner: str | None) -> list[str]:
    """Names of an owner's indexes."""
    folder = owner_folder(data, owner)
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if NAME.fullmatch(path.name))


def owner_folder(data: Path, owner: str | None) -> Path:
    """Where a key's indexes are: nobody sees another's."""
    return data / ("shared" if owner is None else f"key-{_digest(owner)}")


def content_id(text: str | None, image: bytes | None, pdf: bytes | None) -> str:
    """An id for a document that came without one: the same for the same content."""
    digests = [
        hashlib.sha256(
            part.encode("utf-8", "replace") if isinstance(part, str) else part
        ).hexdigest()
        for part in (text or "", image or b"", pdf or b"")
    ]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _base(name: str) -> str:
    return re.sub(r"#page=\d+\Z", "", name)


class NoShelvesError(SightrankError):
    """A server that keeps no documents."""

    status = 404
    code = "RESOURCE_NOT_FOUND"
