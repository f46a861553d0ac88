"""The only place where data moves to the device and the model is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightrank.engine.plans import CachedPrefix, Extend, Prefill, Suffix
from sightrank.inputs.images import ImagePatches, normalise
from sightrank.inputs.segments import Segment
from sightrank.model.multimodal import RerankerModel
from sightrank.model.rope import Rotary


class Runner:
    """A model on its device, fed with segments."""

    def __init__(self, model: RerankerModel, device: torch.device) -> None:
        self.model, self.device = model, device

    @torch.inference_mode()
    def prefill(self, segments: Sequence[Segment]) -> list[CachedPrefix]:
        """Run prefixes, packed, and keep their keys and values."""
        plan = Prefill([len(segment) for segment in segments])
        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        self.model.model(self.embed(segments), self._rotary(segments), plan, readout=nothing)
        return plan.prefixes()

    @torch.inference_mode()
    def extend(
        self, prefixes: Sequence[CachedPrefix], suffixes: Sequence[Segment], embedded: Tensor
    ) -> Tensor:
        """Logits (pairs,) in float32: suffix i, embedded beforehand, behind prefix i."""
        lengths = [len(suffix) for suffix in suffixes]
        plan = Extend(
            [
                Suffix(prefix, len(suffix), suffix.rewind)
                for prefix, suffix in zip(prefixes, suffixes, strict=True)
            ]
        )
        ends = torch.tensor(lengths, device=self.device).cumsum(0) - 1
        hidden = self.model.model(embedded, self._rotary(suffixes), plan, readout=ends)
        logits: Tensor = self.model.score(hidden).squeeze(-1).float()
        return logits

    @torch.inference_mode()
    def embed(self, segments: Sequence[Segment]) -> Tensor:
        """Token embeddings (tokens, size) of packed segments, their images seen."""
        ids = self._move(np.concatenate([segment.ids for segment in segments]))
        images = [image for segment in segments for image in segment.images]
        return self.model.embed(ids, self.see(images) if images else None)

    @torch.inference_mode()
    def see(self, images: Sequence[ImagePatches]) -> Tensor:
        """Visual tokens (sum of num_tokens, size) of packed images."""
        patches = self._move(np.concatenate([normalise(image) for image in images]))
        tokens: Tensor = self.model.visual(
            patches.to(self.model.dtype), [image.grid for image in images]
        )
        return tokens

    @torch.inference_mode()
    def score_one(self, prompt: Segment) -> float:
        """The plain truth: one whole prompt, nothing cached, nothing packed."""
        images = [normalise(image) for image in prompt.images]
        return self.model.score_one(
            self._move(prompt.ids),
            self._move(prompt.positions),
            self._move(np.concatenate(images)) if images else None,
            [image.grid for image in prompt.images],
        )

    def _rotary(self, segments: Sequence[Segment]) -> Rotary:
        positions = np.concatenate([segment.positions for segment in segments], axis=1)
        return self.model.rotary(self._move(positions))

    def _move(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.dtype == torch.int32:
            tensor = tensor.long()
        return tensor.to(self.device)
