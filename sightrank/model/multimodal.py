"""The whole reranker: vision tower, decoder and score head, with the released model's module names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightrank.config import ModelConfig
from sightrank.model.attention import Packed
from sightrank.model.decoder import Decoder
from sightrank.model.rope import Rotary, text_rotary
from sightrank.model.vision import VisionTower


def score_head(hidden_size: int) -> nn.Sequential:
    """Linear, ReLU, Linear to one logit; keys score.0.* and score.2.* as in the checkpoint."""
    return nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))


def fresh_head(hidden_size: int, bias: float, seed: int) -> dict[str, Tensor]:
    """Weights of a `score_head` that has learned nothing: its logits lie around `bias`.

    Drawn from N(0, 2 / inputs) before the ReLU and N(0, 1 / inputs) after (He et al. 2015).
    """
    chance = torch.Generator().manual_seed(seed)
    inner = torch.randn(hidden_size, hidden_size, generator=chance) * (2 / hidden_size) ** 0.5
    outer = torch.randn(1, hidden_size, generator=chance) * hidden_size**-0.5
    return {
        "0.weight": inner,
        "0.bias": torch.zeros(hidden_size),
        "2.weight": outer,
        "2.bias": torch.full((1,), bias),
    }


class RerankerModel(nn.Module):
    """Qwen2-VL with an MLP that reads a relevance logit off the last token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTower(config.vision, config.hidden_size)
        self.model = Decoder(config)
        self.score = score_head(config.hidden_size)

    def embed(self, ids: Tensor, visual_tokens: Tensor | None) -> Tensor:
        """Ids (tokens,) -> embeddings (tokens, size), visual tokens put in place of image ids."""
        embedded: Tensor = self.model.embed_tokens(ids)
        if visual_tokens is None:
            return embedded
        places = (ids == self.config.image_token_id)[:, None].expand_as(embedded)
        return embedded.masked_scatter(places, visual_tokens.to(embedded.dtype))

    def rotary(self, positions: Tensor) -> Rotary:
        """Positions (3, tokens) -> the decoder's rotary in the model's dtype."""
        config = self.config
        return text_rotary(
            positions, config.head_dim, config.rope_theta, config.mrope_section, self.dtype
        )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that activations take."""
        return self.model.norm.weight.dtype

    @torch.inference_mode()
    def score_one(
        self,
        ids: Tensor,
        positions: Tensor,
        patches: Tensor | None = None,
        grids: Sequence[tuple[int, int]] = (),
    ) -> float:
        """The slow, obvious truth: the logit of one whole prompt, nothing cached, nothing packed.

        ids (tokens,) with the score token last, positions (3, tokens), patches
        (sum of grid cells, 588) normalised, grids as (rows, columns) of patches.
        """
        visual = None
        if patches is not None:
            visual = self.visual(patches.to(self.dtype), grids, plain=True)
        plan = Packed([ids.shape[0]], causal=True, plain=True)
        hidden = self.model(self.embed(ids, visual), self.rotary(positions), plan)
        return float(self.score(hidden[-1]).float())
