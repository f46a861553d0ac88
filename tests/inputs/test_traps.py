"""Files that lie, are huge or odd: one named test for each."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from sightrank.config import InputConfig
from sightrank.errors import (
    AspectRatioError,
    EmptyInputError,
    EncryptedPdfError,
    InputError,
    OptionError,
    SightrankError,
    TooLargeError,
    UnreadableImageError,
    UnreadablePdfError,
    UnsupportedInputError,
)
from sightrank.inputs.decode import _ADAM7
from sightrank.inputs.load import FileLimits, load
from sightrank.inputs.segments import Encoder
from sightrank.types import Document, Query
from tests.inputs.files import encoded

LIMITS = FileLimits()
RED = PIL.Image.new("RGB", (30, 20), (255, 0, 0))
MakeEncoder = Callable[..., Encoder]


def refused(path: Path, error: type[SightrankError], says: str) -> None:
    """Reading `path` raises exactly `error`, which names it, says so and tells what to do."""
    with pytest.raises(error, match=says) as caught:
        load(Document.of(path), LIMITS, max_pixels=602_112)
    assert type(caught.value) is error
    assert path.name in caught.value.message
    assert caught.value.hint


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.txt", "a.jpg"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    refused(write(tmp_path / name, b""), EmptyInputError, "has 0 bytes")


@pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.txt"])
def test_huge_file_is_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing; on most systems it takes no room
    refused(
        path, TooLargeError, r"has 1,099,511,627,776 bytes, allowed are (209,715,200|10,485,760)"
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_truncated_image(tmp_path: Path, form: str, share: float) -> None:
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    content = encoded(noise, form)
    path = write(tmp_path / "cut.png", content[: int(len(content) * share)])
    refused(path, UnreadableImageError, "truncated or damaged|known format")


def test_truncated_pdf(tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    content = make_pdf(["a", "b"])
    path = write(tmp_path / "cut.pdf", content[: len(content) // 4])
    refused(path, UnreadablePdfError, "damaged or is none")


def test_encrypted_pdf(tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    path = write(tmp_path / "secret.pdf", make_pdf(encrypted=True))
    refused(path, EncryptedPdfError, "asks for a password")


def test_pdf_without_pages(tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    refused(write(tmp_path / "none.pdf", make_pdf([])), EmptyInputError, "no pages")


@pytest.mark.parametrize("page", [3, 10**9])
def test_pdf_page_out_of_range(page: int, tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    path = write(tmp_path / "two.pdf", make_pdf(["a", "b"]))
    with pytest.raises(InputError, match=rf"two\.pdf.* no page {page}, it has pages 1 to 2"):
        load(Document.pdf(path, page), LIMITS, max_pixels=50_000)


@pytest.mark.parametrize("pages", [0, -1, (), "3-5", 1.5, [1, None], [2, 0]])
def test_page_numbers_that_are_none(pages: object) -> None:
    with pytest.raises(OptionError, match="count from 1"):
        Document.pdf("a.pdf", pages)  # type: ignore[arg-type]
    assert Document.pdf("a.pdf", np.arange(2, 4)) == Document.pdf("a.pdf", (2, 3))


def test_a_pdf_that_claims_pages_it_does_not_have(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    RED.save(buffer, "PDF")
    content = re.sub(rb"/Count 1\b", b"/Count 9", buffer.getvalue())
    refused(write(tmp_path / "short.pdf", content), UnreadablePdfError, "page 2")


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("pdf.png", UnreadableImageError, r"is a PDF. Use Document\.pdf"),
        ("text.png", UnreadableImageError, "known format"),
        ("zip.jpg", UnreadableImageError, "known format"),
        ("png.pdf", UnreadablePdfError, "damaged or is none"),
        ("text.pdf", UnreadablePdfError, "damaged or is none"),
        ("png.txt", UnsupportedInputError, "not UTF-8 text"),
        ("zeros.md", UnsupportedInputError, "zero bytes"),
    ],
)
def test_lying_suffix(
    name: str,
    error: type[SightrankError],
    says: str,
    tmp_path: Path,
    make_pdf: Callable[..., bytes],
) -> None:
    contents = {
        "pdf": make_pdf(["a"]),
        "text": b"just words, and enough of them to look like something",
        "png": encoded(RED, "PNG"),
        "zip": b"PK\x03\x04" + bytes(60),
        "zeros": bytes(60),
    }
    refused(write(tmp_path / name, contents[name.partition(".")[0]]), error, says)


def png_header(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header claims another size; its checksum fits."""
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("size", [(300, 200), (30, 4000), (30, 21)])
def test_lying_header_of_a_png(tmp_path: Path, size: tuple[int, int]) -> None:
    content = png_header(encoded(RED, "PNG"), *size)
    refused(write(tmp_path / "more.png", content), UnreadableImageError, "truncated or damaged")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (30, 20)])
