"""The teacher's opinion of a step: which of the documents answer each query, and how much less the rest.

A grid's labels say only that a query was made from a document. Among documents that share words the
teacher tells apart what is close from what is not, in all languages.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from torch import Tensor

from recipe.layout import Ints
from recipe.teacher import Teacher

TEMPERATURE = 0.03
"""Cosines of the teacher lie close together, between 0.7 and 0.9: this sets how much a hundredth counts."""


class Taught:
    """A teacher that is read when it is first asked: in the process that makes batches."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._teacher: Teacher | None = None

    def shares(self, documents: Sequence[Ints], queries: Sequence[Ints]) -> Tensor:
        """Softmax over documents of their cosines to each query: (documents, queries)."""
        self._teacher = self._teacher or Teacher.load()
        passages = self._teacher.encode(self._texts(documents), "passage: ")
        asked = self._teacher.encode(self._texts(queries), "query: ")
        return (passages @ asked.T / TEMPERATURE).softmax(dim=0)

    def _texts(self, rows: Sequence[Ints]) -> list[str]:
        return [str(self.tokenizer.decode(row.tolist())) for row in rows]
