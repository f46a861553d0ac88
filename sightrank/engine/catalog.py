"""Which documents an index holds: names, sources and keys, in SQLite.

SQLite and not lines of JSON, because it already does what several writers, a full disk and a kill
ask for: one lock that a dead process cannot keep, and changes that happen whole or not at all. It
runs with its rollback journal and not in WAL mode: WAL needs memory shared by all readers, which
rules out network folders and read-only ones, and what it buys, writing while others read, is worth
little where a write lasts milliseconds and the work before it seconds. SQLite does not notice a
flipped byte inside a value, so every row carries a seal of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightrank.engine.prefix_store import full
from sightrank.errors import IndexFolderError
from sightrank.types import Document, Image, Part, Pdf, Text, TextFile

FILE = "catalog.sqlite"
FORMAT = 1
PATIENCE = 600.0
"""Seconds to wait for another writer, who may be putting a batch of gigabytes on a slow disk."""

_SCHEMA = (
    "CREATE TABLE about (format INTEGER NOT NULL, precision TEXT NOT NULL, rows INTEGER NOT NULL)",
    "CREATE TABLE makers (settings TEXT PRIMARY KEY, facts TEXT NOT NULL)",
    "CREATE TABLE documents (id INTEGER PRIMARY KEY, settings TEXT NOT NULL, label TEXT NOT NULL,"
    " record TEXT NOT NULL, seal TEXT NOT NULL, UNIQUE (settings, label))",
    # With the count kept apart, rows that a damaged page hides are missed.
    "CREATE TRIGGER put AFTER INSERT ON documents BEGIN UPDATE about SET rows = rows + 1; END",
    "CREATE TRIGGER dropped AFTER DELETE ON documents BEGIN UPDATE about SET rows = rows - 1; END",
)
_PUT = """
INSERT INTO documents (settings, label, record, seal) VALUES (?, ?, ?, ?)
ON CONFLICT (settings, label) DO UPDATE SET record = excluded.record, seal = excluded.seal
"""


@dataclass(frozen=True)
class Record:
    """A document of an index, as far as it is known without its content."""

    name: str | None
    parts: tuple[dict[str, Any], ...]
    """Where its content is found again; see `to_part`."""
    digest: str
    """Of its segment."""
    num_tokens: int
    next_position: int
    truncated: bool

    @property
    def label(self) -> str:
        """What makes it the same document when its content has changed: its name and files.

        The files, because the same name means another file elsewhere; text beside files, because
        two captions of one picture are two documents. Without name and files it is its content.
        """
        files = [(str(path), pages) for path, pages in self.sources]
        texts = [part["text"] for part in self.parts if "text" in part] if files else []
        said = [self.name, files, texts] if files or self.name is not None else self.digest
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @property
    def document(self) -> Document:
        """The document, read anew from where it was when it is loaded."""
        return Document(tuple(map(to_part, self.parts)), self.name)

    @property
    def sources(self) -> list[tuple[Path, tuple[int, ...] | None]]:
        """(path, pages of a PDF) of the files it is read from."""
        return [
            (Path(part["path"]), tuple(part["pages"]) if part.get("pages") else None)
            for part in self.parts
            if "path" in part
        ]


def from_part(part: Part) -> dict[str, Any]:
    """A part as JSON: texts whole, files by absolute path, pictures in memory not at all."""
    if isinstance(part, Text):
        return {"kind": "text", "text": part.text}
    if isinstance(part, TextFile):
        return {"kind": "file", "path": os.path.abspath(part.path)}  # noqa: PTH100  (keeps links)
    kind = "image" if isinstance(part, Image) else "pdf"
    pages = {"pages": part.pages} if isinstance(part, Pdf) else {}
    if isinstance(part.source, Path):
        return {"kind": kind, "path": os.path.abspath(part.source), **pages}  # noqa: PTH100
    return {"kind": kind, **pages}


def to_part(given: Mapping[str, Any]) -> Part:
    """`from_part` undone; what was only in memory is now empty and does not load."""
    kind = given["kind"]
    if kind == "text":
        return Text(given["text"])
    source = Path(given["path"]) if "path" in given else b""
    if kind == "image":
        return Image(source)
    if kind == "pdf":
        return Pdf(source, tuple(given["pages"]) if given["pages"] else None)
    return TextFile(Path(given["path"]))


@dataclass(frozen=True)
class Row:
    """A line of the catalog. `record` is None if it is damaged."""

    id: int
    settings: str
    record: Record | None
    seal: str


class Catalog:
    """The catalog of an index folder. Holds no connection, so threads and forks may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, precision: str) -> str:
        """Make it unless it is there; returns the precision it has. Raises IndexFolderError."""
        with self._connected("rwc") as connection, _transaction(connection):
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute("INSERT INTO about VALUES (?, ?, 0)", (FORMAT, precision))
            return self._about(connection)

    def precision(self) -> str:
        """What its entries keep. Raises IndexFolderError if this is no index, or a later one."""
        with self._connected("rw") as connection:
            return self._about(connection)

    def makers(self) -> dict[str, dict[str, Any]]:
        """Settings -> the facts behind them, of all models that documents were indexed with."""
        with self._connected("rw") as connection:
            rows = connection.execute("SELECT settings, facts FROM makers ORDER BY rowid")
            return {settings: _facts(facts) for settings, facts in rows}

    def rows(self) -> list[Row]:
        """All documents, in the order in which they were first indexed.

        Those that are damaged stand among them; one at the end stands for all whose place is lost.
        """
        with self._connected("rw") as connection:
            return _rows(connection)

    def version(self) -> bytes:
        """Changes with every change to the catalog: SQLite's counter, in the header of its file."""
        try:
            with (self.folder / FILE).open("rb") as file:
                return file.read(28)[24:]
        except OSError:
            raise not_an_index(self.folder) from None

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the one lock of the index; what was put is acknowledged when the block ends."""
        with self._connected("rw") as connection, _transaction(connection):
            yield Writer(connection)

    def _about(self, connection: sqlite3.Connection) -> str:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
            raise not_an_index(self.folder)  # someone was killed on making it
        found = connection.execute("SELECT format, precision FROM about").fetchone()
        version, precision = found or (None, None)
        if version != FORMAT:
            raise IndexFolderError(
                f"{self.folder} has format {version}, this version reads {FORMAT}.",
                "Update sightrank, or index the documents into another folder.",
            )
        return str(precision)

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        path = self.folder / FILE
        if mode != "rwc" and not path.exists():
            raise not_an_index(self.folder)
        address = f"{path.resolve().as_uri()}?mode={mode}"
        try:
            with closing(
                sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                connection.text_factory = _text
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: damage in a message
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> IndexFolderError:
        code = getattr(error, "sqlite_errorname", "")
        if code == "SQLITE_FULL":
            return full(self.folder)
        if code.startswith("SQLITE_BUSY"):
            return IndexFolderError(
                f"Another process has been writing to {self.folder} for {PATIENCE:g} s.",
                "Wait for it, or end it: an index can be stopped at any time.",
            )
        hints = {
            "SQLITE_READONLY": "Check that the folder is yours to change.",
            "SQLITE_IOERR": "Check the disk and your quota. What was acknowledged is kept.",
        }
        damaged = (
            "If it is damaged, remove that file and index the documents again: what was computed"
            " for them is in the folder and is found again."
        )
        hint = next((hints[kind] for kind in hints if code.startswith(kind)), damaged)
        return IndexFolderError(f"{self.folder / FILE} cannot be used: {error}.", hint)


class Writer:
    """The catalog while its lock is held."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def put_maker(self, settings: str, facts: Mapping[str, Any]) -> None:
        """Say what model and limits `settings` stands for."""
        text = json.dumps(facts, sort_keys=True)
        self._connection.execute("INSERT OR REPLACE INTO makers VALUES (?, ?)", (settings, text))

    def put(self, settings: str, record: Record) -> None:
        """Add a document, or replace the one of the same label."""
        text = json.dumps(record.__dict__)
        seal = _seal(settings, record.label, text)
        self._connection.execute(_PUT, (settings, record.label, text, seal))

    def rows(self) -> list[Row]:
        """As `Catalog.rows`, with what this writer has changed."""
        return _rows(self._connection)

    def drop(self, row: Row) -> int:
        """Forget a document, unless it was replaced since `row` was read; returns how many went."""
        statement = "DELETE FROM documents WHERE id = ? AND seal = ?"
        return self._connection.execute(statement, (row.id, row.seal)).rowcount

    def recount(self) -> None:
        """Call what is there all there is, damage being dealt with."""
        self._connection.execute("UPDATE about SET rows = (SELECT count(*) FROM documents)")

    def drop_makers(self) -> None:
        """Forget models that no document is left of."""
        self._connection.execute(
            "DELETE FROM makers WHERE settings NOT IN (SELECT settings FROM documents)"
        )


