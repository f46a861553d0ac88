"""Documents of a step, some of them pictures: prompts around them, and what enters the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from recipe.grid import embed_slots, pad_prefixes
from recipe.layout import Ints, Prefix, Special, as_picture
from recipe.trainer import Batch
from sightrank.inputs.images import normalise, patchify
from sightrank.model.multimodal import RerankerModel


@dataclass(frozen=True)
class Shown:
    """A picture in its prompt."""

    prefix: Prefix
    patches: NDArray[np.float32]
    grid: tuple[int, int]

    @classmethod
    def of(cls, image: Image.Image, head: Ints, tail: Ints, special: Special) -> Shown:
        """At the picture's own size."""
        seen = patchify(image, 56 * 56, 10**9)
        return cls(as_picture(head, seen.merged_grid, tail, special), normalise(seen), seen.grid)


def join(documents: Sequence[Prefix | Shown]) -> Batch:
    """Prompts padded at the right, the pictures among them packed: `patches`, `grids`, and the slots
    that they fill."""
    pictures = [(row, each) for row, each in enumerate(documents) if isinstance(each, Shown)]
    batch = pad_prefixes([each.prefix if isinstance(each, Shown) else each for each in documents])
    places = torch.zeros(batch["prefix_positions"].shape[1:], dtype=torch.bool)
    for row, each in pictures:
        places[row, each.prefix.slots] = True
    patches = [each.patches for _, each in pictures]
    packed = torch.from_numpy(np.concatenate(patches)) if patches else torch.empty(0, 588)
    grids = [each.grid for _, each in pictures]
    return {**batch, "patches": packed, "grids": grids, "picture_slots": places}


def embed(model: RerankerModel, batch: Batch, noise: float) -> Tensor:
    """(documents, slots, size): tokens and cells, and pictures through the tower, with gradients if it
    learns."""
    hidden = embed_slots(model, batch, noise)
    if batch["grids"]:
        visual = model.visual(batch["patches"], batch["grids"])
        hidden = hidden.masked_scatter(batch["picture_slots"][..., None], visual.to(hidden.dtype))
    return hidden
