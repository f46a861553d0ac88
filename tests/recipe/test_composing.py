"""Words of several tokens: which count, what they are taught to be, and layers that begin as nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from recipe import words
from recipe.composing import Composing, ComposingConfig
from recipe.layout import Special
from recipe.pack import Ragged, TextPack
from recipe.start import WIRED, fresh
from recipe.words import WordPack, choose, count_words, is_word
from sightrank.config import ModelConfig
from sightrank.model.multimodal import RerankerModel

TEXTS = ("fox", "Hund", "собака")


@pytest.fixture
def known(tokenizer: Tokenizer) -> WordPack:
    """Three words of bytes, each with a row of its own."""
    rows = np.random.default_rng(3).normal(size=(3, 384)).astype(np.float32)
    scales = np.abs(rows).max(axis=1) / 127
    spaced, bare = (
        Ragged.of([tokenizer.encode(before + text).ids for text in TEXTS]) for before in (" ", "")
    )
    weights = np.array([0.5, 0.3, 0.2], np.float32)
    small = np.round(rows / scales[:, None]).astype(np.int8)
    return WordPack(spaced, bare, weights, small, scales)


@pytest.fixture
def task(pack: TextPack, known: WordPack, tokenizer: Tokenizer, special: Special) -> Composing:
    return Composing(pack, known, tokenizer, ComposingConfig(rows=3, tokens=40), special)


@pytest.fixture
def deep(config: ModelConfig, pack: TextPack) -> RerankerModel:
    """Two layers more than rank."""
    deeper = replace(config, num_hidden_layers=WIRED + 2)
    return fresh(deeper, torch.from_numpy(pack.vectors), query_word=ord("Q"))


def test_words_are_runs_of_letters_of_scripts_that_part_them() -> None:
    counts = count_words(["Der Hund, der Hund; собака собака 狗狗 狗狗 ab ab x1 x1", "Katze"])
    assert counts == {"Hund": 2, "собака": 2}
    assert not is_word("ประเทศ")
    assert is_word("대한민국")
    assert not is_word("a" * 25)


def test_both_sources_have_half_and_the_weightiest_stay() -> None:
    chosen = choose({"often": 900.0, "seldom": 1.0}, {"web": 1.0, "often": 1.0}, most=2)
    assert list(chosen) == ["often", "web"]
    assert chosen["often"] == pytest.approx(30 / 31 + 0.5)


def test_what_is_saved_is_read_again(known: WordPack, tmp_path: Path) -> None:
    known.save(tmp_path / "words.npz")
    again = WordPack.load(tmp_path / "words.npz")
    assert np.array_equal(again.words[2], known.words[2])
    assert np.array_equal(again.bare[1], known.bare[1])
    assert np.array_equal(again.rows, known.rows)


def test_each_word_is_taught_at_its_last_token(
    task: Composing, known: WordPack, tokenizer: Tokenizer
) -> None:
    row = task.row(np.random.default_rng(0))
    text = tokenizer.decode(row.tokens.tolist())
    assert len(row.ends) > 3
    for end, word in zip(row.ends, row.words, strict=True):
        assert tokenizer.decode(row.tokens[: end + 1].tolist()).endswith(TEXTS[word])
    assert not set(row.ends) & set(row.kept)
    assert len(row.ends) + len(row.kept) <= len(row.tokens)
    assert any(name in text for name in TEXTS)


def test_held_out_words_are_not_drawn_in_training(task: Composing) -> None:
    rng = np.random.default_rng(0)
    drawn = {int(word) for _ in range(20) for word in task.row(rng).words}
    assert drawn == {1, 2}  # every HELD_OUT-th, the first among them, is kept
    assert {int(word) for _ in range(5) for word in task.row(rng, valid=True).words} == {0}


def test_layers_that_compose_begin_as_nothing(task: Composing, deep: RerankerModel) -> None:
    before, states = task.states(deep, torch.randint(0, 200, (2, 30)))
    assert torch.equal(before, states)


def test_they_learn_words_and_leave_the_rest(task: Composing, deep: RerankerModel) -> None:
    composing = ("model.layers.0.", "model.layers.1.")
    for name, weight in deep.named_parameters():
        weight.requires_grad_(name.startswith(composing))
    learning = [weight for weight in deep.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=2e-3)
    rng = np.random.default_rng(0)
    course = []
    for _ in range(60):
        loss, figures = task.loss(deep, task.batch([task.row(rng) for _ in range(3)]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        course.append(figures)
    assert course[0]["words"] > 0.9
    assert course[-1]["words"] < 0.3
    assert course[-1]["kept"] < 0.1
    with torch.inference_mode():
        figures = task.validate(deep)
    assert figures["cosine_shown"] > 0.7
    assert figures["pieces_cosine_shown"] < 0.2


def test_cells_of_grids_are_to_stay(task: Composing, deep: RerankerModel) -> None:
    loss, figures = task.loss(deep, task.grid_batch(np.random.default_rng(1)))
    assert figures["cells"] == pytest.approx(0.0, abs=1e-5)
    assert loss.requires_grad


def test_rows_lie_where_the_vocabulary_s_do(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    asked: dict[str, Any] = {}

    def rows(_: Any, surfaces: list[str], common: np.ndarray, generator: Any) -> np.ndarray:
        asked["surfaces"], asked["common"] = surfaces, common
        return np.arange(len(surfaces) * 2, dtype=float).reshape(-1, 2)

    monkeypatch.setattr(words, "surface_rows", rows)
    found = words.word_rows(None, tokenizer, [" fox"])  # type: ignore[arg-type]
    assert asked["surfaces"][-1] == " fox"
    assert not asked["common"][-1]
    assert asked["common"].any()
    assert found.shape == (1, 2)
    assert np.sqrt((found**2).mean()) == pytest.approx(1.0)
