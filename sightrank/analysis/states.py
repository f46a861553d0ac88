"""One vector a document out of what the engine keeps of it, whatever the query."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightrank.engine.index import Index
from sightrank.engine.indexing import Failures, known
from sightrank.types import Document, RankedDocument

if TYPE_CHECKING:
    from sightrank.engine.engine import Known
    from sightrank.inputs.segments import Segment
    from sightrank.reranker import Reranker

AT_ONCE = 16
"""Documents whose pixels are held at once."""


def document_vectors(ranker: Reranker, documents: Sequence[Document | Any]) -> NDArray[np.float32]:
    """(documents, d): the mean over a document's tokens of the first layer's values.

    Values know no positions, so this says what stands in a document and not where. The first layer,
    because it told documents apart best (benchmarks/dedup.py). What the engine has in
    memory is not run again. Raises InputError.
    """
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(documents), AT_ONCE):
        batch = documents[start : start + AT_ONCE]
        rows += _means(ranker, [ranker.encoder.document(Document.of(each)) for each in batch])
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def indexed_vectors(ranker: Reranker, index: Index, places: Sequence[int]) -> NDArray[np.float32]:
    """The same of documents in an index, by their places, from disk; the model runs only for
    damaged entries. Raises IndexFolderError, OtherModelError."""
    records = index.records(ranker.engine.settings, ranker.facts())
    chosen = known(index, [records[at] for at in places], ranker.encoder, Failures("raise"))
    return np.stack(_means(ranker, list(chosen.values()), index))


def hit_vectors(
    ranker: Reranker, index: Index | str | Path | None, hits: Sequence[RankedDocument]
) -> NDArray[np.float32]:
    """The same of ranked documents."""
    if index is None:
        return document_vectors(ranker, [hit.document for hit in hits])
    return indexed_vectors(ranker, Index.of(index), [hit.index for hit in hits])


def _means(
    ranker: Reranker, documents: Sequence[Segment | Known], index: Index | None = None
) -> list[NDArray[np.float32]]:
    store = None if index is None else index.store
    means: list[NDArray[np.float32]] = []
    for prefix in ranker.engine.prefixes(documents, store):
        if prefix is not None:
            means.append(prefix.values[0].float().mean(dim=0).flatten().cpu().numpy())
    return means


def centred(vectors: NDArray[np.float32], kinds: Sequence[object] = ()) -> NDArray[np.float32]:
    """Unit vectors of what sets documents apart: less the mean of all, or of each kind's own.

    Vectors of one model all point nearly the same way; what they share says nothing.
    """
    result = vectors.copy()
    labels = np.array([str(kind) for kind in kinds] or [""] * len(vectors))
    for label in set(labels.tolist()):
        rows = labels == label
        if rows.sum() > 1:
            result[rows] -= result[rows].mean(axis=0)
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    unit: NDArray[np.float32] = result / np.maximum(lengths, 1e-9)
    return unit
