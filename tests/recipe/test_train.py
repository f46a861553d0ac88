"""Stages carry over what runs and model folders hold, and refuse what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from recipe.export import write
from recipe.train import carry_over, unfreeze
from recipe.trainer import without_subnormals
from sightrank.config import ModelConfig
from sightrank.model.multimodal import RerankerModel


@pytest.fixture
def sources(
    tmp_path: Path, model: RerankerModel, config: ModelConfig, tokenizer: Tokenizer
) -> Path:
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    write(model.state_dict(), config, tmp_path / "tokenizer.json", tmp_path / "folder")
    (tmp_path / "run").mkdir()
    torch.save({"model": model.state_dict()}, tmp_path / "run" / "checkpoint.pt")
    return tmp_path


@pytest.mark.parametrize(("kind", "tolerance"), [("run", 0.0), ("folder", 0.02)])
def test_parts_are_carried_over(
    sources: Path, model: RerankerModel, config: ModelConfig, kind: str, tolerance: float
) -> None:
    torch.manual_seed(5)
    other = RerankerModel(config)
    before = other.model.layers[0].mlp.up_proj.weight.clone()
    place = "run" if kind == "run" else str(sources / "folder")
    carry_over({"from": [{kind: place, "parts": ["visual."]}]}, other, sources)
    for name, weight in model.visual.state_dict().items():
        assert torch.allclose(other.visual.state_dict()[name], weight, atol=tolerance), name
    assert torch.equal(other.model.layers[0].mlp.up_proj.weight, before)


def test_the_mean_of_several_runs_is_carried_over(
    sources: Path, model: RerankerModel, config: ModelConfig
) -> None:
    (sources / "zeros").mkdir()
    zeros = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    torch.save({"model": zeros}, sources / "zeros" / "checkpoint.pt")
    other = RerankerModel(config)
    carry_over({"from": [{"mean": ["run", "zeros"], "parts": ["score."]}]}, other, sources)
    for name, weight in model.score.state_dict().items():
        assert torch.equal(other.score.state_dict()[name], weight / 2), name


def test_layers_are_raised_above_new_ones(
    sources: Path, model: RerankerModel, config: ModelConfig
) -> None:
    other = RerankerModel(replace(config, num_hidden_layers=config.num_hidden_layers + 2))
    before = other.model.layers[0].mlp.up_proj.weight.clone()
    raised = {"run": "run", "parts": ["model.layers.", "score."], "raised": 2}
    carry_over({"from": [raised]}, other, sources)
    for place, layer in enumerate(model.model.layers):
        for name, weight in layer.state_dict().items():
            assert torch.equal(other.model.layers[place + 2].state_dict()[name], weight), name
    for name, weight in model.score.state_dict().items():
        assert torch.equal(other.score.state_dict()[name], weight), name
    assert torch.equal(other.model.layers[0].mlp.up_proj.weight, before)


def test_parts_that_are_not_there_are_refused(sources: Path, model: RerankerModel) -> None:
    with pytest.raises(SystemExit, match="holds no"):
        carry_over({"from": [{"run": "run", "parts": ["letters."]}]}, model, sources)


def test_only_a_stage_s_parts_learn(model: RerankerModel) -> None:
    unfreeze({"parts": ["model.", "score."]}, model)
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert learning
    assert all(name.startswith(("model.", "score.")) for name in learning)
    assert "model.embed_tokens.weight" not in learning


def test_subnormal_numbers_are_zero_while_training_and_only_then() -> None:
    tiny = torch.tensor([1e-40])
    with without_subnormals():
        assert (tiny * 1.0).item() == 0.0
    assert (tiny * 1.0).item() > 0.0
