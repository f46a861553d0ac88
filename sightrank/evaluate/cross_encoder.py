"""A cross-encoder of sentence-transformers as a peer: texts only, every pair run whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import CheckpointError
from sightrank.evaluate.datasets import text_of
from sightrank.evaluate.run import Progress
from sightrank.extras import require
from sightrank.types import Document, Query

BATCH = 32
CHUNK = 16 * BATCH
"""Pairs given at once: enough for the library to sort by length, few enough to show progress."""


class CrossEncoderPeer:
    """Scores texts by a folder or hub id that `sentence_transformers.CrossEncoder` loads."""

    def __init__(self, model: str) -> None:
        """Raises MissingExtraError without sentence-transformers, CheckpointError without weights."""
        require("peers", "Cross-encoders", "sentence_transformers")
        from sentence_transformers import CrossEncoder

        self.name = f"cross-encoder:{model}"
        try:
            # Code that a hub's page brings along is not run.
            self._model = CrossEncoder(model, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"cross-encoder:{model} cannot be loaded: {reason}",
                "Name a folder or a hub id of a cross-encoder.",
            ) from error
        if (labels := self._model.num_labels) != 1:
            raise CheckpointError(
                f"cross-encoder:{model} has {labels} outputs and no single relevance score.",
                "Name one with num_labels = 1.",
            )

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Progress | None = None,
    ) -> NDArray[np.float64]:
        """Logits (pairs,): a sigmoid in single precision would make ties of the best ones."""
        asked, read = [text_of(query) for query in queries], [text_of(item) for item in documents]
        values = np.empty(len(pairs))
        for start in range(0, len(pairs), CHUNK):
            rows = [[asked[query], read[document]] for query, document in pairs[start:][:CHUNK]]
            logits = self._model.predict(
                rows, batch_size=BATCH, activation_fn=_same, show_progress_bar=False
            )
            values[start : start + len(rows)] = logits
            if progress:
                progress(start + len(rows), len(pairs))
        return values


def _same(logits: object) -> object:
    return logits
