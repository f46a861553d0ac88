"""A tiny model to train, and groups with every kind of document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank.config import InputConfig
from sightrank.inputs.segments import Encoder
from sightrank.train.records import Candidate, Group
from sightrank.types import Document, Query
from sightrank.weights import Checkpoint

LIMITS = InputConfig(max_length=300, max_query_length=64, max_pixels=84 * 84)


def picture(seed: int, width: int, height: int) -> PIL.Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height))


FIRST, SECOND, THIRD = picture(0, 84, 56), picture(1, 56, 84), picture(2, 56, 56)
DOCUMENTS = {
    "text": Document.text("The lion sleeps at noon."),
    "image": Document.image(FIRST),
    "mixed": Document.of(["Before: ", SECOND, "a caption"]),
    "two": Document.of([FIRST, THIRD]),
    "long": Document.text("Much ado about nothing. " * 6),
}
QUERIES = {
    "text": Query.text("what was it?"),
    "break": Query.text("\nthe lion, at noon"),  # takes the place of the prefix's last token
    "image": Query.image(THIRD),
    "mixed": Query.of([SECOND, "like this one"]),
}


def make_groups(queries: dict[str, Query], documents: dict[str, Document]) -> list[Group]:
    """Every query with all documents, each relevant to one query."""
    return [
        Group(
            name,
            query,
            tuple(
                Candidate(key, document, float(number % len(queries) == place), number - place)
                for number, (key, document) in enumerate(documents.items())
            ),
        )
        for place, (name, query) in enumerate(queries.items())
    ]


@pytest.fixture(scope="session")
def encoder(checkpoint: Path) -> Encoder:
    from sightrank.config import ModelConfig

    return Encoder.from_folder(
        checkpoint, ModelConfig.from_file(checkpoint / "config.json"), LIMITS
    )


@pytest.fixture
def loaded(checkpoint: Path) -> Checkpoint:
    """Fresh for every test, which may train it."""
    import torch

    from sightrank.weights import load

    return load(checkpoint, torch.device("cpu"), None)
