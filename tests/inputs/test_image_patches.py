"""Resizing, patch order, normalising, and bringing every colour mode to RGB."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightrank.config import MAX_PIXELS, MIN_PIXELS
from sightrank.errors import AspectRatioError, EmptyInputError
from sightrank.inputs.images import normalise, patchify, smart_resize, to_rgb

VECTORS = [  # (width, height) -> (width, height), tokens
    ((224, 224), (224, 224), 64),
    ((28, 28), (56, 56), 4),
    ((98, 98), (112, 112), 16),
    ((70, 70), (56, 56), 4),
    ((640, 480), (644, 476), 391),
    ((800, 600), (812, 588), 609),
    ((595, 842), (588, 840), 630),
    ((1024, 768), (896, 672), 768),
    ((1600, 1200), (896, 672), 768),
    ((1600, 1067), (924, 616), 726),
    ((1920, 1080), (1008, 560), 720),
    ((3840, 2160), (1008, 560), 720),
    ((1240, 1754), (644, 896), 736),
    ((2480, 3508), (644, 896), 736),
    ((1000, 1000), (756, 756), 729),
    ((600, 2000), (420, 1400), 750),
    ((30, 5000), (28, 5012), 179),
]


@pytest.mark.parametrize(("given_size", "expected", "tokens"), VECTORS)
def test_smart_resize_gives_the_published_sizes(
    given_size: tuple[int, int], expected: tuple[int, int], tokens: int
) -> None:
    width, height = given_size
    rows, columns = smart_resize(height, width, MIN_PIXELS, MAX_PIXELS)
    assert (columns, rows) == expected
    assert rows * columns // 784 == tokens


@given(
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.sampled_from([MIN_PIXELS, 50_000, MAX_PIXELS]),
)
def test_every_size_is_resized_within_reason_or_refused(
    height: int, width: int, max_pixels: int
) -> None:
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(AspectRatioError, match="200 times"):
            smart_resize(height, width, MIN_PIXELS, max_pixels)
        return
    rows, columns = smart_resize(height, width, MIN_PIXELS, max_pixels)
    assert rows % 28 == columns % 28 == 0
    assert min(rows, columns) >= 28
    thin = min(rows, columns) == 28
    tiny = height * width < MIN_PIXELS
    assert rows * columns <= max_pixels or thin or tiny


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(EmptyInputError, match="0 x 5"):
        patchify(PIL.Image.new("RGB", (0, 5)), MIN_PIXELS, MAX_PIXELS)


def test_patches_follow_merge_blocks_and_columns_channel_y_x() -> None:
    height, width = 56, 84
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    patches = patchify(PIL.Image.fromarray(image), MIN_PIXELS, MAX_PIXELS)
    assert patches.grid == (4, 6)
    assert patches.num_tokens == 6
    row = 0
    for block_y in range(2):
        for block_x in range(3):
            for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
                top, left = (2 * block_y + y) * 14, (2 * block_x + x) * 14
                square = image[top : top + 14, left : left + 14].transpose(2, 0, 1)
                np.testing.assert_array_equal(patches.pixels[row], square.ravel())
                row += 1


def test_normalise_is_the_formula_by_channel() -> None:
    image = np.random.default_rng(1).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    patches = patchify(PIL.Image.fromarray(image), MIN_PIXELS, MAX_PIXELS)
    mean = np.repeat([0.48145466, 0.4578275, 0.40821073], 196)
    std = np.repeat([0.26862954, 0.26130258, 0.27577711], 196)
    result = normalise(patches)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, (patches.pixels / 255 - mean) / std, atol=1e-6)


def test_digest_knows_pixels_and_grid() -> None:
    def digest(size: tuple[int, int], colour: str) -> str:
        return patchify(PIL.Image.new("RGB", size, colour), MIN_PIXELS, MAX_PIXELS).digest

    assert digest((56, 112), "red") == digest((56, 112), "red")
    assert len({digest((56, 112), "red"), digest((112, 56), "red"), digest((56, 112), "blue")}) == 3


def test_alpha_is_dropped_not_composited() -> None:
    clear = PIL.Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert to_rgb(clear).getpixel((0, 0)) == (10, 20, 30)


def test_transparent_palette_keeps_its_colours_without_warning() -> None:
    palette = PIL.Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.info["transparency"] = b"\xff\x00"
    assert to_rgb(palette).getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK"])
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_survive_every_mode(mode: str, level: int) -> None:
    source = PIL.Image.new("RGBA", (4, 4), (level, level, level, 255))
    if mode in ("1", "P", "CMYK", "PA", "RGBX"):
        image = source.convert("RGB").convert("P" if mode == "PA" else mode)
        image = image.convert(mode)
    else:
        image = source.convert("LA") if mode == "La" else source
        image = image.convert(mode)
    assert image.mode == mode
    assert to_rgb(image).getpixel((1, 1)) == (level, level, level)


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 32896, 65535], np.uint16, [0, 128, 255]),
        ([0, 100, 255], np.uint16, [0, 0, 1]),
        ([0, 128, 255], np.int32, [0, 128, 255]),
        ([0, 32896, 65535], np.int32, [0, 128, 255]),
        ([-100, 20, 100], np.int32, [0, 153, 255]),
        ([0, 0.5, 1], np.float32, [0, 128, 255]),
        ([0, 100, 255], np.float32, [0, 100, 255]),
        ([np.nan, np.inf, 1], np.float32, [0, 0, 255]),
    ],
)
def test_deep_grey_is_brought_to_bytes(
    values: list[float], dtype: type[np.generic], expected: list[int]
) -> None:
    image = to_rgb(PIL.Image.fromarray(np.array([values], dtype=dtype)))
    assert image.mode == "RGB"
    assert np.asarray(image)[0, :, 0].tolist() == expected
