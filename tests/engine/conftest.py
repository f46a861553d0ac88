"""Two tiny checkpoints, documents of every kind, and their scores by the plain path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from sightrank.config import EngineConfig, InputConfig
from sightrank.engine.engine import Known, Pair
from sightrank.engine.index import Index
from sightrank.engine.indexing import Failures, known
from sightrank.engine.precision import Precision
from sightrank.engine.prefix_store import PrefixStore
from sightrank.inputs.segments import Segment
from sightrank.reranker import DTYPES, Reranker
from sightrank.types import Document, Query
from tests.tiny import make_checkpoint

LIMITS = InputConfig(max_length=700, max_query_length=64, max_pixels=112 * 112)
KINDS = ("text", "image", "mixed", "two images", "longest")
QUERIES = ("what was it?", "\nthe lion, at noon", "x")


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same shape with other weights: what it keeps would fit, and be wrong."""
    return make_checkpoint(tmp_path_factory.mktemp("other"), seed=1)


def load(checkpoint: Path, dtype: str = "float32", engine: EngineConfig | None = None) -> Reranker:
    return Reranker.from_pretrained(
        checkpoint, device="cpu", dtype=dtype, inputs=LIMITS, engine=engine
    )


def make_documents(folder: Path) -> dict[str, Document]:
    """One of each kind; their pictures and one text are files in `folder`."""
    random = np.random.default_rng(0)

    def picture(name: str, width: int, height: int) -> Path:
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(coarse).resize((width, height)).save(folder / name)
        return folder / name

    words = folder / "passage.txt"
    words.write_text("The lion sleeps at noon.", encoding="utf-8")
    first, second = picture("a.png", 84, 112), picture("b.png", 112, 56)
    return {
        "text": Document.of(words),
        "image": Document.of(first),
        "mixed": Document.image(second, text="A caption below.", name="captioned"),
        "two images": Document.of([second, first]),
        "longest": Document.text("Much ado about nothing. " * 200, name="long"),
    }


@dataclass(frozen=True)
class Bench:
    """Documents with their true logits, and indexes of them, in one precision of numbers."""

    checkpoint: Path
    dtype: str
    documents: dict[str, Document]
    folder: Path

    def ranker(self, engine: EngineConfig | None = None) -> Reranker:
        return load(self.checkpoint, self.dtype, engine)

    @cached_property
    def truth(self) -> dict[str, NDArray[np.float64]]:
        """kind -> logits of QUERIES behind it, by `score_one`."""
        ranker = self.ranker()
        return {
            kind: np.array([ranker.score_one(query, document) for query in QUERIES])
            for kind, document in self.documents.items()
        }

    def index(self, precision: Precision) -> Index:
        """An index of all documents, made the first time."""
        path = self.folder / f"{precision}.index"
        if not path.exists():
            self.ranker().index(list(self.documents.values()), path, precision)
        return Index(path)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    return make_documents(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="session")
def benches(
    checkpoint: Path, documents: dict[str, Document], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bench]:
    return {
        dtype: Bench(checkpoint, dtype, documents, tmp_path_factory.mktemp(dtype))
        for dtype in DTYPES
    }


@pytest.fixture(scope="session")
def bench(benches: dict[str, Bench]) -> Bench:
    return benches["float32"]


def score(
    ranker: Reranker,
    documents: Sequence[Segment | Known],
    store: PrefixStore | None = None,
) -> NDArray[np.float64]:
    """Logits (documents, QUERIES) of every query behind every document, in one request."""
    asked = [ranker.encoder.query(Query.text(query)) for query in QUERIES]
    pairs = [
        Pair(place, number, ranker.encoder.suffix(document, query))
        for place, document in enumerate(documents)
        for number, query in enumerate(asked)
    ]
    logits = ranker.engine.score(documents, asked, pairs, store=store)
    return logits.reshape(len(documents), len(QUERIES))


def indexed(ranker: Reranker, index: Index) -> dict[str, Known]:
    """kind -> the document as the index knows it."""
    records = index.records(ranker.engine.settings, ranker.facts())
    found = known(index, records, ranker.encoder, Failures("raise"))
    return dict(zip(KINDS, found.values(), strict=True))


@pytest.fixture
def ranker(checkpoint: Path) -> Reranker:
    return load(checkpoint)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pages.index"
