"""Indexes as the tests of faults look at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightrank.reranker import Reranker
from sightrank.types import Document
from tests.engine.arrangements import forbid_images
from tests.engine.conftest import load
from tests.tolerances import ENGINE

QUERY = "what number?"


def entries(path: Path) -> list[Path]:
    return sorted(path.glob("entries/*/*"))


def leftovers(path: Path) -> list[Path]:
    return list(path.glob("unfinished/*"))


def check_scores(ranker: Reranker, path: Path, documents: list[Document]) -> None:
    """All documents come out of the index alone, with the scores of the plain path."""
    truth = {document.name: ranker.score_one(QUERY, document) for document in documents}
    reader = load(Path(ranker.name))
    forbid_images(reader)
    found = {hit.document.name: hit.logit for hit in reader.rank(QUERY, index=path)}
    assert found == pytest.approx(truth, abs=ENGINE)
