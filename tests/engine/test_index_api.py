"""`Reranker.index`, `Reranker.rank(index=...)` and `Index` as a program uses them."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pytest

from sightrank import Index
from sightrank.config import EngineConfig
from sightrank.engine.catalog import Catalog, Row
from sightrank.errors import DamageWarning, IndexFolderError, OptionError
from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.engine.conftest import Bench, load
from tests.engine.forks import texts
from tests.engine.looking import QUERY, check_scores, entries
from tests.tolerances import ENGINE


@pytest.mark.parametrize("given", [{}, {"documents": ["a"], "index": "b"}])
def test_rank_takes_documents_or_an_index(ranker: Reranker, given: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="documents or an index"):
        ranker.rank("q", **given)  # type: ignore[arg-type]


def test_a_ranking_from_an_index_is_that_of_its_documents(bench: Bench) -> None:
    ranker, documents = bench.ranker(), list(bench.documents.values())
    plain = ranker.rank(QUERY, documents)
    found = load(bench.checkpoint).rank(QUERY, index=bench.index("exact"))
    assert [(hit.rank, hit.index) for hit in found] == [(hit.rank, hit.index) for hit in plain]
    assert [hit.logit for hit in found] == pytest.approx([hit.logit for hit in plain], abs=ENGINE)
    assert found.total_tokens == plain.total_tokens
    for hit in found:
        assert hit.document == documents[hit.index], "it can be loaded and shown as before"
    assert len(ranker.rank(QUERY, index=bench.index("exact").path, top_k=2)) == 2


def test_progress_counts_what_is_safe(checkpoint: Path, path: Path) -> None:
    ranker = load(checkpoint, engine=EngineConfig(batch_tokens=256))
    seen: list[tuple[int, int, int]] = []

    def note(done: int, total: int) -> None:
        held = len(Index(path))
        seen.append((done, total, held))

    ranker.index(texts(60), path, progress=note)
    assert all(done == held for done, _, held in seen) and seen[-1] == (60, 60, 60)
    assert len({done for done, _, _ in seen}) > 2, "batches are acknowledged one by one"


def test_documents_in_memory_are_kept_without_their_pixels(ranker: Reranker, path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (60, 60), "red").save(buffer, "png")
    green = PIL.Image.new("RGB", (60, 60), "green")
    documents = [
        Document.image(buffer.getvalue(), name="red"),
        Document.image(green, text="grass", name="green"),
        Document.of(green),
    ]
    ranker.index(documents, path)
    truth = [ranker.score_one(QUERY, document) for document in documents]
    found = sorted(load(Path(ranker.name)).rank(QUERY, index=path), key=lambda hit: hit.index)
    assert [hit.logit for hit in found] == pytest.approx(truth, abs=ENGINE)
    assert [hit.document.name for hit in found] == ["red", "green", None]
    for entry in entries(path):
        entry.write_bytes(b"no more")
    with pytest.warns(DamageWarning), pytest.raises(IndexFolderError, match="read again"):
        load(Path(ranker.name)).rank(QUERY, index=path)


def test_one_content_under_two_names_is_kept_once(ranker: Reranker, path: Path) -> None:
    documents = [Document.text("the same", name=name) for name in "ab"]
    report = ranker.index(documents, path)
    assert (report.computed, report.found) == (1, 1)
    assert len(entries(path)) == 1 and len(Index(path)) == 2
    check_scores(ranker, path, documents)


def test_two_contents_under_one_name_are_refused(ranker: Reranker, path: Path) -> None:
    documents = [Document.text(text, name="same") for text in ("one", "two")]
    with pytest.raises(OptionError, match="Two documents are named same"):
        ranker.index(documents, path)
    report = ranker.index(documents, path, on_error="skip")
    assert [place for place, _ in report.failures] == [1]
    assert [held.record.document for held in Index(path).documents()] == documents[:1]


def test_a_caption_makes_another_document_of_a_picture(
    ranker: Reranker, path: Path, tmp_path: Path
) -> None:
    PIL.Image.new("RGB", (60, 60), "red").save(tmp_path / "red.png")
    documents = [Document.image(tmp_path / "red.png", text=text) for text in ("one", "two")]
    assert ranker.index(documents, path).computed == 2
    assert len(Index(path)) == 2


def test_unreadable_documents_are_raised_or_reported(ranker: Reranker, path: Path) -> None:
    documents = [Path("gone.png"), "fine"]
    with pytest.raises(Exception, match=r"gone\.png"):
        ranker.index(documents, path)
    report = ranker.index(documents, path, on_error="skip")
    assert report.computed == 1
    assert [(place, "gone.png" in str(error)) for place, error in report.failures] == [(0, True)]


def test_an_open_index_sees_what_others_add_and_reads_the_catalog_only_then(
    ranker: Reranker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker.index(texts(2), path)
    opened, rows = Index(path), Catalog.rows
    reads: list[Catalog] = []

    def counted(catalog: Catalog) -> list[Row]:
        reads.append(catalog)
        return rows(catalog)

    monkeypatch.setattr(Catalog, "rows", counted)
    for _ in range(3):
        assert len(ranker.rank(QUERY, index=opened)) == 2
    ranker.index(texts(5), path)
    assert len(ranker.rank(QUERY, index=opened)) == 5
    assert len(reads) == 2


def test_a_store_is_looked_into_once_for_what_memory_then_holds(
    ranker: Reranker, path: Path
) -> None:
    ranker.index(texts(3), path)
    reader, opened = load(Path(ranker.name)), Index(path)
    first = reader.rank(QUERY, index=opened)
    opened.store.read = None  # type: ignore[method-assign, assignment]
    assert [hit.logit for hit in reader.rank(QUERY, index=opened)] == [hit.logit for hit in first]
