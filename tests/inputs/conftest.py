"""A small byte-level BPE tokenizer of Qwen2's form, and PDFs written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from sightrank.config import InputConfig
from sightrank.inputs.segments import Encoder, SpecialIds
from sightrank.inputs.tokenizer import Tokenizer

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
CORPUS = [
    "**Document**:\nhello there, world!\n\n**Query**:\nwhat is it?",
    "**Document**:\n\nThe total revenue was 4,5 million.\n**Query**:\n\nrevenue",
    "a:\n\nb:\n\nc:\r\n\r\nd!\n\ne?\n f: \n (image_pad|vision_start) <|>\n",
    "Die Rechnung über 120 € geht an die Straße.\n你好，世界。\nこんにちは世界",
]


@pytest.fixture(scope="session")
def tokenizer_json() -> str:
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS * 3, trainer)
    bpe.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in SPECIAL])
    return str(bpe.to_str())


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: str) -> Tokenizer:
    return Tokenizer(tokenizer_json)


@pytest.fixture(scope="session")
def special(tokenizer_json: str) -> SpecialIds:
    bpe = tokenizers.Tokenizer.from_str(tokenizer_json)
    start, end, image = (bpe.token_to_id(name) for name in SPECIAL[1:])
    return SpecialIds(image=image, vision_start=start, vision_end=end, score=100)


@pytest.fixture(scope="session")
def make_encoder(tokenizer: Tokenizer, special: SpecialIds) -> Callable[..., Encoder]:
    def make(**settings: int) -> Encoder:
        return Encoder(tokenizer, special, InputConfig(**settings))

    return make


@pytest.fixture(scope="session")
def encoder(make_encoder: Callable[..., Encoder]) -> Encoder:
    return make_encoder()


@pytest.fixture(scope="session")
def make_pdf() -> Callable[..., bytes]:
    return write_pdf


def write_pdf(
    texts: Sequence[str] = ("Total revenue",),
    *,
    box: tuple[float, float] = (300, 200),
    encrypted: bool = False,
    titles: Sequence[str] = (),
) -> bytes:
    """A PDF with one page for each text; `titles` become bookmarks of pages 1, 2, ..."""
    count = len(texts)
    pages = [4 + 2 * number for number in range(count)]
    first_title = 4 + 2 * count
    outlines = f"/Outlines {first_title} 0 R" if titles else ""
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {outlines} >>",
        f"<< /Type /Pages /Count {count} /Kids [{' '.join(f'{n} 0 R' for n in pages)}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in zip(pages, texts, strict=True):
        stream = f"BT /F1 24 Tf 20 100 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {box[0]} {box[1]}]"
            f" /Resources << /Font << /F1 3 0 R >> >> /Contents {number + 1} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects += _bookmarks(titles, first_title, pages)
    extra = ""
    if encrypted:  # keys that no password fits
        blank = "41" * 32
        objects.append(
            f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{blank}> /U <{blank}> /Length 40 >>"
        )
        extra = f"/Encrypt {len(objects)} 0 R /ID [<00><00>]"
    return _assembled(objects, extra)


def _bookmarks(titles: Sequence[str], root: int, pages: Sequence[int]) -> list[str]:
    if not titles:
        return []
    last = root + len(titles)
    objects = [f"<< /First {root + 1} 0 R /Last {last} 0 R /Count {len(titles)} >>"]
    for index, title in enumerate(titles):
        number = root + 1 + index
        following = f"/Next {number + 1} 0 R" if number < last else ""
        objects.append(
            f"<< /Title ({title}) /Parent {root} 0 R {following} /Dest [{pages[index]} 0 R /Fit] >>"
        )
    return objects


def _assembled(objects: Sequence[str], extra: str) -> bytes:
    content = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    rows = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{rows}"
    trailer = f"trailer << /Root 1 0 R /Size {len(objects) + 1} {extra} >>"
    return content + f"{table}{trailer}\nstartxref\n{len(content)}\n%%EOF\n".encode()