def not_an_index(folder: Path) -> IndexFolderError:
    """There is no catalog in this folder."""
    return IndexFolderError(
        f"{folder} is not an index.", f"Make one: sightrank index DOCUMENT... --to {folder}"
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


def _rows(connection: sqlite3.Connection) -> list[Row]:
    found = connection.execute(
        "SELECT id, settings, label, record, seal FROM documents ORDER BY id"
    ).fetchall()
    rows = []
    places: dict[str, int] = {}
    for place, (number, *row) in enumerate(found):
        # A damaged page may show one line twice and hide another behind it.
        twice = places.setdefault(row[3], place) != place
        rows.append(Row(number, row[0], None if twice else _opened(*row), row[3]))
    count = connection.execute("SELECT max(rows) FROM about").fetchone()[0]
    return rows if count == len(rows) else [*rows, Row(-1, "", None, "")]


def _seal(settings: str, label: str, record: str) -> str:
    return hashlib.sha256(f"{settings}\n{label}\n{record}".encode()).hexdigest()


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")  # a damaged value is left to its seal


def _facts(text: str) -> dict[str, Any]:
    """For people to read: nothing depends on them, so damage only shows."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {"model": "damaged"}


def _opened(settings: str, label: str, record: str, seal: str) -> Record | None:
    if _seal(settings, label, record) != seal:
        return None
    content = json.loads(record)
    return Record(**content | {"parts": tuple(content["parts"])})
