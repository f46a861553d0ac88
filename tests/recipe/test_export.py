"""An exported folder is a checkpoint like any other: strictly loaded, in bytes or half of them, in small
shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from recipe import export
from sightrank import Document, Reranker
from sightrank.config import ModelConfig
from sightrank.model.multimodal import RerankerModel
from sightrank.model.quantize import dequantise, quantise, quantise_halves
from sightrank.weights import INDEX, load


@pytest.fixture
def folder(
    tmp_path: Path,
    model: RerankerModel,
    config: ModelConfig,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    monkeypatch.setattr(export, "SHARD_BYTES", 60_000)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    export.write(model.state_dict(), config, tmp_path / "tokenizer.json", tmp_path / "nano")
    return tmp_path / "nano"


def test_weights_come_back_within_half_a_step(folder: Path, model: RerankerModel) -> None:
    loaded = load(folder, torch.device("cpu"), None).model.state_dict()
    assert loaded.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        if name == export.EMBEDDINGS:
            assert torch.equal(loaded[name], dequantise(*quantise_halves(weight)))
        elif weight.ndim > 1 and weight.shape[0] > 1:
            stored, scale = quantise(weight)
            assert torch.equal(loaded[name], dequantise(stored, scale))
            error = (loaded[name] - weight).flatten(1).abs().amax(dim=1)
            assert (error <= scale * 0.5001).all(), name
        else:
            assert torch.equal(loaded[name], weight), name


def test_shards_are_small_and_readable_and_listed(folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 2
    listed = json.loads((folder / INDEX).read_text())["weight_map"]
    assert set(listed.values()) == {path.name for path in shards}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in shards)


def test_an_exported_folder_ranks(folder: Path) -> None:
    ranker = Reranker.from_pretrained(folder)
    assert ranker.dtype == torch.float32
    pair = ("fox", Document.text("The quick brown fox."))
    (logit,) = ranker.score([pair], probabilities=False)
    assert logit == pytest.approx(ranker.score_one(*pair), abs=1e-4)


def test_writing_again_leaves_no_stale_shard(
    folder: Path, model: RerankerModel, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SHARD_BYTES", 10_000_000)
    before = len(list(folder.glob("*.safetensors")))
    tokenizer = folder.parent / "tokenizer.json"
    export.write(model.state_dict(), config, tokenizer, folder)
    assert len(list(folder.glob("*.safetensors"))) < before
    load(folder, torch.device("cpu"), None)
