"""Opinions of a step: which of the documents answer each query, and how much less the rest.

A grid's labels say only that a query was made from a document. Among documents that share words a
teacher tells apart what is close from what is not, in all languages, and BM25 which rare words of the
query a document has. The two together are better than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from recipe.layout import Ints
from recipe.teacher import Teacher
from recipe.trainer import is_bf16_faster


class Taught:
    """A teacher that is read when it is first asked: in the process that makes batches."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._teacher: Teacher | None = None

    def shares(
        self, documents: Sequence[Ints], queries: Sequence[Ints], lexical: NDArray[np.float64]
    ) -> Tensor:
        """Softmax over documents of the teacher's cosines and of BM25's scores, `lexical` (documents,
        queries), each brought to one mean and spread: (documents, queries)."""
        self._teacher = self._teacher or Teacher.load()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16_faster()):
            passages = self._teacher.encode(self._texts(documents), "passage: ")
            asked = self._teacher.encode(self._texts(queries), "query: ")
        together = standard((passages @ asked.T).numpy()) + standard(lexical)
        return torch.from_numpy(together).float().softmax(dim=0)

    def _texts(self, rows: Sequence[Ints]) -> list[str]:
        return [str(self.tokenizer.decode(row.tolist())) for row in rows]


def standard(scores: NDArray[Any]) -> NDArray[Any]:
    """Each column less its mean, over its spread; nought where there is none."""
    made: NDArray[Any] = (scores - scores.mean(axis=0)) / scores.std(axis=0).clip(1e-6)
    return made
