"""Image files that are whole but odd: animated, turned, and of every colour mode."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from sightrank.errors import UnreadableImageError
from sightrank.inputs.load import FileLimits, load
from sightrank.types import Document
from tests.inputs.files import encoded

LIMITS = FileLimits()


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_images_show_their_first_frame(form: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    (image,) = load(Document.of(content), LIMITS, max_pixels=602_112)
    assert isinstance(image, PIL.Image.Image)
    red, green, blue = image.getpixel((4, 4))  # type: ignore[misc]
    assert red > 200 and green < 50 and blue < 50


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "WEBP", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations(form: str, orientation: int) -> None:
    upright = PIL.Image.new("RGB", (64, 32), "black")
    upright.paste("white", (0, 0, 32, 16))  # top left
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # how a camera would have stored it
    stored = upright if undo is None else upright.transpose(PIL.Image.Transpose(undo))
    (image,) = load(Document.of(encoded(stored, form, exif=exif)), LIMITS, max_pixels=602_112)
    assert isinstance(image, PIL.Image.Image)
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(upright).astype(int))
    assert image.size == upright.size and difference.mean() < 8


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("I;16", "PNG")),
        *(("I;16", "TIFF"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("LA", "PNG"), ("1", "PNG")),
    ],
)
def test_colour_modes_in_files(mode: str, form: str) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(8, axis=0)
    if mode == "I;16":
        given = PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    else:
        given = PIL.Image.fromarray(ramp).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    (image,) = load(Document.of(encoded(given, form)), LIMITS, max_pixels=602_112)
    assert isinstance(image, PIL.Image.Image) and image.mode == "RGB"
    spread = {"1": 256, "P": 52}.get(mode, 12)  # dithered, and the nearest of few colours
    difference = np.asarray(image).astype(int).mean(axis=2) - ramp
    assert np.abs(difference).max() < spread and abs(difference.mean()) < 12


def test_deep_grey_of_many_strips_is_as_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0, 9, (50, 7)).astype(np.float32)
    whole = encoded(PIL.Image.fromarray(values), "TIFF")
    images = []
    for pixels in (10**9, 20):
        monkeypatch.setattr("sightrank.inputs.images._STRIP_PIXELS", pixels)
        images += load(Document.of(whole), LIMITS, max_pixels=602_112)
    one, many = (np.asarray(image) for image in images)
    np.testing.assert_array_equal(one, many)
    assert one.min() == 0 and one.max() == 255


@pytest.mark.parametrize("progressive", [False, True])
def test_rows_that_a_jpeg_lacks_are_grey_and_a_cut_one_is_refused(progressive: bool) -> None:
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = encoded(noise, "JPEG", progressive=progressive)
    (whole,) = load(Document.of(content), LIMITS, max_pixels=602_112)
    taller = bytearray(content)
    height = taller.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5  # in the frame header
    taller[height : height + 2] = (200).to_bytes(2, "big")
    (image,) = load(Document.of(bytes(taller)), LIMITS, max_pixels=602_112)
    assert isinstance(image, PIL.Image.Image) and image.size == (64, 200)
    # Blocks are 16 rows high; around the end of the data one or two of them are neither.
    np.testing.assert_array_equal(np.asarray(image)[:48], np.asarray(whole)[:48])
    assert (np.asarray(image)[112:] == 128).all()
    with pytest.raises(UnreadableImageError, match="truncated or damaged"):
        load(Document.of(content[:-20]), LIMITS, max_pixels=602_112)
