"""Tiny random Qwen2-VL models of `transformers`, and the same weights in ours through the loader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sightrank import weights
from sightrank.model.multimodal import RerankerModel

transformers = pytest.importorskip("transformers", reason="the reference is not installed")

Grids = list[tuple[int, int]]
IMAGE, START, END, SCORE = 290, 291, 292, 100


@dataclass(frozen=True)
class Shape:
    """One configuration of heads and sections."""

    heads: int
    kv_heads: int
    head_dim: int
    section: tuple[int, int, int]
    layers: int
    vision_heads: int
    vision_head_dim: int
    vision_depth: int

    def config(self) -> dict[str, Any]:
        """As in a checkpoint's config.json, flat layout."""
        hidden = self.heads * self.head_dim
        return {
            "vocab_size": 300,
            "hidden_size": hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": 3 * hidden // 2,
            "rope_theta": 1e6,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {"type": "mrope", "mrope_section": list(self.section)},
            "image_token_id": IMAGE,
            "vision_start_token_id": START,
            "vision_end_token_id": END,
            "video_token_id": 293,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {
                "depth": self.vision_depth,
                "embed_dim": self.vision_heads * self.vision_head_dim,
                "num_heads": self.vision_heads,
                "mlp_ratio": 2,
                "hidden_size": hidden,
                "in_channels": 3,
            },
        }


SHAPES = {
    "grouped": Shape(4, 2, 16, (2, 3, 3), 3, 3, 16, 2),
    "one-kv-head": Shape(6, 1, 8, (1, 1, 2), 2, 2, 20, 3),
    "all-kv-heads": Shape(2, 2, 32, (4, 6, 6), 2, 4, 8, 1),
    "m0-sections": Shape(3, 1, 128, (16, 24, 24), 2, 2, 80, 2),
    "one-layer": Shape(4, 4, 8, (2, 1, 1), 1, 1, 12, 1),
}


@dataclass(frozen=True)
class Twins:
    """The reference model with a score head on it, and ours, with the same weights."""

    reference: Any
    head: nn.Module
    ours: RerankerModel

    @torch.no_grad()
    def reference_logit(self, ids: Tensor, patches: Tensor | None, grids: Grids) -> Tensor:
        """The released wrapper's read-out: score head on the last state after the final norm."""
        pixels = None
        if patches is not None:
            frames = patches.view(-1, 3, 1, 14, 14).expand(-1, 3, 2, 14, 14)
            pixels = frames.reshape(len(patches), -1)
        out = self.reference(
            input_ids=ids[None],
            attention_mask=torch.ones_like(ids)[None],
            pixel_values=pixels,
            image_grid_thw=_thw(grids),
            output_hidden_states=True,
        )
        logit: Tensor = self.head(out.hidden_states[-1][0, -1])[0]
        return logit

    def reference_positions(self, ids: Tensor, grids: Grids) -> Tensor:
        """(3, tokens) as the reference computes them."""
        mask = torch.ones_like(ids)[None]
        rows, _ = self.reference.get_rope_index(ids[None], _thw(grids), None, mask)
        positions: Tensor = rows[:, 0]
        return positions


def _thw(grids: Grids) -> Tensor | None:
    return torch.tensor([[1, *grid] for grid in grids]) if grids else None


def reference_model(config: dict[str, Any], seed: int) -> tuple[nn.Module, nn.Module]:
    """A random Qwen2-VL of this configuration, and a random score head."""
    torch.manual_seed(seed)
    shape = transformers.Qwen2VLConfig(**config)
    model = transformers.Qwen2VLForConditionalGeneration(shape).eval()
    size = config["hidden_size"]
    head = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 1)).eval()
    for name, parameter in [*model.named_parameters(), *head.named_parameters()]:
        if parameter.ndim > 1:  # of a trained network's size, so that rounding is not blown up
            nn.init.normal_(parameter, std=0.7 * parameter.flatten(1).shape[1] ** -0.5)
        elif name.endswith("weight"):
            nn.init.normal_(parameter, mean=1.0, std=0.1)
        else:
            nn.init.normal_(parameter, std=0.1)
    return model, head


def save_checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """A model folder with one safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, folder / "model.safetensors")


def released_tensors(model: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Keys as in the released file: visual.*, model.*, an unused lm_head, score.*."""
    return model.state_dict() | {f"score.{key}": value for key, value in head.state_dict().items()}


@pytest.fixture(params=list(SHAPES))
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> Twins:
    """Both models, ours read from a checkpoint folder by the real loader."""
    config = SHAPES[request.param].config()
    model, head = reference_model(config, seed=list(SHAPES).index(request.param))
    save_checkpoint(tmp_path, config, released_tensors(model, head))
    return Twins(model, head, weights.load(tmp_path, torch.device("cpu"), None).model)
