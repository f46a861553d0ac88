"""Text as pictures, with the place of every character known.

The vision tower learns to read from these: under each of its squares the renderer knows what is
printed, so every visual token has its own answer.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from PIL.ImageFont import FreeTypeFont
from tokenizers import Tokenizer

from recipe.fonts import Fonts

BLOCK, PATCH = 28, 14


@dataclass(frozen=True)
class Page:
    """A picture and what is printed on it."""

    pixels: NDArray[np.uint8]
    """(height, width, 3), both multiples of 28."""
    text: str
    """Everything printed, in reading order."""
    places: NDArray[np.float32]
    """(len(text), 2): centre x and y in pixels of each character; NaN where nothing is printed."""

    def squares(self, points: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """The visual token, in raster order, in which each x and y of (n, 2) lies; -1 for none."""
        rows, columns = (side // BLOCK for side in self.pixels.shape[:2])
        x, y = (np.nan_to_num(points, nan=-1.0) // BLOCK).astype(np.int64).T
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        return np.where(inside, y * columns + x, -1)


@dataclass
class _Sheet:
    """A page being written, `zoom` times as large as it will be.

    Print that is drawn large and scaled down looks as PDF pages and photographs do; drawn at its
    own size it is fitted to the pixels, as on a screen.
    """

    width: int
    height: int
    zoom: int = 1

    def __post_init__(self) -> None:
        self.image = Image.new("L", (self.width, self.height), 0)
        self.draw = ImageDraw.Draw(self.image)
        self.text: list[str] = []
        self.places: list[tuple[float, float]] = []

    def word(self, word: str, face: FreeTypeFont, x: float, y: float) -> None:
        """Print a word with its top left corner at (x, y)."""
        self.draw.text((x, y), word, font=face, fill=255)
        middle = y + sum(face.getmetrics()) / 2
        edge = x
        for char in word:
            advance = _advance(face, char)
            self.places.append((edge + advance / 2, middle))
            edge += advance
        self.text.append(word)

    def gap(self, gap: str) -> None:
        """Characters between words, which have no place."""
        self.text.append(gap)
        self.places += [(np.nan, np.nan)] * len(gap)


def _advance(face: FreeTypeFont, text: str) -> float:
    return float(face.getlength(text))


def set_text(
    sheet: _Sheet,
    text: str,
    face: FreeTypeFont,
    *,
    box: tuple[float, float, float, float],
    leading: float,
    justify: bool = False,
) -> float:
    """Fill the box (left, top, right, bottom) with lines of `text`; return where the next would go."""
    left, y, right, bottom = box
    height = sum(face.getmetrics())
    for line, full in _lines(text, face, right - left):
        if y + height > bottom:
            break
        space = _advance(face, " ")
        words = sum(_advance(face, word) for word in line)
        gaps = sum(word != "" and spaced for word, spaced in zip(line, _spaced(line), strict=True))
        if justify and full and gaps:
            space = max(space, (right - left - words) / gaps)
        x = left
        for word, spaced in zip(line, _spaced(line), strict=True):
            if spaced:
                sheet.gap(" ")
                x += space
            sheet.word(word, face, x, y)
            x += _advance(face, word)
        sheet.gap("" if _is_wide(line[-1][-1]) else " ")
        y += height * leading
    return y


def _spaced(line: Sequence[str]) -> list[bool]:
    """Whether a space stands before each word of a line."""
    spaced = [False]
    for before, word in pairwise(line):
        spaced.append(not (_is_wide(before[-1]) and _is_wide(word[0])))
    return spaced


def _is_wide(char: str) -> bool:
    """Scripts that are written without spaces: kana, Han, full-width forms."""
    return 0x2E80 <= ord(char) < 0xAC00 or 0xF900 <= ord(char) < 0xFB00 or ord(char) >= 0xFF00


def _lines(text: str, face: FreeTypeFont, width: float) -> list[tuple[list[str], bool]]:
    """Words a line, and whether the line ended because it was full."""
    lines: list[tuple[list[str], bool]] = []
    space = _advance(face, " ")
    for paragraph in text.split("\n"):
        line: list[str] = []
        used = 0.0
        for word in _words(paragraph):
            need = _advance(face, word) + (space if line and not _is_wide(word[0]) else 0)
            if line and used + need > width:
                lines.append((line, True))
                line, used = [], 0.0
            line.append(word)
            used += need
        if line:
            lines.append((line, False))
    return lines


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in text.split():
        run = ""
        for char in word:
            if _is_wide(char):
                words += [run, char] if run else [char]
                run = ""
            else:
                run += char
        if run:
            words.append(run)
    return words


def render_crop(
    text: str, rng: random.Random, fonts: Fonts, width: int = 224, height: int = 112
) -> Page:
    """A few lines of print, as if cut out of a page: random face, size, leading and place."""
    if not text.strip():
        raise ValueError("Nothing to print: the text is empty.")
    zoom = _zoom(rng)
    width, height = width * zoom, height * zoom
    size = round(rng.choice((rng.uniform(8, 14), rng.uniform(9, 26))) * zoom)
    face = fonts.face(fonts.choose(text[:80], rng), size)
    sheet = _Sheet(width, height, zoom)
    left = rng.uniform(-2, 12) * zoom if rng.random() < 0.7 else rng.uniform(0, width / 2)
    top = rng.uniform(-4, 24) * zoom
    right = width - rng.uniform(-4, 12) * zoom
    box = (left, top, max(right, left + 4 * size), height + size)
    set_text(sheet, text, face, box=box, leading=rng.uniform(0.95, 1.5), justify=rng.random() < 0.2)
    return _finish(sheet, rng)


def render_letters(
    text: str,
    rng: random.Random,
    fonts: Fonts,
    away: float = PATCH / 2,
    width: int = 224,
    height: int = 112,
) -> Page:
    """One character on each patch, at most `away` pixels from its middle.

    Sheets on which every character lies in the middle are easy to read. A vision tower that meets
    them first learns the shapes of letters there, and needs far fewer steps to leave the plateau on
    which it knows only how frequent each letter is.
    """
    text = " ".join(text.split())
    size = rng.randint(10, 18)
    face = fonts.face(fonts.choose(text[:80], rng), size)
    sheet = _Sheet(width, height)
    away = rng.uniform(0, away)
    shift = rng.uniform(-away, away), rng.uniform(-away, away)
    middle = sum(face.getmetrics()) / 2
    columns = width // PATCH
    for place, char in enumerate(text[: columns * (height // PATCH)]):
        row, column = divmod(place, columns)
        if char == " ":
            sheet.gap(char)
            continue
        x = (column + 0.5) * PATCH + shift[0] + rng.uniform(-away, away) / 2
        y = (row + 0.5) * PATCH + shift[1] + rng.uniform(-away, away) / 2
        sheet.word(char, face, x - _advance(face, char) / 2, y - middle)
    return _finish(sheet, rng)


def render_page(
    title: str | None,
    paragraphs: Sequence[str],
    rng: random.Random,
    fonts: Fonts,
    width: int = 588,
    height: int = 840,
) -> Page:
    """A page of a document: heading, paragraphs, sometimes two columns, header and page number."""
    text = "\n".join(paragraphs)
    if not text.strip() and not (title or "").strip():
        raise ValueError("Nothing to print: the page is empty.")
    path = fonts.choose((title or "") + text[:120], rng)
    zoom = _zoom(rng)
    width, height = width * zoom, height * zoom
    size = round(rng.uniform(8, 15) * zoom)
    face, sheet = fonts.face(path, size), _Sheet(width, height, zoom)
    margin = rng.uniform(0.05, 0.14) * width
    y = margin
    if rng.random() < 0.3:
        small = fonts.face(path, max(8 * zoom, size - 2 * zoom))
        sheet.word(str(rng.randint(1, 300)), small, width / 2, height - margin * 0.7)
        sheet.gap(" ")
    if title:
        head = fonts.face(path, int(size * rng.uniform(1.2, 2.0)))
        box = (margin, y, width - margin, height - margin)
        y = set_text(sheet, title, head, box=box, leading=1.2) + size
    columns = 2 if rng.random() < 0.2 and width >= 448 * zoom else 1
    leading, justify = rng.uniform(1.05, 1.5), rng.random() < 0.4
    gutter = size * 1.5
    column_width = (width - 2 * margin - gutter * (columns - 1)) / columns
    column, top = 0, y
    for paragraph in paragraphs:
        while column < columns:
            left = margin + column * (column_width + gutter)
            box = (left, y, left + column_width, height - margin)
            y = set_text(sheet, paragraph, face, box=box, leading=leading, justify=justify)
            y += size * rng.uniform(0.3, 0.9)
            if y < height - margin - 2 * size:
                break
            column, y = column + 1, top
            if column < columns:
                break
    return _finish(sheet, rng)


def render_passage(text: str, rng: random.Random, fonts: Fonts, largest: int = 360) -> Page:
    """A passage on a sheet about as large as it needs, of at most `largest` squares; what does not
    fit is cut off."""
    wide = sum(1 + _is_wide(char) for char in text) / max(len(text), 1)
    width = BLOCK * rng.randrange(7, 20)
    lines = len(text) * 6.5 * wide / (0.8 * width) + text.count("\n") + 1
    height = (lines * 16 + 0.2 * width) / BLOCK
    rows = min(max(2, round(height)), max(2, largest // (width // BLOCK)))
    return render_page(None, text.split("\n"), rng, fonts, width=width, height=BLOCK * rows)


def _zoom(rng: random.Random) -> int:
    return rng.choice((1, 1, 2, 2, 3))


def _finish(sheet: _Sheet, rng: random.Random) -> Page:
    """Ink and paper colours, and now and then what scanners, cameras and JPEG do."""
    small = (sheet.width // sheet.zoom, sheet.height // sheet.zoom)
    drawn = sheet.image.resize(small, Image.Resampling.BICUBIC) if sheet.zoom > 1 else sheet.image
    ink = np.asarray(drawn, np.float32)[..., None] / 255
    paper = np.array([rng.uniform(215, 255)] * 3) - [rng.uniform(0, 25) for _ in range(3)]
    colour = np.array([rng.uniform(0, 70)] * 3) + [rng.uniform(0, 40) for _ in range(3)]
    if rng.random() < 0.7:
        paper, colour = np.full(3, 255.0), np.full(3, rng.choice((0.0, 0.0, 40.0)))
    if rng.random() < 0.05:
        paper, colour = colour, paper
    pixels = paper + (colour - paper) * ink
    if rng.random() < 0.1:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(size=pixels.shape[:2])
        pixels = pixels + noise[..., None] * rng.uniform(2, 12)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.1:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    if rng.random() < 0.2:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(35, 90))
        image = Image.open(buffer)
    places = np.array(sheet.places, np.float32).reshape(-1, 2) / np.float32(sheet.zoom)
    return Page(np.asarray(image), "".join(sheet.text), places)


def token_targets(page: Page, tokenizer: Tokenizer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(square, token) pairs in reading order: which tokens have their centre in which square.

    Squares of 28 x 28 pixels are numbered in raster order. Tokens are those of the whole text, as
    it would be encoded in a passage; a token that prints nothing has no square.
    """
    encoding = tokenizer.encode(page.text)
    spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    shown = ~np.isnan(page.places[:, 0])
    sums = np.concatenate((np.zeros((1, 2)), np.nan_to_num(page.places).cumsum(0)))
    counts = np.concatenate(([0], shown.cumsum()))
    number = counts[spans[:, 1]] - counts[spans[:, 0]]
    centre = (sums[spans[:, 1]] - sums[spans[:, 0]]) / np.maximum(number, 1)[:, None]
    squares = page.squares(centre)
    inside = (number > 0) & (squares >= 0)
    return squares[inside], np.array(encoding.ids, np.int64)[inside]