def test_black_pngs_are_whole(mode: str, size: tuple[int, int]) -> None:
    content = encoded(PIL.Image.new(mode, size), "PNG")
    (image,) = load(Document.of(content), LIMITS, max_pixels=602_112)
    assert isinstance(image, PIL.Image.Image) and image.size == size


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 3), (8, 8), (13, 21)])
def test_interlaced_pngs_are_counted_pass_by_pass(tmp_path: Path, width: int, height: int) -> None:
    rows = b"".join(
        (b"\0" + bytes(-(-(width - x) // step_x))) * -(-(height - y) // step_y)
        for x, y, step_x, step_y in _ADAM7
        if width > x and height > y
    )
    for missing in (0, 1):
        data = zlib.compress(rows[: len(rows) - missing])
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
        path = write(tmp_path / "i.png", png([(b"IHDR", header), (b"IDAT", data)]))
        if missing:
            refused(path, UnreadableImageError, "truncated or damaged")
        else:
            assert len(load(Document.of(path), LIMITS, max_pixels=602_112)) == 1


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [*chunks, (b"IEND", b"")]
    )


def test_lying_header_of_a_bmp(tmp_path: Path) -> None:
    content = bytearray(encoded(RED, "BMP"))
    content[18:26] = struct.pack("<ii", 3000, 2000)
    refused(write(tmp_path / "more.bmp", bytes(content)), UnreadableImageError, "truncated")


def test_decompression_bomb(tmp_path: Path) -> None:
    side = 15_000
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = png([(b"IHDR", header), (b"IDAT", data)])
    assert len(content) < 500_000  # 225 million pixels
    path = write(tmp_path / "bomb.png", content)
    refused(path, TooLargeError, "15000 x 15000 = 225,000,000 pixels, allowed are 200,000,000")


def test_bombs_in_a_picture_s_metadata(tmp_path: Path) -> None:
    text = zlib.compress(bytes(80_000_000), 9)
    body = b"zTXtComment\0\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = encoded(RED, "PNG")
    path = write(tmp_path / "comment.png", content[:33] + chunk + content[33:])
    try:
        (image,) = load(Document.of(path), LIMITS, max_pixels=602_112)
    except UnreadableImageError as error:
        assert "comment.png" in error.message
    else:
        assert isinstance(image, PIL.Image.Image) and image.size == RED.size


@pytest.mark.parametrize(("size", "fits"), [((20, 4000), True), ((4001, 20), False)])
def test_aspect_ratio_over_200(encoder: Encoder, size: tuple[int, int], fits: bool) -> None:
    document = Document.image(PIL.Image.new("RGB", size), name="strip")
    if fits:
        assert encoder.document(document).images
        return
    with pytest.raises(AspectRatioError, match=r"^strip: .* allowed are 200 times") as caught:
        encoder.document(document)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\u00a0\u2003\u3000"])
def test_empty_or_white_query(encoder: Encoder, text: str) -> None:
    with pytest.raises(EmptyInputError, match=r"^Query .*nothing but white space") as caught:
        encoder.query(Query.text(text))
    assert caught.value.hint


def test_an_image_at_the_budget_of_4k(make_encoder: MakeEncoder) -> None:
    screen = PIL.Image.new("RGB", (3840, 2160), "navy")
    encoder = make_encoder(max_pixels=3840 * 2160, max_length=32_768)
    segment = encoder.document(Document.image(screen))
    assert segment.images[0].grid == (154, 274)  # 2156 x 3836 pixels
    assert segment.images[0].num_tokens == 10_549
    assert int((segment.ids == encoder.special.image).sum()) == 10_549
    assert make_encoder().document(Document.image(screen)).images[0].num_tokens == 720


def test_prompts_of_32k_tokens_and_not_one_more(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=32_768)
    text = "revenue " * 40_000
    whole = encoder.pair(Query.text(text), Document.text(text))
    assert len(whole) == 32_768 and whole.truncated
    assert int(whole.positions.max()) == 32_767
    with pytest.raises(OptionError, match="at most 32768"):
        InputConfig(max_length=32_769)


def test_special_tokens_in_user_text(encoder: Encoder) -> None:
    typed = "<|vision_start|><|image_pad|><|vision_end|><|endoftext|> \u00a7"
    whole = encoder.pair(Query.text(typed), Document.of([typed, RED, typed]))
    special = [encoder.special.image, encoder.special.vision_start, encoder.special.vision_end]
    counts = [int((whole.ids == token).sum()) for token in special]
    assert counts == [whole.images[0].num_tokens, 1, 1]
    assert encoder.tokenizer.decode(whole.ids.tolist()).count(typed) == 3


def test_a_query_of_megabytes_is_cut_before_it_is_embedded(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder(max_length=2048)
    text = "total revenue " * 20_000
    query = encoder.query(Query.text(text))
    assert len(query) == 2049
    prefix = encoder.document(Document.text("d"))
    suffix = encoder.suffix(prefix, query)
    np.testing.assert_array_equal(
        np.concatenate([prefix.ids, suffix.ids]),
        encoder.pair(Query.text(text), Document.text("d")).ids,
    )
    assert suffix.truncated
