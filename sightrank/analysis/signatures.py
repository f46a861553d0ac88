"""What two copies of a document have in common: their words, looks and widths of words. No model is
run.

`words`, of what has text (a passage, or a PDF page with a text layer): its runs of three words,
hashed. `look`, of what is seen: the coarse shapes of its print, margins cut off. Both are compared by
their cosine. `widths`, of both: how wide one word after another is, compared run by run.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightrank.analysis import widths
from sightrank.analysis.straight import ink_of, straight
from sightrank.errors import SightrankError
from sightrank.inputs.load import FileLimits, iter_load
from sightrank.inputs.pdf import page_numbers, page_text
from sightrank.types import Document, Pdf

WORDS, SHAPES = 512, 32
SHINGLE = 3
"""Words in a run."""
SEEN = 128
"""Side in pixels of the square on which shapes are measured."""
EDGE = 0.005
"""Share of the ink that may lie outside on each side when margins are cut off: specks, scanner edges."""
PAGE_PIXELS = 602_112
"""At which a PDF page is looked at."""
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")

Bytes = NDArray[np.int8]


@dataclass(frozen=True)
class Signature:
    """A document as far as telling copies needs it."""

    digest: bytes
    """32 bytes, of the text and the pixels: equal documents have equal ones."""
    words: Bytes
    """(512,), all zero without text."""
    look: Bytes
    """(1024,), all zero without a picture."""
    widths: Bytes
    """(512,), of the text where there is one behind the picture; see sightrank.analysis.widths."""
    num_pixels: int
    """Of its pictures as they are; 0 for a text. A PDF page counts as it is drawn."""
    num_characters: int
    """Of its text or text layer."""


def signature(document: Document, limits: FileLimits) -> Signature:
    """Read a document and make its signature. Raises InputError."""
    hasher, num_pixels = hashlib.sha256(), 0
    shapes, texts = np.zeros(SHAPES**2), _layers(document, limits)
    printed, read = [], bool(texts)
    for part in iter_load(document, limits, max_pixels=PAGE_PIXELS):
        if isinstance(part, str):
            texts.append(part)
            continue
        hasher.update(repr(part.size).encode() + part.tobytes())
        shapes += shape_vector(part)
        printed += [] if read else [widths.of_picture(part)]
        num_pixels += part.width * part.height
    text = "\n".join(texts).strip()
    hasher.update(text.encode("utf-8", "surrogatepass"))
    return Signature(
        hasher.digest(),
        as_bytes(word_vector(text)),
        as_bytes(shapes),
        widths.kept(np.concatenate((widths.of_text(text), *printed))),
        num_pixels,
        len(text),
    )


def _layers(document: Document, limits: FileLimits) -> list[str]:
    """Text layers of the PDF pages in a document; a layer that cannot be read is none."""
    found = []
    for part in document.parts:
        if isinstance(part, Pdf):
            try:
                pages = page_numbers(part.source, part.pages, limits)
                found += [page_text(part.source, page, limits) for page in pages]
            except SightrankError:
                continue
    return [text for text in found if text.strip()]


def word_vector(text: str) -> NDArray[np.float64]:
    """Runs of three words, each counted with a sign in a place of its hash (Weinberger et al. 2009).

    (512,). The cosine of two such vectors is near the share of runs that two texts have in common,
    wherever in them they stand. Letters of scripts without spaces are words. A text of fewer words is
    one run.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    count = max(len(words) - SHINGLE + 1, 1 if words else 0)
    runs = Counter(" ".join(words[at : at + SHINGLE]) for at in range(count))
    vector = np.zeros(WORDS)
    for run, times in runs.items():
        number = int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big")
        vector[number % WORDS] += times**0.5 * (1 if number >> 63 else -1)
    return vector


def shape_vector(picture: PIL.Image.Image) -> NDArray[np.float64]:
    """The 32 x 32 lowest frequencies of a picture set straight and without its margins.

    (1024,), of unit length. A cosine transform as in perceptual hashes (Zauner 2010), the mean
    brightness left out and kept whole, so that its cosine tells how much two pictures differ.
    Fine shapes, such as the lengths of lines, are strengthened by the root of their frequency: the
    coarse ones of most pages are alike.
    """
    grey = straight(picture.convert("L"))
    grey = grey.crop(_inked(grey)).resize((SEEN, SEEN), PIL.Image.Resampling.BOX)
    numbers = np.arange(SHAPES)
    waves = np.cos(np.pi / SEEN * numbers[:, None] * (np.arange(SEEN) + 0.5))
    shapes = waves @ np.asarray(grey, np.float64) @ waves.T
    shapes *= np.sqrt(np.hypot(numbers[:, None], numbers))  # 0 for the mean brightness
    length = float(np.linalg.norm(shapes))
    flat: NDArray[np.float64] = shapes.ravel() / (length if length > 1e-6 else 1)
    return flat


def _inked(grey: PIL.Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of nearly all that differs from the background."""
    ink = ink_of(grey, 512)
    if not ink.any():
        return 0, 0, grey.width, grey.height
    (left, right), (top, bottom) = (_extent(ink.sum(axis=axis)) for axis in (0, 1))
    across, down = grey.width / ink.shape[1], grey.height / ink.shape[0]
    return (
        int(left * across),
        int(top * down),
        max(int(left * across) + 1, round(right * across)),
        max(int(top * down) + 1, round(bottom * down)),
    )


def _extent(mass: NDArray[np.float64]) -> tuple[int, int]:
    """The places between which all of `mass` lies but for an edge on either side."""
    share = mass.cumsum() / mass.sum()
    return int(np.searchsorted(share, EDGE)), int(np.searchsorted(share, 1 - EDGE)) + 1


def as_bytes(vector: NDArray[np.float64]) -> Bytes:
    """A vector's direction in bytes, its largest number 127."""
    largest = float(np.abs(vector).max())
    scaled: Bytes = np.rint(vector * (127 / largest if largest > 0 else 0)).astype(np.int8)
    return scaled
