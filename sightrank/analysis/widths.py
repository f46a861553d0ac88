"""How wide the words of a document are, one after another: nearly the same in every font.

Word-shape coding, as in retrieval of scanned documents without OCR (Spitz 1995, "Using character
shape codes for word spotting in document images"; Lu and Tan 2008, "Document image retrieval through
word shape coding"), brought down to widths, which a text has without being printed. Nothing is read.
Scripts without spaces between words have no such widths.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from sightrank.analysis.straight import straight

MOST = 512
"""Words that are kept; of a longer document the first."""
NONE = -128
"""Where there is no word."""
STEPS = 16
"""In which a doubling of width is kept."""
PIXELS = 1_000_000
"""To which larger pictures are scaled down: at 100 dpi an A4 page, its print still apart."""
ZOOM = 2
FAINT = 24
"""Levels of grey by which ink differs from paper at least."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6)
"""Of ink in a column, below which it is a gap: italics touch at low ones, thin print breaks at high."""

LETTERS = {
    0.4: "'",
    0.5: ",.ijlіј",
    0.6: "!:;I[]f|ΙιІ",
    0.7: "()-/`rt",
    0.8: '"\\Јг',
    0.9: "*Jcsz{}ζτзт",
    1.0: "?aekvxyεκνξςавексухьэя",
    1.2: "FLPSTZ~ΓΖΡΤαμπσбЕЗРТЬицъ",
    1.3: "#+<=>BEXYΒΕΞΣΥΧАВКСУХЧЭЯм",
    1.4: "ACKRUVΑΔΚΛφψωДЛПы",
    1.5: "&DGHNOQwΗΘΝΟΠΦΨΩИНОФЦЪжфю",
    1.6: "шщ",
    1.7: "%@mМ",
    1.8: "MΜ",
    1.9: "WЖШ",
    2.0: "ЩЮ",
}
"""Width -> characters, 1 the mean of small ones: means over 19 proportional text fonts of Debian."""
OTHER, WIDE = 1.1, 2.0
_WIDTH = {char: width for width, chars in LETTERS.items() for char in chars}

Floats = NDArray[np.float64]
Ink = NDArray[np.float32]
Widths = NDArray[np.int8]


def of_text(text: str) -> Floats:
    """(words,) the widths that the words of a text would have in an average font."""
    words = unicodedata.normalize("NFKC", text).split()
    return np.array([sum(map(_width, word)) for word in words])


def _width(char: str) -> float:
    """A letter's as that of its base, without accents; 0 of a mark that combines with others."""
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return WIDE
    return _WIDTH.get(unicodedata.normalize("NFD", char)[0], OTHER)


def of_picture(picture: PIL.Image.Image) -> Floats:
    """(words,) the widths of what looks like words, in x-heights, column by column and line by line.

    Gaps within and between words are told apart where they fall most clearly into two kinds (Otsu
    1979), all lines of a picture together.
    """
    lines = _lines(picture)
    best, clearest = np.zeros(0), 0.0
    for threshold in THRESHOLDS:
        strokes = [(height, _runs(line > threshold)) for height, line in lines]
        gaps = [(runs[1:, 0] - runs[:-1, 1]) / height for height, runs in strokes]
        among = np.concatenate([*gaps, np.zeros(0)])
        if len(among) < 8:
            continue
        # What is wider than an x-height is between words, and how wide it is says nothing.
        least, clear = _two_kinds(np.minimum(among, 1.0))
        if clear > clearest:
            words = [
                _words(runs, gap > least) / height
                for (height, runs), gap in zip(strokes, gaps, strict=True)
            ]
            best, clearest = np.concatenate(words), clear
    return best


def kept(widths: Floats) -> Widths:
    """(512,) in sixteenths of an octave from the median, NONE where there are no more words."""
    row = np.full(MOST, NONE, np.int8)
    some = widths[:MOST]
    if len(some):
        row[: len(some)] = np.clip(np.rint(STEPS * np.log2(some / np.median(some))), -127, 127)
    return row


@dataclass(frozen=True)
class _Box:
    top: int
    bottom: int
    left: int
    right: int


def _lines(picture: PIL.Image.Image) -> list[tuple[float, Ink]]:
    """Of each line of print its x-height and (width,) the most ink in every column, 0 to 1."""
    ink = _ink(picture)
    found: list[tuple[float, Ink]] = []
    for box in _columns(ink):
        column = ink[box.top : box.bottom, box.left : box.right]
        for top, bottom in _bands(column.sum(axis=1)):
            rows = column[top:bottom].sum(axis=1)
            height = int((rows > 0.3 * rows.max()).sum())
            if height >= 3 * ZOOM:
                found.append((height, column[top:bottom].max(axis=0)))
    usual = float(np.median([height for height, _ in found])) if found else 0.0
    # Measured on few letters a height is rough; most lines have the same.
    return [(usual if 0.7 < height / usual < 1.4 else height, line) for height, line in found]


def _ink(picture: PIL.Image.Image) -> Ink:
    """(height, width) from 0, paper, to 1: strokes alone, set straight, twice as large.

    Ink is darker than paper or lighter, whatever there is more of once rules, pictures and the edges
    of a scanner's bed, which are long, are gone.
    """
    grey = picture.convert("L")
    scale = (PIXELS / max(1, grey.width * grey.height)) ** 0.5
    if scale < 1:
        grey = grey.resize((max(1, int(grey.width * scale)), max(1, int(grey.height * scale))))
    levels = np.asarray(grey, np.float32)
    darker = np.median(levels) - levels
    ink = max(_strokes(darker), _strokes(-darker), key=lambda strokes: float(strokes.sum()))
    flat = straight(PIL.Image.fromarray((ink * 255).astype(np.uint8)))
    size = flat.width * ZOOM, flat.height * ZOOM
    large = np.asarray(flat.resize(size, PIL.Image.Resampling.BICUBIC), np.float32) / 255
    return np.where(large > THRESHOLDS[0] / 2, large, np.float32(0))


