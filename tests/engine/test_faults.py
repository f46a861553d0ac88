"""Killed, crowded, out of room: nothing acknowledged is lost."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest

from sightrank.engine import catalog
from sightrank.engine.index import Index, Pruned
from sightrank.errors import DiskFullError, IndexFolderError
from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.disk import small_disk
from tests.engine import forks
from tests.engine.conftest import load
from tests.engine.forks import texts
from tests.engine.looking import check_scores, entries, leftovers


def in_forks(mode: str, checkpoint: Path, path: Path) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, "-m", forks.__name__, mode, str(checkpoint), str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    assert report["lost"] == [], found.stderr
    return report


def test_killed_50_times_nothing_acknowledged_is_lost(
    ranker: Reranker, checkpoint: Path, path: Path
) -> None:
    report = in_forks("killed", checkpoint, path)
    assert report["died"] == forks.KILLS
    assert 0 < report["acknowledged"] <= report["documents"]
    documents = texts(report["documents"])
    resumed = ranker.index(documents, path)
    assert resumed.computed <= report["documents"] - report["acknowledged"]
    assert leftovers(path) == []
    assert Index(path).verify() == {}
    check_scores(ranker, path, documents)


def test_writers_at_once_and_someone_pruning(
    ranker: Reranker, checkpoint: Path, path: Path
) -> None:
    report = in_forks("crowd", checkpoint, path)
    assert report["statuses"] == [0, 0, 0]
    assert len(entries(path)) == 24
    assert Index(path).verify() == {}
    check_scores(ranker, path, texts(24))


def test_a_writer_that_never_ends_is_an_error_in_the_end(
    ranker: Reranker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker.index(texts(1), path)
    monkeypatch.setattr(catalog, "PATIENCE", 0.1)
    with (
        catalog.Catalog(path).writing(),
        pytest.raises(IndexFolderError, match=r"has been writing .+ for 0\.1 s"),
    ):
        check_scores(ranker, path, texts(1))  # reading goes on meanwhile
        ranker.index(texts(2), path)
    check_scores(ranker, path, texts(1))


def test_an_entry_pruned_between_finding_it_and_naming_it_is_made_again(
    ranker: Reranker, path: Path
) -> None:
    ranker.index([Document.text("first", name="a")], path)
    ranker.index([Document.text("second", name="a")], path)  # leaves an entry without a document
    assert len(entries(path)) == 2
    pruned: list[Pruned] = []

    def prune(done: int, total: int) -> None:
        if not pruned:  # the document has been looked for, and waits
            pruned.append(Index(path).prune())

    again = Document.text("first", name="b")
    report = ranker.index([again], path, progress=prune)
    assert pruned[0].entries == 1 and report.computed == 1
    check_scores(ranker, path, [Document.text("second", name="a"), again])


class FullFile:
    """A file on a disk that takes `room` more bytes."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        self.file.write(content[: self.room])
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail(code: int) -> Callable[..., None]:
    def raises(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return raises


@pytest.mark.parametrize("place", ["write", "fsync", "rename"])
def test_a_full_disk_is_an_error_and_loses_nothing(
    ranker: Reranker, path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    held, more = texts(3), texts(6)
    ranker.index(held, path)
    before = entries(path)
    opened = Path.open
    with monkeypatch.context() as patch:
        if place == "write":
            patch.setattr(
                Path, "open", lambda *given: FullFile(cast("IO[bytes]", opened(*given)), 100)
            )
        elif place == "fsync":
            patch.setattr(os, "fsync", fail(errno.EDQUOT))
        else:
            patch.setattr(Path, "rename", fail(errno.ENOSPC))
        with pytest.raises(DiskFullError, match="disk is full"):
            ranker.index(more, path)
    assert entries(path) == before and leftovers(path) == []
    check_scores(ranker, path, held)
    assert ranker.index(more, path).computed == 3
    check_scores(ranker, path, more)


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 1) as folder:
        yield folder


def test_a_disk_that_is_really_full(checkpoint: Path, full_soon: Path) -> None:
    path = full_soon / "pages.index"
    ranker, documents = load(checkpoint), texts(60)
    ranker.index(documents[:5], path)
    with pytest.raises(DiskFullError):
        for document in documents:
            ranker.index([document], path)
    assert Index(path).verify() == {}
    assert len(Index(path)) > 5
    check_scores(ranker, path, documents[: len(Index(path))])


def test_a_read_only_index_is_ranked_from(ranker: Reranker, full_soon: Path) -> None:
    path, documents = full_soon / "pages.index", texts(3)
    ranker.index(documents, path)
    subprocess.run(["mount", "-o", "remount,ro", str(full_soon)], check=True)
    check_scores(ranker, path, documents)
    assert Index(path).verify() == {}
    with pytest.raises(IndexFolderError, match="cannot be"):
        ranker.index(texts(4), path)


def test_a_folder_whose_maker_was_killed_at_once_is_taken_up(ranker: Reranker, path: Path) -> None:
    path.mkdir()
    (path / "catalog.sqlite").touch()
    with pytest.raises(IndexFolderError, match="is not an index"):
        Index(path)
    ranker.index(texts(2), path)
    check_scores(ranker, path, texts(2))


def test_a_full_disk_under_the_catalog(
    ranker: Reranker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = texts(2)
    ranker.index(held, path)
    connect = sqlite3.connect

    def small(*given: Any, **named: Any) -> Any:
        connection = connect(*given, **named)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    long = [Document.text("word " * 4000, name=str(at)) for at in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        with pytest.raises(DiskFullError):
            ranker.index(long, path)
    check_scores(ranker, path, held)
    assert ranker.index(long, path).computed == 0, "the entries were written before the catalog"
    check_scores(ranker, path, held + long)


def test_pruning_removes_what_is_gone_and_says_what_that_frees(
    ranker: Reranker, path: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"{name}.txt" for name in "abc"]
    for file in files:
        file.write_text(f"text of {file.name}", encoding="utf-8")
    ranker.index(files, path)
    files[0].unlink()
    files[1].write_text("another text", encoding="utf-8")
    ranker.index(files[1:], path)
    (path / "unfinished" / "dead").write_bytes(b"x" * 1000)
    before = sum(entry.stat().st_size for entry in entries(path)) + 1000
    pruned = Index(path).prune()
    assert (pruned.gone, pruned.other_models, pruned.entries) == (1, 0, 2)
    assert pruned.num_bytes == before - sum(entry.stat().st_size for entry in entries(path))
    check_scores(ranker, path, [Document.of(file) for file in files[1:]])
