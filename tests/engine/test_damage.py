"""Damaged, cut short, of another model: never a wrong score."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import safetensors.torch

from sightrank.engine import prefix_store
from sightrank.engine.index import Index
from sightrank.errors import DamageWarning, IndexFolderError, OptionError, OtherModelError
from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.engine.conftest import LIMITS, load
from tests.engine.forks import texts
from tests.engine.looking import QUERY, check_scores, entries
from tests.tolerances import BF16_LOGIT, ENGINE


def test_every_flipped_byte_of_an_entry_is_found(ranker: Reranker, path: Path) -> None:
    (document,) = texts(1)
    ranker.index([document], path)
    (entry,) = entries(path)
    whole = entry.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    truth = ranker.score_one(QUERY, document)
    for at in [*range(header), *range(header, len(whole), 997), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        entry.write_bytes(damaged)
        with pytest.warns(DamageWarning, match="is damaged"):
            assert (
                Index(path).store.read(ranker.engine.key(ranker.encoder.document(document))) is None
            )
    with pytest.warns(DamageWarning):
        (hit,) = load(Path(ranker.name)).rank(
            QUERY, index=path
        )  # the text itself is in the catalog
    assert abs(hit.logit - truth) <= ENGINE


@pytest.mark.parametrize("length", [0, 7, 8, 100, 5000, -1])
def test_a_truncated_entry_is_found(ranker: Reranker, path: Path, length: int) -> None:
    (document,) = texts(1)
    ranker.index([document], path)
    (entry,) = entries(path)
    entry.write_bytes(entry.read_bytes()[:length])
    with pytest.warns(DamageWarning, match="is damaged"):
        (hit,) = load(Path(ranker.name)).rank(QUERY, index=path)
    assert abs(hit.logit - ranker.score_one(QUERY, document)) <= ENGINE
    assert len(Index(path).verify()) == 1
    assert entries(path) == [], "verifying removes what is bad"
    assert ranker.index([document], path).computed == 1, "and indexing makes it anew"
    check_scores(ranker, path, [document])


def test_an_entry_under_another_name_is_not_taken_for_that_one(
    ranker: Reranker, path: Path
) -> None:
    ranker.index(texts(2), path)
    first, second = entries(path)
    first.write_bytes(second.read_bytes())
    with pytest.warns(DamageWarning, match="another"):
        found = {
            hit.document.name: hit.logit for hit in load(Path(ranker.name)).rank(QUERY, index=path)
        }
    assert found == pytest.approx(
        {document.name: ranker.score_one(QUERY, document) for document in texts(2)}, abs=ENGINE
    )


def test_a_bad_entry_whose_picture_is_gone_is_left_out_by_name(
    ranker: Reranker, path: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "red.png"
    PIL.Image.new("RGB", (60, 60), "red").save(picture)
    documents = [Document.of(picture), *texts(2)]
    ranker.index(documents, path)
    place = Index(path).store
    name = place.name(ranker.engine.key(ranker.encoder.document(documents[0])))
    place.path(name).write_bytes(b"no more")
    PIL.Image.new("RGB", (60, 60), "blue").save(picture)
    for reason in ("changed", "does not exist"):
        reader = load(Path(ranker.name))
        with pytest.warns(DamageWarning):
            ranking = reader.rank(QUERY, index=path, on_error="skip")
        assert {hit.document.name for hit in ranking} == {"p0", "p1"}
        ((index, error),) = ranking.failures
        assert index == 0 and str(picture) in str(error) and reason in str(error)
        with pytest.warns(DamageWarning), pytest.raises(IndexFolderError, match="Index it again"):
            load(Path(ranker.name)).rank(QUERY, index=path)
        picture.unlink(missing_ok=True)


def test_no_flipped_byte_of_the_catalog_changes_a_document(ranker: Reranker, path: Path) -> None:
    documents = texts(3)
    ranker.index(documents, path)
    catalog = path / "catalog.sqlite"
    whole = catalog.read_bytes()
    settings, facts = ranker.engine.settings, ranker.facts()
    true = Index(path).records(settings, facts)
    written = np.flatnonzero(np.frombuffer(whole, np.uint8))  # most of the file is empty
    outcomes = set()
    for at in written[:: written.size // 600 + 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(at) % 8
        catalog.write_bytes(damaged)
        outcomes.add(outcome(path, settings, facts, true))
    assert outcomes >= {"whole", "left out", "refused"}
    catalog.write_bytes(whole)
    check_scores(ranker, path, documents)


def outcome(path: Path, settings: str, facts: dict[str, Any], true: list[Any]) -> str:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = Index(path).records(settings, facts)
    except (IndexFolderError, OptionError):
        return "refused"
    assert all(record in true for record in found)
    if {record.label for record in found} == {record.label for record in true}:
        assert len(found) == len(true)
        return "whole"
    assert caught, "documents went missing without a word"
    return "left out"


def test_a_lost_catalog_is_made_again_without_running_the_model(
    ranker: Reranker, path: Path
) -> None:
    ranker.index(texts(3), path)
    (path / "catalog.sqlite").write_bytes(b"not a database, whatever it was" * 100)
    with pytest.raises(IndexFolderError, match="remove that file"):
        ranker.rank(QUERY, index=path)
    (path / "catalog.sqlite").unlink()
    with pytest.raises(IndexFolderError, match="is not an index"):
        ranker.rank(QUERY, index=path)
    assert ranker.index(texts(3), path).computed == 0
    check_scores(ranker, path, texts(3))


def test_another_model_or_setting_is_named_and_never_read(
    ranker: Reranker, checkpoint: Path, other_checkpoint: Path, path: Path
) -> None:
    ranker.index(texts(2), path)
    others = {
        "weights": load(other_checkpoint),
        "dtype": load(checkpoint, "bfloat16"),
        "max_pixels": ranker.with_inputs(replace(LIMITS, max_pixels=56 * 56)),
        "max_length": ranker.with_inputs(replace(LIMITS, max_length=701)),
    }
    for what, other in others.items():
        with pytest.raises(OtherModelError, match=f"{what} .+ there, .+ here"):
            other.rank(QUERY, index=path)
    for other in others.values():
        assert other.index(texts(2), path).computed == 2
        check_scores_with(other, path)
    check_scores_with(ranker, path)
    assert len(entries(path)) == 10
    pruned = Index(path).prune(keep=ranker.engine.settings)
    assert (pruned.other_models, pruned.entries) == (8, 8)
    check_scores_with(ranker, path)


def check_scores_with(ranker: Reranker, path: Path) -> None:
    truth = [ranker.score_one(QUERY, document) for document in texts(2)]
    found = sorted(ranker.rank(QUERY, index=path), key=lambda hit: hit.index)
    tolerance = ENGINE if ranker.facts()["dtype"] == "float32" else BF16_LOGIT
    assert [hit.logit for hit in found] == pytest.approx(truth, abs=tolerance)


def test_an_index_has_one_precision(ranker: Reranker, path: Path, tmp_path: Path) -> None:
    ranker.index(texts(1), path, "int8")
    assert ranker.index(texts(2), path).computed == 1
    with pytest.raises(OptionError, match="at precision int8, asked for is exact"):
        ranker.index(texts(2), path, "exact")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="other things"):
        ranker.index(texts(1), tmp_path / "notes")


def test_an_entry_is_a_safetensors_file(ranker: Reranker, path: Path) -> None:
    ranker.index(texts(1), path)
    (entry,) = entries(path)
    tensors = safetensors.torch.load_file(entry)
    config = ranker.config
    length = len(ranker.encoder.document(texts(1)[0]))
    shape = (config.num_hidden_layers, length, config.num_key_value_heads, config.head_dim)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "keys": shape,
        "values": shape,
    }


def open_files() -> int:
    """How many this process has open; 0 on systems that do not say."""
    return sum(1 for _ in Path("/proc").glob("self/fd/*"))


def test_large_entries_are_mapped_and_outlive_their_file(
    ranker: Reranker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_store, "MAPPED_FROM", 0)
    documents = texts(3)
    ranker.index(documents, path)
    opened, reader = Index(path), load(Path(ranker.name))
    files = open_files()
    first = reader.rank(QUERY, index=opened)
    assert open_files() == files, "a mapping keeps no file open"
    if files:
        assert str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    for entry in entries(path):
        entry.unlink()
    again = reader.rank(QUERY, index=opened)
    assert [hit.logit for hit in again] == [hit.logit for hit in first]
    assert {hit.document.name: hit.logit for hit in again} == pytest.approx(
        {document.name: ranker.score_one(QUERY, document) for document in documents}, abs=ENGINE
    )


def test_an_entry_that_changed_since_it_was_read_is_checked_again(
    ranker: Reranker, path: Path
) -> None:
    (document,) = texts(1)
    ranker.index([document], path)
    opened, key = Index(path), ranker.engine.key(ranker.encoder.document(document))
    assert opened.store.read(key) is not None
    (entry,) = entries(path)
    damaged = bytearray(entry.read_bytes())
    damaged[-1] ^= 1
    entry.write_bytes(damaged)
    with pytest.warns(DamageWarning, match="checksum"):
        assert opened.store.read(key) is None
