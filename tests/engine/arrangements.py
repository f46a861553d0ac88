"""Ways to ask for one document's scores, alone and among others. Run, it asks in a new process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sightrank.config import EngineConfig
from sightrank.engine.engine import Known
from sightrank.engine.index import Index
from sightrank.engine.prefix_store import PrefixStore
from sightrank.inputs.segments import Segment
from sightrank.reranker import Reranker
from tests.engine.conftest import KINDS, indexed, load, score

ARRANGEMENTS = ("alone", "packed", "other order", "split over two batches")
SPLIT_TOKENS = 700
"""Three short documents with their patches go together, then two more with the longest."""


def config(arrangement: str, cache_bytes: int = 1 << 30) -> EngineConfig:
    split = arrangement == "split over two batches"
    return EngineConfig(batch_tokens=SPLIT_TOKENS if split else 8192, cache_bytes=cache_bytes)


def ask(
    ranker: Reranker,
    documents: Mapping[str, Segment | Known],
    arrangement: str,
    kind: str,
    store: PrefixStore | None = None,
) -> NDArray[np.float64]:
    """Logits of all queries behind `kind`."""
    kinds = [kind] if arrangement == "alone" else list(KINDS)
    if arrangement == "other order":
        kinds.reverse()
    logits = score(ranker, [documents[each] for each in kinds], store)
    answer: NDArray[np.float64] = logits[kinds.index(kind)]
    return answer


def main(checkpoint: str, jobs: list[str]) -> None:
    """Print {job: {arrangement: {kind: logits}}} out of indexes alone; a job is DTYPE:PATH."""
    print(json.dumps({job: answers(Path(checkpoint), *job.split(":", 1)) for job in jobs}))


def answers(checkpoint: Path, dtype: str, path: str) -> dict[str, dict[str, list[float]]]:
    """{arrangement: {kind: logits}} out of an index alone."""
    index, found = Index(path), {}
    for arrangement in ARRANGEMENTS:
        ranker = load(checkpoint, dtype, config(arrangement))
        forbid_images(ranker)
        documents = indexed(ranker, index)
        found[arrangement] = {
            kind: ask(ranker, documents, arrangement, kind, index.store).tolist() for kind in KINDS
        }
    return found


def forbid_images(ranker: Reranker) -> None:
    """No file is read and the vision tower does not run, or there is an error."""
    ranker.encoder.document = ranker.runner.see = None  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
