"""A ranker that needs no model, and a folder of documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from sightrank.analysis.explanation import Explanation
from sightrank.analysis.select import Selection
from sightrank.errors import InputError
from sightrank.types import Document, Query, RankedDocument, Ranking

DEMO = Path(__file__).parents[2] / "demo"


@dataclass
class LengthRanker:
    """Ranks by the length of a document's name, longest first; remembers what it was asked."""

    name: str = "length"
    broken: frozenset[str] = frozenset()
    asked: list[Query] = field(default_factory=list)

    def rank(
        self,
        query: Query,
        documents: Sequence[Document] | None = None,
        top_k: int | None = None,
        *,
        index: Path | None = None,
        threshold: float | None = None,
        calibration: Path | None = None,
        diverse: float | None = None,
        diverse_by: str = "marginal",
        on_error: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> Ranking:
        assert on_error == "skip"
        assert documents is not None and index is None
        self.asked.append(query)
        names = {index: document.name or "" for index, document in enumerate(documents)}
        failures = tuple(
            (index, InputError(f"{name} is broken.", "Mend it."))
            for index, name in names.items()
            if Path(name).name in self.broken
        )
        good = names.keys() - {index for index, _ in failures}
        best = sorted(good, key=lambda index: (-len(names[index]), index))
        hits = [
            RankedDocument(rank, index, 1 / rank, 1.0 - rank, documents[index])
            for rank, index in enumerate(best, start=1)
        ]
        chosen, rejected = Selection(top_k, threshold, None).choose(hits, self.vectors)
        return Ranking(query, chosen, 7 * len(good), failures, rejected)

    def vectors(self, hits: Sequence[RankedDocument]) -> NDArray[np.float32]:
        raise AssertionError("nobody asked for variety")

    def explain(
        self, query: Query, document: Document, method: str, *, index: Path | None = None
    ) -> Explanation:
        raise NotImplementedError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of documents, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.md", "deep/er/c.txt", ".hidden/d.txt", "deep/.e.txt", "f.xyz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", encoding="utf-8")
    for name in ("p.pdf", "deep/Q.PDF", "bad.pdf"):
        (tmp_path / name).write_bytes(b"%PDF-1.4")
    return tmp_path
