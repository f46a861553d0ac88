"""Bytes of an image file, in whatever wrapping, to an upright RGB image."""

from __future__ import annotations

import base64
import io
import re
import struct
import threading
import zlib
from typing import Literal

import PIL.Image

from sightrank.errors import (
    EmptyInputError,
    SightrankError,
    TooLargeError,
    UnreadableImageError,
    UnsupportedInputError,
)
from sightrank.inputs.files import FileLimits, check_size
from sightrank.inputs.images import to_rgb

# What types.IMAGE_SUFFIXES names. Other formats of Pillow stay out: EPS would start a program.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_ORIENTATION = 0x0112
_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
# First column and row of each pass of an interlaced PNG, and the steps from there.
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
_PILLOW_LIMIT = threading.Lock()  # guards PIL.Image.MAX_IMAGE_PIXELS while it is lifted


def decode_image(content: bytes, limits: FileLimits) -> PIL.Image.Image:
    """The first frame, turned upright by its EXIF orientation, in RGB.

    Raises UnreadableImageError for damaged or unknown bytes, TooLargeError from the header's size
    before anything is decoded.
    """
    check_size(len(content), limits.max_file_bytes, "image")
    try:
        with _open(content) as image:
            check_pixels(image, limits)
            image.load()
            # Not so a JPEG, whose missing rows the decoder fills with grey: the format has neither a
            # count nor a checksum of its pixels, so rows that a camera never sent look like damage
            # anywhere else in the data. Viewers show the grey, and the released model reads it. One
            # that was cut off lacks its end marker and is refused above.
            if image.format == "PNG":
                _check_rows(image, content)
            return to_rgb(_upright(image))
    except SightrankError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise _unknown(content) from error
    except Exception as error:  # decoders raise whatever the bytes lead them to
        raise UnreadableImageError(
            f"The image is truncated or damaged: {error}.", "Open it in a viewer and save it again."
        ) from error


def convert_image(image: PIL.Image.Image, limits: FileLimits) -> PIL.Image.Image:
    """A Pillow image as it is, in RGB; its EXIF data is the caller's business."""
    check_pixels(image, limits)
    try:
        return to_rgb(image)
    except SightrankError:
        raise
    except Exception as error:  # a lazily opened file is decoded here
        raise UnreadableImageError(
            f"The image cannot be decoded: {error}.", "Check the file behind it."
        ) from error


def decode_base64(text: str, limits: FileLimits, kind: Literal["image", "PDF"] = "image") -> bytes:
    """The bytes in a base64 string, bare or in a data URI. Never a path, never an address."""
    if not text.strip():
        raise EmptyInputError(f"The {kind} string is empty.", "Give base64 or a data URI.")
    if re.match(r"\s*https?://", text, re.IGNORECASE):
        raise UnsupportedInputError(
            f"The {kind} is a web address ({quote(text)}), and nothing is fetched here.",
            "Fetch it first and pass the bytes.",
        )
    payload = _data_uri_payload(text, kind) if text.lstrip()[:5].lower() == "data:" else text
    check_size(max(1, len(payload) * 3 // 4), limits.max_file_bytes, kind)
    compact = re.sub(r"\s+", "", payload).rstrip("=").translate({45: 43, 95: 47})  # URL-safe too
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError as error:
        raise UnsupportedInputError(
            f"The {kind} string ({quote(text)}) is neither base64 nor a data URI.",
            "Pass a file as a pathlib.Path, other content as bytes.",
        ) from error


def check_pixels(image: PIL.Image.Image, limits: FileLimits) -> None:
    """Raise TooLargeError for more pixels than allowed, EmptyInputError for none."""
    pixels = image.width * image.height
    if pixels == 0:
        raise EmptyInputError("The image has no pixels.", "Give an image that has some.")
    if pixels > limits.max_image_pixels:
        raise TooLargeError(
            f"The image has {image.width} x {image.height} = {pixels:,} pixels, allowed are"
            f" {limits.max_image_pixels:,}.",
            "Scale it down or raise the limit in FileLimits.",
        )


def quote(text: str, length: int = 40) -> str:
    """The beginning of a text on one line, for messages."""
    start = text[: 4 * length].encode("utf-8", "replace").decode()  # lone surrogates do not print
    line = " ".join(start.split())
    return f'"{line[:length]}..."' if len(line) > length or len(text) > 4 * length else f'"{line}"'


def _open(content: bytes) -> PIL.Image.Image:
    # Pillow warns or raises by its own limit on opening, when all that is read is the header;
    # check_pixels holds ours right after.
    with _PILLOW_LIMIT:
        limit = PIL.Image.MAX_IMAGE_PIXELS
        PIL.Image.MAX_IMAGE_PIXELS = None
        try:
            return PIL.Image.open(io.BytesIO(content), formats=_FORMATS)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _check_rows(image: PIL.Image.Image, content: bytes) -> None:
    """Raise UnreadableImageError for a PNG whose pixels end before its header says.

    Pillow leaves what is missing at zero and says nothing, so the pixels are counted where the last
    row is zero or rows come interlaced.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    if not interlaced and any(image.crop((0, image.height - 1, *image.size)).tobytes()):
        return
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    needed = 0
    for x, y, step_x, step_y in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = (width - x + step_x - 1) // step_x, (height - y + step_y - 1) // step_y
        needed += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    found = _inflated_size(content, needed)
    if found < needed:
        raise UnreadableImageError(
            f"The image is truncated or damaged: its header claims {width} x {height} pixels, which"
            f" are {needed:,} bytes, and {found:,} are there.",
            "Open it in a viewer and save it again.",
        )


def _inflated_size(png: bytes, enough: int) -> int:
    """Bytes of a PNG's pixel data, counted up to `enough` without keeping them."""
    packed, at = [], 8
    while at + 8 <= len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        if name == b"IDAT":
            packed.append(png[at + 8 : at + 8 + size])
        at += 12 + size
    unpacker, rest, found = zlib.decompressobj(), b"".join(packed), 0
    while found < enough and not unpacker.eof:
        piece = unpacker.decompress(rest, 1 << 20)
        rest, found = unpacker.unconsumed_tail, found + len(piece)
        if not piece and not rest:
            break
    return found


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, TypeError, struct.error):
        # Damaged EXIF data says nothing about the pixels, which are whole.
        return image
    return image if turn is None else image.transpose(turn)


def _data_uri_payload(text: str, expected: str) -> str:
    header, comma, payload = text.lstrip().partition(",")
    kind, *options = header[5:].split(";")
    if not comma or "base64" not in (option.strip().lower() for option in options):
        raise UnsupportedInputError(
            f"The data URI {quote(text)} is not in base64.",
            "Expected is data:image/png;base64,... or the like.",
        )
    usual = "image/" if expected == "image" else "application/pdf"
    if kind and not kind.strip().lower().startswith((usual, "application/octet-stream")):
        raise UnsupportedInputError(
            f"The data URI holds {quote(kind)}, expected is {_article(expected)}.",
            "For a PDF use Document.pdf(bytes), for text a string.",
        )
    return payload


def _article(kind: str) -> str:
    return "an image" if kind == "image" else f"a {kind}"


def _unknown(content: bytes) -> UnreadableImageError:
    if content[:1024].lstrip().startswith(b"%PDF-"):
        return UnreadableImageError("The image is a PDF.", "Use Document.pdf for it.")
    return UnreadableImageError(
        f"The bytes (they begin with {content[:8]!r}) are no image of a known format"
        f" ({', '.join(_FORMATS)}).",
        "Convert it to PNG.",
    )
