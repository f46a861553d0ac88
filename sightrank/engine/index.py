"""A folder of documents that have been run: their names in a catalog, their prefixes in a store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sightrank.config import CALIBRATION_FILE, SIGNATURES_FILE
from sightrank.engine.catalog import FILE, Catalog, Record, Row
from sightrank.engine.precision import check_precision
from sightrank.engine.prefix_cache import prefix_key
from sightrank.engine.prefix_store import ENTRIES, UNFINISHED, PrefixStore, translated
from sightrank.errors import (
    DamageWarning,
    IndexFolderError,
    OptionError,
    OtherModelError,
    SightrankError,
)
from sightrank.inputs.files import FileLimits
from sightrank.inputs.pdf import page_count

OWN = {FILE, f"{FILE}-journal", ENTRIES, UNFINISHED, CALIBRATION_FILE, SIGNATURES_FILE}
"""What lies in an index folder; the last two are put there by `analysis`."""
Facts = Mapping[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Indexed:
    """A document in an index, with the bytes of its entry: 0 if the entry is gone."""

    settings: str
    record: Record
    num_bytes: int


@dataclass(frozen=True)
class Pruned:
    """What pruning removed."""

    gone: int
    """Documents whose file or page is no more, and damaged lines of the catalog."""
    other_models: int
    """Documents of other models or settings than the ones to keep."""
    entries: int
    num_bytes: int


class Index:
    """An index on disk. Several processes may read, write and prune it at once.

    Keep it open for many rankings: what was read once is not checked again.
    """

    def __init__(self, path: str | Path) -> None:
        """Open one that exists. Raises IndexFolderError."""
        self.path = Path(path)
        self._catalog = Catalog(self.path)
        self.precision = check_precision(self._catalog.precision())
        self.store = PrefixStore(self.path, self.precision)
        self._read: tuple[bytes, list[Row]] = (b"", [])

    @classmethod
    def create(cls, path: str | Path, precision: str | None = None) -> Index:
        """Open an index or make an empty one, "exact" unless `precision` says otherwise.

        Raises IndexFolderError for a folder of other things, OptionError for an index that holds
        another precision than the one asked for.
        """
        folder = Path(path)
        wanted = check_precision(precision or "exact")
        _check_free(folder)
        with translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
        held = Catalog(folder).create(wanted)
        if precision is not None and held != wanted:
            raise OptionError(
                f"{folder} holds documents at precision {held}, asked for is {wanted}.",
                "Leave the precision out, or give another folder.",
            )
        return cls(folder)

    @classmethod
    def of(cls, index: Index | str | Path) -> Index:
        """The index, opened if it is a path."""
        return index if isinstance(index, Index) else cls(index)

    def __len__(self) -> int:
        return len(self._rows())

    def add(
        self,
        settings: str,
        facts: Facts,
        records: Iterable[Record],
        packed: Mapping[str, Mapping[str, Tensor]],
    ) -> list[Record]:
        """Acknowledge documents, all durable when this returns; `packed` holds new entries by digest.

        Returns those whose entry is neither new nor there, because someone pruned it meanwhile:
        they are not in the index. Raises DiskFullError, IndexFolderError; then none is.
        """
        lacking = []
        with self._catalog.writing() as writer:
            self.store.clean()
            writer.put_maker(settings, facts)
            for digest, tensors in packed.items():
                self.store.write(prefix_key(settings, digest), tensors)
            for record in records:
                if self.store.has(prefix_key(settings, record.digest)):
                    writer.put(settings, record)
                else:
                    lacking.append(record)
            writer.drop_makers()
        return lacking

    def documents(self) -> list[Indexed]:
        """All documents, of every model, in the order in which they were first indexed."""
        sizes = dict(self.store.entries())
        return [
            Indexed(settings, record, sizes.get(self._name(settings, record), 0))
            for settings, record in self._rows()
        ]

    def makers(self) -> dict[str, dict[str, Any]]:
        """Settings -> model name, weights, dtype and limits that documents were indexed with."""
        return self._catalog.makers()

    def records(self, settings: str, facts: Facts) -> list[Record]:
        """Documents of one model and its settings. Raises OtherModelError if there are none."""
        found = [record for made_with, record in self._rows() if made_with == settings]
        if not found:
            raise self._other_model(facts)
        return found

    def verify(self, progress: Progress | None = None) -> dict[str, str]:
        """Read every entry; remove those that are bad. Returns document name -> what was wrong."""
        rows = self._catalog.rows()
        problems: dict[str, str] = {}
        seen: dict[str, str | None] = {}
        for done, row in enumerate(rows, start=1):
            if row.record is None:
                problems[f"line {row.id if row.id > 0 else done}"] = f"it is damaged in {FILE}"
                continue
            name = self._name(row.settings, row.record)
            if name not in seen:
                seen[name] = self.store.damage(name)
            if (problem := seen[name]) is not None:
                problems[row.record.name or f"document {row.record.digest[:12]}"] = problem
            if progress:
                progress(done, len(rows))
        self._remove_damaged([name for name, problem in seen.items() if problem is not None])
        return problems

    def prune(self, keep: str | None = None) -> Pruned:
        """Remove documents that are gone, entries without a document, and dead writers' leftovers.

        `keep`: settings whose documents stay while those of all others go; None: all stay.
        """
        rows = self._catalog.rows()
        other = [row for row in rows if keep is not None and row.settings != keep]
        counts: dict[Path, int] = {}
        gone = [
            row for row in rows if (keep is None or row.settings == keep) and _is_gone(row, counts)
        ]
        with self._catalog.writing() as writer:
            num_other, num_gone = (sum(map(writer.drop, kind)) for kind in (other, gone))
            writer.drop_makers()
            writer.recount()
            held = {self._name(row.settings, row.record) for row in writer.rows() if row.record}
            unheld = [name for name, _ in self.store.entries() if name not in held]
            freed = sum(map(self.store.remove, unheld)) + self.store.clean()
        return Pruned(num_gone, num_other, len(unheld), freed)

    def _remove_damaged(self, names: Sequence[str]) -> None:
        if not names:
            return
        with self._catalog.writing():
            for name in names:
                # Looked at again: someone may have removed it and written it anew.
                if self.store.damage(name) is not None:
                    self.store.remove(name)

    def _rows(self) -> list[tuple[str, Record]]:
        """(settings, record) of all whole lines. Warns of damaged ones."""
        version = self._catalog.version()
        if version != self._read[0]:
            self._read = version, self._catalog.rows()
        rows = self._read[1]
        whole = [(row.settings, row.record) for row in rows if row.record is not None]
        if len(whole) < len(rows):
            warnings.warn(
                f"Lines of {self.path / FILE} are damaged, {len(rows) - len(whole)} or more: they"
                " are left out. Prune the index, then index its documents again.",
                DamageWarning,
                stacklevel=3,
            )
        return whole

    def _name(self, settings: str, record: Record) -> str:
        return self.store.name(prefix_key(settings, record.digest))

    def _other_model(self, facts: Facts) -> OtherModelError:
        makers = self.makers().values()
        if not makers:
            return OtherModelError(f"{self.path} holds no documents.", "Index some first.")
        there = "; ".join(f"{maker.get('model')}: {differences(maker, facts)}" for maker in makers)
        return OtherModelError(
            f"{self.path} holds no document of {facts['model']} with these settings. It was made"
            f" with {there}.",
            "Ask with that model and those settings, or index the documents with these.",
        )


def differences(there: Facts, here: Facts) -> str:
    """What two makers do not share, named; the name of a model says nothing, its weights do."""
    named = [
        f"{name} {_short(there.get(name))} there, {_short(here.get(name))} here"
        for name in here
        if name != "model" and there.get(name) != here[name]
    ]
    return ", ".join(named) or "the same settings"


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file.", "Give a folder, new or empty.")
    if folder.is_dir() and any(path.name not in OWN for path in folder.iterdir()):
        raise IndexFolderError(
            f"{folder} holds other things than an index.", "Give a folder, new or empty."
        )


def _is_gone(row: Row, counts: dict[Path, int]) -> bool:
    """Whether a line is damaged, or names a file, or a page of one, that is not there any more."""
    if row.record is None:
        return True
    for path, pages in row.record.sources:
        if not path.exists():
            return True
        if pages:
            if path not in counts:
                counts[path] = _num_pages(path)
            if max(pages) > counts[path]:
                return True
    return False


def _num_pages(path: Path) -> int:
    try:
        return page_count(path, FileLimits())
    except SightrankError:  # unreadable now, which is not the same as gone
        return 1 << 31
