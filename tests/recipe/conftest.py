"""A miniature data pack and a network of nano's kind that is small enough to score in no time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from recipe import tokenizer as cut
from recipe.layout import Special
from recipe.pack import TextPack, build
from recipe.start import NUM_SPECIAL, fresh, nano_config
from sightrank.config import ModelConfig, VisionConfig
from sightrank.model.multimodal import RerankerModel

SIZE = cut.NUM_BYTES + NUM_SPECIAL
SENTENCES = (
    "The quick brown fox jumps over the lazy dog and runs into the deep green forest.",
    "Packages are installed with a tool that resolves what each of them depends upon.",
    "A violin has four strings and is played with a bow of horse hair and wood.",
    "Windmills turn the power of moving air into work, such as grinding grain to flour.",
    "The harbour was closed for three days because of the storm that came from the west.",
    "Sorting takes time that grows faster than the number of the things to be sorted.",
)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Bytes and special tokens, no merges."""
    letters = cut.byte_letters()
    return cut.assemble({letter: place for place, letter in enumerate(letters)}, [])


@pytest.fixture(scope="session")
def pack(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> TextPack:
    """Twelve passages in two languages and their titles, and four names."""
    folder = tmp_path_factory.mktemp("text")
    documents, queries, names = [], [], []
    for place, sentence in enumerate(SENTENCES):
        split = "valid" if place == 5 else "train"
        row = {"group": f"g{place}", "split": split}
        documents.append({**row, "lang": "en", "text": sentence, "source": "manual"})
        documents.append({**row, "lang": "de", "text": sentence.upper(), "source": "manual"})
        queries.append({**row, "lang": "en", "text": sentence[:20], "kind": "title"})
    for place, word in enumerate(("one", "two", "six", "ten")):
        row = {"group": f"cldr/{word}", "lang": "en", "split": "train"}
        names.append({**row, "text": f"number, {place}", "source": "cldr"})
        names.append({**row, "text": word, "kind": "name"})
    for name, rows in (("documents", documents), ("queries", queries), ("names", names)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    vectors = np.random.default_rng(0).normal(size=(SIZE, 384)).astype(np.float32)
    return build(folder, tokenizer, vectors)


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """Nano's heads and wiring on a vocabulary of bytes, with a vision tower of one layer."""
    vision = VisionConfig(depth=1, embed_dim=32, num_heads=2, mlp_ratio=2)
    return replace(nano_config(SIZE), intermediate_size=64, vision=vision, num_hidden_layers=3)


@pytest.fixture
def model(config: ModelConfig, pack: TextPack) -> RerankerModel:
    """Untrained, in evaluation mode."""
    return fresh(config, torch.from_numpy(pack.vectors), query_word=ord("Q")).eval()


@pytest.fixture(scope="session")
def special(config: ModelConfig) -> Special:
    """Ids that the layouts need; byte-level tokenizers give a newline the id of its own letter."""
    return Special(config.vision_start_token_id, config.vision_end_token_id, blank=198)


@pytest.fixture(scope="session")
def fonts_folder() -> Path:
    """Fonts to print with; skips where there are none."""
    folder = Path("/usr/share/fonts")
    if not list(folder.rglob("DejaVuS*.ttf")):
        pytest.skip("no fonts here; install fonts-dejavu-core")
    return folder
