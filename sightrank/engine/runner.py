"""The only place where data moves to the device and the model is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightrank.engine.plans import CachedPrefix, Extend, Prefill, Seen, Suffix
from sightrank.inputs.images import ImagePatches, normalise
from sightrank.inputs.segments import Segment
from sightrank.model.attention import AttentionPlan
from sightrank.model.multimodal import RerankerModel
from sightrank.model.rope import Rotary


class Runner:
    """A model on its device, fed with segments."""

    def __init__(self, model: RerankerModel, device: torch.device) -> None:
        self.model, self.device = model, device

    @torch.inference_mode()
    def look(self, segments: Sequence[Segment]) -> list[Seen]:
        """Run the vision tower over the images of all segments, packed; texts pass as they are."""
        images = [image for segment in segments for image in segment.images]
        tokens = self.see(images) if images else self._nothing()
        counts = [sum(image.num_tokens for image in segment.images) for segment in segments]
        return [
            Seen(segment, own)
            for segment, own in zip(segments, torch.split(tokens, counts), strict=True)
        ]

    @torch.inference_mode()
    def prefill(self, prefixes: Sequence[Seen]) -> list[CachedPrefix]:
        """Run prefixes through the decoder, packed, and keep their keys and values."""
        segments = [prefix.segment for prefix in prefixes]
        lengths = [len(segment) for segment in segments]
        plan = Prefill(lengths, self.model.config.num_hidden_layers)
        nothing = torch.empty(0, dtype=torch.long, device=self.device)
        self.model.model(self.embed(prefixes), self._rotary(segments), plan, readout=nothing)
        return plan.prefixes

    @torch.inference_mode()
    def extend(
        self, prefixes: Sequence[CachedPrefix], suffixes: Sequence[Segment], embedded: Tensor
    ) -> Tensor:
        """Logits (pairs,) in float32: suffix i, embedded beforehand, behind prefix i."""
        plan = Extend(
            [
                Suffix(prefix, len(suffix), suffix.rewind)
                for prefix, suffix in zip(prefixes, suffixes, strict=True)
            ]
        )
        return self.read(suffixes, embedded, plan)

    def read(self, segments: Sequence[Segment], embedded: Tensor, plan: AttentionPlan) -> Tensor:
        """Logits (segments,) in float32 at their last tokens, what each token sees left to `plan`.

        The only pass that can be differentiated, where neither embeddings nor plan were made in
        inference mode.
        """
        lengths = [len(segment) for segment in segments]
        ends = torch.tensor(lengths, device=self.device).cumsum(0) - 1
        hidden = self.model.model(embedded, self._rotary(segments), plan, readout=ends)
        logits: Tensor = self.model.score(hidden).squeeze(-1).float()
        return logits

    @torch.inference_mode()
    def embed(self, seen: Sequence[Seen]) -> Tensor:
        """Embeddings (tokens, size) of packed segments, visual tokens put in their places."""
        ids = self._move(np.concatenate([each.segment.ids for each in seen]))
        visual = torch.cat([each.tokens for each in seen])
        return self.model.embed(ids, visual if len(visual) else None)

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

    def _nothing(self) -> Tensor:
        shape = (0, self.model.config.hidden_size)
        return torch.empty(shape, dtype=self.model.dtype, device=self.device)

    def _rotary(self, segments: Sequence[Segment]) -> Rotary:
        positions = np.concatenate([segment.positions for segment in segments], axis=1)
        return self.model.rotary(self._move(positions))

    def _move(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if tensor.dtype == torch.int32:
            tensor = tensor.long()
        return tensor.to(self.device)
