"""Patches equal those of transformers' slow Qwen2-VL processor, the one behind the published scores."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from sightrank.config import MAX_PIXELS, MIN_PIXELS
from sightrank.inputs.images import normalise, patchify

reference = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_qwen2_vl",
    reason="the reference processor comes with transformers 4.51.3",
)

SIZES = [  # width, height; at least 28, which the reference asks for
    (28, 28),
    (29, 28),
    (41, 57),
    (42, 42),
    (70, 70),
    (98, 98),
    (99, 333),
    (224, 224),
    (333, 99),
    (595, 842),
    (640, 480),
    (777, 776),
    (800, 600),
    (1000, 1000),
    (1024, 768),
    (1240, 1754),
    (1600, 1067),
    (1920, 1080),
    (600, 2000),
    (30, 5000),
    (5000, 30),
    (28, 5600),
]
MODES = ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "HSV"]


def picture(width: int, height: int) -> PIL.Image.Image:
    """Noise over a gradient: sharp edges and smooth areas."""
    rng = np.random.default_rng(width * 10_007 + height)
    noise = rng.integers(0, 256, (height, width, 3))
    ramp = np.linspace(0, 255, width)[None, :, None]
    mixed = np.where(np.arange(height)[:, None, None] % 50 < 25, noise, ramp)
    return PIL.Image.fromarray(mixed.astype(np.uint8))


def assert_same(image: PIL.Image.Image) -> None:
    processor = reference.Qwen2VLImageProcessor(min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    expected = processor(images=[image], return_tensors="np")
    patches = patchify(image, MIN_PIXELS, MAX_PIXELS)
    assert (1, *patches.grid) == tuple(expected["image_grid_thw"][0])
    frames = normalise(patches).reshape(-1, 3, 1, 196)
    columns = np.repeat(frames, 2, axis=2).reshape(-1, 1176)  # (channel, frame, y, x)
    difference = np.abs(columns - expected["pixel_values"])
    assert difference.max() <= 1e-6, f"largest {difference.max()}, mean {difference.mean()}"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_sizes(width: int, height: int) -> None:
    assert_same(picture(width, height))


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    image = picture(123, 211)
    assert_same(image.convert("RGBA").convert(mode) if mode == "LA" else image.convert(mode))
