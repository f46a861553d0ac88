"""Small valid files of every format that is read, to be damaged by the tests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image


def encoded(image: PIL.Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def valid_files(make_pdf: Callable[..., bytes]) -> dict[str, bytes]:
    """Name -> content: formats, colour modes, compressions, animations, metadata."""
    return dict(_images()) | dict(_pdfs(make_pdf))


def _images() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    noise = PIL.Image.fromarray(rng.integers(0, 256, (24, 36, 3), np.uint8))
    flat = PIL.Image.new("RGB", (36, 24), (200, 30, 30))
    deep = PIL.Image.fromarray(rng.integers(0, 65536, (9, 12), np.uint16))
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    frames = {"save_all": True, "append_images": [noise], "duration": 40}
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"):
        yield form, encoded(noise, form)
    yield "PNG, turned", encoded(flat, "PNG", exif=exif)
    yield "PNG, 16 bit", encoded(deep, "PNG")
    yield "PNG, palette", encoded(noise.quantize(16), "PNG", transparency=3)
    yield "PNG, two-tone", encoded(noise.convert("1"), "PNG")
    yield "PNG, animated", encoded(flat, "PNG", **frames)
    yield "JPEG, turned", encoded(noise, "JPEG", exif=exif, progressive=True, comment=b"x" * 30)
    yield "JPEG, CMYK", encoded(noise.convert("CMYK"), "JPEG")
    yield "WEBP, animated", encoded(flat, "WEBP", **frames)
    yield "WEBP, lossless", encoded(noise.convert("RGBA"), "WEBP", lossless=True, exif=exif)
    yield "GIF, animated", encoded(flat, "GIF", **frames)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits", "tiff_adobe_deflate"):
        yield f"TIFF, {compression}", encoded(noise, "TIFF", compression=compression)
    yield "TIFF, fax", encoded(noise.convert("1"), "TIFF", compression="group4")
    yield "TIFF, pages", encoded(flat, "TIFF", save_all=True, append_images=[noise])
    yield "TIFF, float", encoded(PIL.Image.fromarray(rng.random((9, 12), np.float32)), "TIFF")


def _pdfs(make_pdf: Callable[..., bytes]) -> Iterator[tuple[str, bytes]]:
    yield "PDF", make_pdf(["a", "b"], titles=["x"])
    yield "PDF, encrypted", make_pdf(["a"], encrypted=True)
    picture = PIL.Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    yield "PDF, picture", encoded(picture, "PDF", save_all=True, append_images=[picture])