def _strokes(difference: Ink) -> Ink:
    """What differs from paper by much of what print does, and is not long."""
    strong = difference > FAINT
    strong &= ~_long(strong, strong.shape[1] // 8)
    strong &= ~_long(strong.T, strong.shape[0] // 12).T
    if not strong.any():
        return np.zeros_like(difference)
    ink = np.clip(difference / np.quantile(difference[strong], 0.9), 0, 1) * strong
    return np.where(ink >= THRESHOLDS[0], ink, np.float32(0))


def _long(mask: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Where a mask is true for `length` places or more along its rows: an opening."""
    rows, width = mask.shape
    if not 1 < length <= width:
        return np.zeros_like(mask)
    sums = np.zeros((rows, width + 1), np.int32)
    mask.cumsum(axis=1, out=sums[:, 1:])
    starts = sums[:, length:] - sums[:, :-length] == length  # of a run that fills `length`
    counts = np.zeros((rows, starts.shape[1] + 1), np.int32)
    starts.cumsum(axis=1, out=counts[:, 1:])
    at = np.arange(width)
    until = np.minimum(at + 1, starts.shape[1])
    return counts[:, until] > counts[:, np.clip(at - length + 1, 0, starts.shape[1])]


def _columns(ink: Ink) -> list[_Box]:
    """Columns of print in reading order, by cuts along white space (XY-cut, Nagy and Seth 1984).

    A gutter is 2 % of the page's width or more over at least 10 % of its height, with print on both
    sides over a sixth of the width that is cut.
    """
    found, left = [], [_Box(0, ink.shape[0], 0, ink.shape[1])]
    while left:
        box = left.pop()
        part = ink[box.top : box.bottom, box.left : box.right]
        if box.bottom - box.top < 0.1 * ink.shape[0]:
            found.append(box)
            continue
        gutter = _gutter(np.any(part, axis=0), 0.02 * ink.shape[1])
        if gutter is not None:
            middle = box.left + gutter
            left += [
                _Box(box.top, box.bottom, middle, box.right),
                _Box(box.top, box.bottom, box.left, middle),
            ]
            continue
        gaps = _inner(~np.any(part, axis=1))
        if not len(gaps):
            found.append(box)
            continue
        start, end = max(gaps, key=lambda gap: int(gap[1] - gap[0]))
        middle = box.top + int(start + end) // 2
        left += [
            _Box(middle, box.bottom, box.left, box.right),
            _Box(box.top, middle, box.left, box.right),
        ]
    return found


def _gutter(inked: NDArray[np.bool_], least: float) -> int | None:
    """The middle of the widest gap between two columns, or None."""
    places = np.flatnonzero(inked)
    if not len(places):
        return None
    first, last = places[0], places[-1]
    side = (last - first) / 6
    gaps = [
        (end - start, int(start + end) // 2)
        for start, end in _inner(~inked)
        if end - start >= least and start - first > side and last - end > side
    ]
    return max(gaps)[1] if gaps else None


def _bands(rows: Ink) -> list[tuple[int, int]]:
    """Rows (from, to) of each line, of (height,) ink a row.

    Lines are apart by rows without ink, or, where descenders meet ascenders, by rows of little ink
    between rows of much.
    """
    found: list[tuple[int, int]] = []
    left = [(int(start), int(end)) for start, end in _runs(rows > 0)[::-1]]
    while left:
        start, end = left.pop()
        part = rows[start:end]
        much = np.flatnonzero(part > 0.5 * part.max())
        gaps = [
            (int(a), int(b))
            for a, b in _runs(part < 0.15 * part.max())
            if much[0] < a and b <= much[-1]
        ]
        if gaps:
            a, b = max(gaps, key=lambda gap: gap[1] - gap[0])
            middle = start + a + int(part[a:b].argmin())
            left += [(middle, end), (start, middle)]
        else:
            found.append((start, end))
    return found


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(runs, 2) where each run of true places starts and ends."""
    edges = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    return np.flatnonzero(edges).reshape(-1, 2)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The runs that touch neither end."""
    runs = _runs(mask)
    return runs[(runs[:, 0] > 0) & (runs[:, 1] < len(mask))]


def _words(strokes: NDArray[np.int64], apart: NDArray[np.bool_]) -> Floats:
    """(words,) widths in pixels, of (strokes, 2) and whether each is apart from the next."""
    if not len(strokes):
        return np.zeros(0)
    first, last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
    widths: Floats = (strokes[last, 1] - strokes[first, 0]).astype(np.float64)
    return widths


def _two_kinds(values: Floats) -> tuple[float, float]:
    """(a value between two kinds, the share of the variance that lies between them), by Otsu 1979."""
    ordered = np.sort(values)
    low = np.arange(1, len(ordered))
    high = len(ordered) - low
    sums = ordered.cumsum()
    between = low * high * (sums[:-1] / low - (sums[-1] - sums[:-1]) / high) ** 2
    at = int(between.argmax())
    variance = float(ordered.var())
    share = float(between[at]) / len(ordered) ** 2 / variance if variance > 1e-9 else 0.0
    return float(ordered[at] + ordered[at + 1]) / 2, share
