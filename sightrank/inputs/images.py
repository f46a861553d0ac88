"""RGB image -> smart resize -> patches in merge-block order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightrank.errors import AspectRatioError, EmptyInputError, UnsupportedInputError

PATCH = 14
MERGE = 2
MAX_ASPECT_RATIO = 200
_BLOCK = PATCH * MERGE
_STRIP_PIXELS = 4_000_000
# Channel means and deviations of CLIP's training images, which Qwen2-VL kept.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def smart_resize(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The (height, width) in pixels, multiples of 28, at which the model sees an image.

    Qwen2-VL's rule: round each side to a multiple of 28 (halves to even); where the area is out of
    bounds, scale both sides by the same factor and round towards the inside. The shorter side
    stays at least 28, so an area bound may be missed by a thin image. Raises AspectRatioError.
    """
    check_sides(height, width)
    rows = round(height / _BLOCK) * _BLOCK
    columns = round(width / _BLOCK) * _BLOCK
    if rows * columns > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(_BLOCK, math.floor(height / shrink / _BLOCK) * _BLOCK)
        columns = max(_BLOCK, math.floor(width / shrink / _BLOCK) * _BLOCK)
    elif rows * columns < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * grow / _BLOCK) * _BLOCK
        columns = math.ceil(width * grow / _BLOCK) * _BLOCK
    return rows, columns


def check_sides(height: float, width: float) -> None:
    """Raise EmptyInputError for a side of 0, AspectRatioError for a ratio of sides over 200."""
    if min(height, width) <= 0:
        raise EmptyInputError(
            f"The image is {width:g} x {height:g} pixels.", "Give an image that has pixels."
        )
    ratio = max(height, width) / min(height, width)
    if ratio > MAX_ASPECT_RATIO:
        raise AspectRatioError(
            f"The image is {width:g} x {height:g}: its longer side is {ratio:.0f} times the shorter"
            f" one, allowed are {MAX_ASPECT_RATIO} times.",
            "Crop it or cut it into several images.",
        )


@dataclass(frozen=True, eq=False)
class ImagePatches:
    """An image as the vision tower reads it, still in bytes.

    `pixels` has shape (num_patches, 3 * 14 * 14): a row is a patch, its columns run over (channel,
    y, x). Rows come in merge blocks: blocks in raster order, inside a block top left, top right,
    bottom left, bottom right. The released model reads two equal frames; here one is kept.
    `grid` is (rows, columns) counted in patches, both even.
    """

    pixels: NDArray[np.uint8]
    grid: tuple[int, int]

    @property
    def num_tokens(self) -> int:
        """Visual tokens in the prompt: one for each 2 x 2 block of patches."""
        return self.grid[0] * self.grid[1] // MERGE**2

    @property
    def merged_grid(self) -> tuple[int, int]:
        """(rows, columns) counted in visual tokens."""
        return self.grid[0] // MERGE, self.grid[1] // MERGE

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the grid and the pixels."""
        hasher = hashlib.sha256(f"{self.grid[0]}x{self.grid[1]};".encode())
        hasher.update(np.ascontiguousarray(self.pixels).data)
        return hasher.hexdigest()


def patchify(image: PIL.Image.Image, min_pixels: int, max_pixels: int) -> ImagePatches:
    """Resize (Pillow's bicubic filter, as the released processor) and cut into patches.

    Raises AspectRatioError, EmptyInputError for an image without pixels, UnsupportedInputError for
    a colour mode that has no way to RGB.
    """
    height, width = smart_resize(image.height, image.width, min_pixels, max_pixels)
    resized = to_rgb(image).resize((width, height), PIL.Image.Resampling.BICUBIC)
    rows, columns = height // PATCH, width // PATCH
    blocks = np.asarray(resized, dtype=np.uint8).reshape(
        rows // MERGE, MERGE, PATCH, columns // MERGE, MERGE, PATCH, 3
    )  # (block row, row in block, y, block column, column in block, x, channel)
    pixels = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3 * PATCH * PATCH)
    return ImagePatches(np.ascontiguousarray(pixels), (rows, columns))


def normalise(patches: ImagePatches) -> NDArray[np.float32]:
    """Pixels as the model's input, (num_patches, 588): (byte / 255 - mean) / std by channel.

    A byte has 256 values, so each channel is a look-up. The table follows the released processor
    step by step (scaled in float64, the rest in float32), which makes the result equal bit by bit.
    """
    scaled = (np.arange(256, dtype=np.float64) * (1 / 255)).astype(np.float32)
    result = np.empty(patches.pixels.shape, dtype=np.float32)
    size = PATCH * PATCH
    for channel, (mean, std) in enumerate(zip(_MEAN, _STD, strict=True)):
        table = (scaled - np.float32(mean)) / np.float32(std)
        columns = slice(channel * size, (channel + 1) * size)
        np.take(table, patches.pixels[:, columns], out=result[:, columns], mode="clip")
    return result


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Any Pillow image in RGB. Alpha is dropped, not composited, as the released model does.

    Grey images deeper than 8 bits are brought to 0..255: 16-bit modes by their full range, 32-bit
    integers and floats by the smallest of the ranges 0..1 (floats), 0..255, 0..65535 that holds
    them, any others from their least to their greatest value.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return PIL.Image.fromarray(_grey_bytes(image)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # same colours; the direct way warns
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise UnsupportedInputError(
            f"The image has colour mode {image.mode}, which does not convert to RGB.",
            "Convert it to RGB first.",
        ) from error


def _grey_bytes(image: PIL.Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    # In strips: the steps in float64 would take forty times the memory of the result at once.
    strips = np.array_split(values, max(1, values.size // _STRIP_PIXELS))
    low, high = _range(image.mode, map(_finite, strips))
    scale = 255 / (high - low) if high > low else 0.0
    result = np.empty(values.shape, np.uint8)
    for strip, out in zip(strips, np.array_split(result, len(strips)), strict=True):
        out[:] = np.clip(np.rint((_finite(strip) - low) * scale), 0, 255)
    return result


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)


def _range(mode: str, strips: Iterable[NDArray[np.float64]]) -> tuple[float, float]:
    """The values that become 0 and 255."""
    if mode.startswith("I;16"):
        return 0.0, 65535.0
    ends = [(float(strip.min()), float(strip.max())) for strip in strips]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if low < 0:
        return low, high
    ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    return 0.0, next((top for top in ranges if high <= top), high)
