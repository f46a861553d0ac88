"""Rank passages, images and PDF pages by relevance to a query.

from sightrank import Reranker
for hit in Reranker.from_pretrained().rank("query", ["a passage", "another"]):
    print(hit.rank, hit.score, hit.document)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sightrank._version import VERSION as __version__

if TYPE_CHECKING:
    from sightrank.analysis.calibrate import Calibration
    from sightrank.config import EngineConfig, InputConfig
    from sightrank.engine.index import Index
    from sightrank.errors import SightrankError
    from sightrank.reranker import Reranker
    from sightrank.types import Document, Query, RankedDocument, Ranking

_HOMES = {
    "Calibration": "sightrank.analysis.calibrate",
    "Index": "sightrank.engine.index",
    "Reranker": "sightrank.reranker",
    "Document": "sightrank.types",
    "Query": "sightrank.types",
    "RankedDocument": "sightrank.types",
    "Ranking": "sightrank.types",
    "EngineConfig": "sightrank.config",
    "InputConfig": "sightrank.config",
    "SightrankError": "sightrank.errors",
}

__all__ = [
    "Calibration",
    "Document",
    "EngineConfig",
    "Index",
    "InputConfig",
    "Query",
    "RankedDocument",
    "Ranking",
    "Reranker",
    "SightrankError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import what is asked for only then: `import sightrank` loads neither torch nor numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sightrank' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
