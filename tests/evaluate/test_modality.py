"""The modality gap: of scorers whose gap is known, and of a tiny model as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sightrank.errors import InputError
from sightrank.evaluate.modality import load, measure
from sightrank.types import Document, Query, Text, TextFile
from tests.command import status

NAMES = ("fox", "owl", "dog")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three animals, each in words and in colour, and a query for each."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        (folder / f"{name}.txt").write_text(f"This is about a {name}.")
        Image.new("RGB", (56, 56), (80 * number, 90, 120)).save(folder / f"{name}.png")
    rows = [{"query": f"where is the {name}?", "relevant": name} for name in NAMES]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@dataclass
class Biased:
    """Knows every answer, and takes `bias` off a relevant picture and `other` off any other."""

    bias: float
    other: float = 0.0
    name: str = "biased"

    def score_matrix(
        self,
        queries: Sequence[Query],
        documents: Sequence[Document],
        pairs: Sequence[tuple[int, int]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float64]:
        return np.array([self.score(queries[q], documents[d]) for q, d in pairs])

    def score(self, query: Query, document: Document) -> float:
        part = query.parts[0]
        assert isinstance(part, Text)
        relevant = Path(document.name or "").stem in part.text
        off = self.bias if relevant else self.other
        return 3.0 * relevant - (0.0 if isinstance(document.parts[0], TextFile) else off)


@pytest.mark.parametrize(
    ("bias", "other", "loses"), [(0, 0, 0.0), (2.5, 1, 0.0), (3.5, -0.25, 1.0), (-2, 0, 0.0)]
)
def test_a_known_gap_is_measured(pairs: Path, bias: float, other: float, loses: float) -> None:
    found = measure(Biased(bias, other), load(pairs))
    assert found.relevant == pytest.approx(bias) and found.irrelevant == pytest.approx(other)
    assert found.relevant_error == pytest.approx(0)
    assert found.picture_loses == loses
    assert (found.text_loses, found.text_loses_to_texts) == (0, 0)
    assert (found.num_pairs, found.num_queries, found.derived) == (3, 3, False)


def test_a_picture_may_lose_to_pictures_alone(pairs: Path) -> None:
    found = measure(Biased(3.5, -0.75), load(pairs))
    assert found.picture_loses_to_pictures == 1 and found.text_loses == 0


def test_without_queries_the_first_words_ask(pairs: Path) -> None:
    (pairs / "queries.jsonl").unlink()
    task = load(pairs)
    assert task.derived
    assert [query.parts[0] for query, _ in task.queries] == [
        Text(f"This is about a {name}.") for name in sorted(NAMES)
    ]
    assert measure(Biased(1), task).relevant == pytest.approx(1)


def test_the_command_measures_any_model(
    pairs: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("doctor", "--modality-gap", pairs, "--model", checkpoint)
    assert status(*arguments, "--json") == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert printed["num_pairs"] == 3 and np.isfinite(printed["relevant"])
    assert status(*arguments) == 0
    out = capsys.readouterr().out
    assert f"{printed['relevant']:+.2f}" in out and "queries.jsonl" in out


def spoil_partner(folder: Path) -> None:
    (folder / "fox.png").unlink()


def spoil_twice(folder: Path) -> None:
    (folder / "fox.pdf").write_bytes(b"%PDF-")


def spoil_most(folder: Path) -> None:
    for name in ("fox", "owl"):
        (folder / f"{name}.png").unlink()
        (folder / f"{name}.txt").unlink()


def spoil_line(folder: Path) -> None:
    (folder / "queries.jsonl").write_text('\n{"query": "x", "relevant": "cat"}')


def spoil_lines(folder: Path) -> None:
    (folder / "queries.jsonl").write_text("\n")


def spoil_text(folder: Path) -> None:
    (folder / "queries.jsonl").unlink()
    (folder / "fox.txt").write_text(" \n")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_partner, "fox has no picture"),
        (spoil_twice, "two pictures of fox"),
        (spoil_most, "holds 1 pairs"),
        (spoil_line, "line 2: relevant is 'cat'"),
        (spoil_lines, "has no lines"),
        (spoil_text, "nothing but white space"),
    ],
)
def test_a_folder_that_will_not_do_is_named(
    pairs: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    spoil(pairs)
    with pytest.raises(InputError, match=problem):
        load(pairs)


def test_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "gone")
