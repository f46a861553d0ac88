"""A page with its hot patches coloured."""

from __future__ import annotations

import numpy as np
import PIL.Image
from numpy.typing import NDArray

_STRENGTH = 0.75
_COLOUR = (255, 96, 0)


def overlay(
    image: PIL.Image.Image, grid: NDArray[np.float64], top: float | None = None
) -> PIL.Image.Image:
    """`image` (RGB) with a colour laid over it where `grid` (rows, columns) is positive.

    The colour multiplies, as a marker pen's does, so that print stays readable. It is strongest at
    `top`, the grid's largest score if None, and blends between the patches' middles.
    """
    most = float(grid.max()) if top is None else top
    share = np.clip(grid / most, 0, 1) if most > 0 else np.zeros_like(grid)
    small = PIL.Image.fromarray(np.rint(255 * share).astype(np.uint8))
    mask = small.resize(image.size, PIL.Image.Resampling.BILINEAR)
    weight = np.asarray(mask, np.float32)[..., None] / 255 * _STRENGTH
    pixels = np.asarray(image.convert("RGB"), np.float32)
    marked = pixels * np.array(_COLOUR, np.float32) / 255
    # On dark pages there is nothing to multiply: what is lost is given back as light.
    marked = np.maximum(marked, np.array(_COLOUR, np.float32) * 0.25)
    mixed = pixels * (1 - weight) + marked * weight
    return PIL.Image.fromarray(np.rint(mixed).astype(np.uint8))


def shrunk(image: PIL.Image.Image, longest: int) -> PIL.Image.Image:
    """`image`, or a smaller copy whose longer side has `longest` pixels."""
    if max(image.size) <= longest:
        return image
    small = image.copy()
    small.thumbnail((longest, longest), PIL.Image.Resampling.LANCZOS)
    return small
