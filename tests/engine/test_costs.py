"""What a document costs on disk is what is announced, and what the README says of a page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sightrank.cli.output import readable_bytes
from sightrank.config import ModelConfig
from sightrank.engine.precision import PRECISIONS, Precision, Shape, packed_bytes
from sightrank.inputs.images import ImagePatches
from sightrank.inputs.segments import Segment
from sightrank.types import Document
from tests.engine.conftest import Bench, indexed
from tests.int8 import here

README = Path(__file__).parents[2] / "README.md"
HEADER_BYTES = 1000
"""More than any entry's header."""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_estimate_is_what_an_index_takes(
    benches: dict[str, Bench], precision: Precision
) -> None:
    for each in (bench for dtype, bench in benches.items() if here(dtype)):
        ranker, index = each.ranker(), each.index(precision)
        shape = Shape.of(ranker.config, ranker.dtype)
        documents = each.documents.values()
        for document, held in zip(documents, index.documents(), strict=True):
            announced = packed_bytes(ranker.encoder.document(document), shape, precision)
            assert announced < held.num_bytes < announced + HEADER_BYTES
        expected = ranker.estimate(list(documents), precision)
        total = sum(held.num_bytes for held in index.documents())
        assert expected is not None and expected < total < expected + HEADER_BYTES * len(documents)


def test_features_keep_nothing_of_a_text_but_ids_and_positions(bench: Bench) -> None:
    index = bench.index("features")
    ranker = bench.ranker()
    known = indexed(ranker, index)["longest"]
    tensors = index.store.read(ranker.engine.key(known))
    assert tensors is not None
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "ids": (len(known),),
        "positions": (3, len(known)),
        "tokens": (0, ranker.config.hidden_size),
    }


def test_the_readme_says_what_a_page_of_m0_takes() -> None:
    """768 visual tokens between two marks and the 9 tokens of the fixed text."""
    length, grid = 768 + 2 + 9, (48, 64)
    page = ImagePatches(np.zeros((48 * 64, 588), np.uint8), grid)
    segment = Segment(np.zeros(length, np.int32), np.zeros((3, length), np.int32), (page,), length)
    rows = re.findall(
        r"^\| `(\w+)` \|.*?\| ([\d.]+ MB) \| ([\d.]+ TB) \|", README.read_text(), re.M
    )
    shape = Shape.of(ModelConfig(), torch.bfloat16)
    assert dict.fromkeys(PRECISIONS) == dict.fromkeys(row[0] for row in rows)
    for precision, mean, million in rows:
        size = packed_bytes(segment, shape, precision)
        assert (readable_bytes(size), readable_bytes(size * 1_000_000)) == (mean, million)


def test_an_estimate_of_nothing_readable_is_none(bench: Bench) -> None:
    assert bench.ranker().estimate([Document.of(Path("gone.png"))], "exact") is None
