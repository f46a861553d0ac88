"""Files, bytes and strings: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank.errors import (
    EmptyInputError,
    InputError,
    TooLargeError,
    UnreadableImageError,
    UnsupportedInputError,
)
from sightrank.inputs.load import FileLimits, load
from sightrank.types import Document, Image, Query, Text, TextFile

LIMITS = FileLimits()


def encoded(image: PIL.Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def load_one(source: object, limits: FileLimits = LIMITS) -> PIL.Image.Image:
    (image,) = load(Document((Image(source),)), limits, max_pixels=602_112)  # type: ignore[arg-type]
    assert isinstance(image, PIL.Image.Image)
    assert image.mode == "RGB"
    return image


RED = PIL.Image.new("RGB", (30, 20), (255, 0, 0))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_formats(form: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"  # the suffix lies for most; the bytes decide
    path.write_bytes(encoded(RED, form))
    image = load_one(path)
    assert image.size == (30, 20)
    assert np.abs(np.asarray(image).astype(int) - (255, 0, 0)).max() < 10


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: f"data:image/png;base64,{text}",
        lambda text: f"data:;base64,{text}",
        lambda text: re.sub("(.{60})", r"\1\n", text),
        lambda text: text.rstrip("=").replace("+", "-").replace("/", "_"),
    ],
)
def test_base64_strings(wrap: Callable[[str], str]) -> None:
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    image = load_one(wrap(base64.b64encode(encoded(noise)).decode()))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(noise))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("https://example.org/a.png", UnsupportedInputError, "Fetch it first"),
        ("HTTP://example.org/a.png", UnsupportedInputError, "Fetch it first"),
        ("pictures/a.png", UnsupportedInputError, "pathlib.Path"),
        ("data:image/svg+xml,%3Csvg%3E", UnsupportedInputError, "not in base64"),
        ("data:application/pdf;base64,AAAA", UnsupportedInputError, "Document.pdf"),
        ("Straße", UnsupportedInputError, "neither base64"),
        ("  ", EmptyInputError, "empty"),
        ("AAAA", UnreadableImageError, "known format"),
        (b"", EmptyInputError, "0 bytes"),
        (b"%PDF-1.4 ...", UnreadableImageError, "Document.pdf"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            UnreadableImageError,
            "known format",
        ),
        (encoded(RED)[:60], UnreadableImageError, "truncated or damaged"),
        (encoded(RED, "JPEG")[:-200], UnreadableImageError, "truncated or damaged"),
        (7, UnsupportedInputError, "type int"),
    ],
)
def test_refused_images(source: object, error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        load_one(source)


def test_nothing_is_read_from_a_string_that_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RED))
    with pytest.raises(UnsupportedInputError):
        load_one(str(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_files_but_not_pillow_images(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # top left is white
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = PIL.Image.fromarray(upright)
    undo = [None, None, 0, 3, 1, 5, 2, 6, 4][orientation]  # how a camera would have stored it
    if undo is not None:
        stored = stored.transpose(PIL.Image.Transpose(undo))
    content = encoded(stored, exif=exif)
    np.testing.assert_array_equal(np.asarray(load_one(content)), upright)
    lazy = PIL.Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(np.asarray(load_one(lazy)), np.asarray(stored))


def test_damaged_exif_does_not_hide_whole_pixels() -> None:
    assert load_one(encoded(RED, "JPEG", exif=b"Exif\0\0nonsense")).size == (30, 20)


def test_animations_show_their_first_frame() -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_one(content).getpixel((0, 0)) == (255, 0, 0)


def test_cmyk_jpeg_and_16_bit_png() -> None:
    image = load_one(encoded(RED.convert("CMYK"), "JPEG"))
    assert np.abs(np.asarray(image).astype(int) - (255, 0, 0)).max() < 10
    deep = PIL.Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16))
    assert load_one(encoded(deep)).getpixel((0, 0)) == (128, 128, 128)


def test_pixel_bombs_are_refused_by_their_header() -> None:
    content = bytearray(encoded(PIL.Image.new("L", (10, 10))))
    content[16:24] = (60_000).to_bytes(4, "big") * 2  # IHDR; its checksum no longer fits
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    with pytest.raises(TooLargeError, match=r"60000 x 60000 = 3,600,000,000 pixels"):
        load_one(bytes(content))
    assert PIL.Image.MAX_IMAGE_PIXELS is not None
    small = FileLimits(max_image_pixels=100)
    with pytest.raises(TooLargeError, match="allowed are 100"):
        load_one(RED, small)


def test_byte_limits_hold_before_decoding(tmp_path: Path) -> None:
    content = encoded(RED)
    limits = FileLimits(max_file_bytes=len(content) - 1, max_text_bytes=3)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for source in (content, path, base64.b64encode(content).decode()):
        with pytest.raises(TooLargeError):
            load_one(source, limits)
    with pytest.raises(TooLargeError, match="4 bytes"):
        load(Document.of("ä b"), limits, max_pixels=1)


def test_missing_files_directories_and_odd_paths_are_named(tmp_path: Path) -> None:
    for make in (Image, TextFile):
        with pytest.raises(InputError, match=r"nothing\.png does not exist"):
            load(Query((make(tmp_path / "nothing.png"),)), LIMITS, max_pixels=1)
        with pytest.raises(InputError, match=rf"{tmp_path.name} is a directory"):
            load(Query((make(tmp_path),)), LIMITS, max_pixels=1)
        with pytest.raises(InputError, match="cannot be read"):
            load(Query((make(Path("a\0b")),)), LIMITS, max_pixels=1)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"secret\.txt may not be read"):
        load(Document.of(path), LIMITS, max_pixels=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        load(Document.of(tmp_path / "pipe"), LIMITS, max_pixels=1)


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffGrüße\r\n".encode())
    assert load(Document.of(path), LIMITS, max_pixels=1) == ["Grüße\r\n"]
    for content in ("Grüße".encode("latin-1"), "text".encode("utf-16-le"), b"PK\x03\x04\xff"):
        path.write_bytes(content)
        with pytest.raises(UnsupportedInputError, match=r"a\.txt .*UTF-8"):
            load(Document.of(path), LIMITS, max_pixels=1)
    path.write_bytes(b" \n")
    with pytest.raises(EmptyInputError, match=r"a\.txt"):
        load(Document.of(path), LIMITS, max_pixels=1)


@pytest.mark.parametrize("text", ["", " ", "\n\t\u3000"])
def test_blank_text_is_refused_alone_and_left_out_beside_content(text: str) -> None:
    with pytest.raises(EmptyInputError, match="white space"):
        load(Document.of(text), LIMITS, max_pixels=1)
    assert load(Document((Text(text), Text("x"))), LIMITS, max_pixels=1) == ["x"]


def test_errors_name_the_item() -> None:
    with pytest.raises(UnreadableImageError, match=r"^invoice 7: The bytes"):
        load(Document.image(b"junk", name="invoice 7"), LIMITS, max_pixels=1)
    with pytest.raises(UnreadableImageError, match=r'^Query "look at this": The bytes'):
        load(Query((Text("look at this"), Image(b"junk"))), LIMITS, max_pixels=1)
    with pytest.raises(UnreadableImageError, match=r"^Document \(image\): The bytes"):
        load(Document.of(b"junk"), LIMITS, max_pixels=1)
