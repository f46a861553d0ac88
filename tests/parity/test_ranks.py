"""The rebuilt Qwen2 tokenizer equals byte-pair merging by rank, done the slow way, on odd texts."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from tests.parity.test_whole import SPLIT, TEXTS

Ranks = dict[bytes, int]


@pytest.fixture(scope="module")
def rebuilt() -> tuple[Any, Ranks]:
    from recipe import tokenizer as recipe_tokenizer
    from recipe.fetch import DATA

    wheels = list((DATA / "packages").glob("dashscope-*.whl"))
    if not wheels:
        pytest.skip("Qwen's ranks are not here; fetch them with python -m recipe.fetch dashscope")
    return recipe_tokenizer.qwen_tokenizer(wheels[0]), recipe_tokenizer.read_ranks(wheels[0])


def merged(piece: bytes, ranks: Ranks) -> list[int]:
    """Merge the neighbours whose union has the lowest rank, until none has one."""
    parts = [bytes([byte]) for byte in piece]
    while True:
        unions = [(ranks.get(parts[i] + parts[i + 1]), i) for i in range(len(parts) - 1)]
        ranked = [(rank, i) for rank, i in unions if rank is not None]
        if not ranked:
            return [ranks[part] for part in parts]
        _, at = min(ranked)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_ids_equal_merging_by_rank(rebuilt: tuple[Any, Ranks], text: str) -> None:
    regex = pytest.importorskip("regex")
    tokenizer, ranks = rebuilt
    pieces = regex.findall(SPLIT, unicodedata.normalize("NFC", text))
    expected = [token for piece in pieces for token in merged(piece.encode(), ranks)]
    assert tokenizer.encode(text).ids == expected
