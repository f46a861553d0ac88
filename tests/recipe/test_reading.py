"""Rendered pages know where each character stands, and a run that was cut short goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from recipe.fonts import Fonts
from recipe.pack import TextPack
from recipe.reading import Reader, Reading, ReadingConfig
from recipe.render import Page, render_crop, render_letters, render_page, render_passage
from recipe.render import token_targets as targets
from recipe.trainer import Batch, TrainConfig, Trainer
from sightrank.model.multimodal import RerankerModel
from tests.recipe.conftest import SENTENCES

TEXT = " ".join(SENTENCES)


@pytest.fixture(scope="module")
def fonts(fonts_folder: Path) -> Fonts:
    return Fonts.discover(fonts_folder)


def pages(fonts: Fonts, seed: int) -> Iterator[Page]:
    rng = random.Random(seed)
    yield render_crop(TEXT, rng, fonts)
    yield render_letters(TEXT, rng, fonts)
    yield render_page("A title", SENTENCES, rng, fonts, width=448, height=560)
    yield render_passage(TEXT, rng, fonts)


@pytest.mark.parametrize("seed", range(6))
def test_a_page_places_every_character_it_prints(fonts: Fonts, seed: int) -> None:
    for page in pages(fonts, seed):
        height, width, channels = page.pixels.shape
        assert height % 28 == width % 28 == 0
        assert channels == 3
        assert len(page.places) == len(page.text)
        printed = ~np.isnan(page.places[:, 0])
        assert all(
            not char.isspace() for char, there in zip(page.text, printed, strict=True) if there
        )
        assert printed.sum() > 10


@pytest.mark.parametrize("seed", range(6))
def test_there_is_ink_where_characters_are_placed(fonts: Fonts, seed: int) -> None:
    for page in pages(fonts, seed):
        contrast = np.abs(page.pixels.astype(int) - np.median(page.pixels, axis=(0, 1))).sum(axis=2)
        assert contrast.max() > 60
        letters = [i for i, char in enumerate(page.text) if char.isalpha()]
        inked = 0
        inside = 0
        for x, y in page.places[letters]:
            if 8 <= x < page.pixels.shape[1] - 8 and 8 <= y < page.pixels.shape[0] - 8:
                inside += 1
                near = contrast[int(y) - 8 : int(y) + 9, int(x) - 6 : int(x) + 7]
                inked += bool(near.max() > 40)
        assert inked >= 0.97 * inside > 0


def test_targets_name_the_square_under_each_token(fonts: Fonts, tokenizer: Tokenizer) -> None:
    page = render_crop(TEXT, random.Random(0), fonts, width=224, height=84)
    where, what = targets(page, tokenizer)
    assert len(where) == len(what) > 10
    assert where.max() < 224 * 84 // 28**2
    spelled = set(tokenizer.decode(what.tolist()))
    assert spelled <= set(page.text)


def test_reading_can_be_learned(
    pack: TextPack, tokenizer: Tokenizer, model: RerankerModel, fonts_folder: Path
) -> None:
    torch.manual_seed(0)
    options = ReadingConfig(tokens=64, negatives=8, single=0.5, pages=0.1, fonts=str(fonts_folder))
    task = Reading(pack, tokenizer, options, blank=198)
    reader = Reader(model).train()
    batch = next(task.batches(seed=0))
    optimizer = torch.optim.AdamW(reader.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss, _ = task.loss(reader, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert 0 <= task.validate(reader.eval())["recall"] <= 1


def test_rare_words_are_drawn_more_often_than_they_occur(
    pack: TextPack, tokenizer: Tokenizer, fonts_folder: Path
) -> None:
    options = ReadingConfig(rare=1.0, fonts=str(fonts_folder))
    task = Reading(pack, tokenizer, options, blank=198)
    next(task.batches(seed=0))
    ((words, chances),) = task.words
    share = dict(zip(words, np.diff([0.0, *chances]), strict=True))
    assert {"fox", "the", "The"} <= set(words)
    text = " ".join(SENTENCES[:5]).split()
    assert share["the"] / share["fox"] == pytest.approx(text.count("the") ** 0.5)


class Line:
    """A task of one number: bring a weight to 3."""

    def batches(self, seed: int) -> Iterator[Batch]:
        while True:
            yield {"target": torch.tensor(3.0)}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, nn.Linear)
        return (model.weight.sum() - batch["target"]).square(), {}

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, nn.Linear)
        return {"weight": float(model.weight.sum())}


def test_a_run_that_was_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    config = TrainConfig(seconds=0.3, learning_rate=0.05, log_every=1)
    first = Trainer(nn.Linear(1, 1, bias=False), Line(), config, tmp_path)
    first.run()
    (tmp_path / "checkpoint.tmp").write_bytes(b"a killed writer's leftovers")
    second = Trainer(nn.Linear(1, 1, bias=False), Line(), replace(config, seconds=0.6), tmp_path)
    final = second.run()
    assert second.step > first.step
    assert second.elapsed >= 0.6 > first.elapsed >= 0.3
    assert final["valid/weight"] == pytest.approx(3, abs=0.5)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
