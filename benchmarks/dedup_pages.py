"""Pages of print, each with its changed copies and with its translation, of which dedup.py asks groups."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine  # noqa: F401  makes the recipe importable
import numpy as np
from PIL import Image, ImageFilter

from recipe.fonts import Fonts
from recipe.render import render_page
from recipe.validate import held_out


@dataclass
class Pages:
    """Pages of print, each with its changed copies and with its translation."""

    data: Path

    def __post_init__(self) -> None:
        known = held_out(self.data / "text" / "documents.jsonl")
        self.fonts = Fonts.discover(self.data / "packages")
        sections: dict[str, list[str]] = defaultdict(list)
        for group in sorted(known["en"].keys() & known["de"].keys()):
            sections[group.partition("#")[0]].append(group)
        texts = [
            tuple([known[lang][group][0] for group in each] for lang in ("en", "de"))
            for each in sections.values()
            if sum(len(known["en"][group][0]) for group in each) > 300
        ]
        # Packages that belong together share their descriptions: one of each.
        self.texts = list(
            {english[0][:60]: (english, german) for english, german in texts}.values()
        )

    def draw(self, count: int) -> Iterator[dict[str, Image.Image | str]]:
        """name -> picture or text, of each page."""
        random.Random(0).shuffle(self.texts)
        for number, (english, german) in enumerate(self.texts[:count]):
            english, german = english[:5], german[:5]
            if len(english) == 1:  # so that something can be moved
                english, german = (halves(each[0]) for each in (english, german))
            moved = english[1:] + english[:1]
            whole = self.page(english, number)
            other = self.page(english, 10_000 + number)
            yield {
                "page": whole,
                "smaller": scaled(whole, 0.6),
                "larger": scaled(whole, 1.5),
                "cropped": cut(whole, 0.04, 0.96),
                "cut": cut(whole, 0, 0.8),
                "scanned": scanned(whole, random.Random(number)),
                "other font": other,
                "other font scanned": scanned(other, random.Random(5_000 + number)),
                "moved": self.page(moved, number),
                "its text": "\n".join(english),
                "its text moved": "\n".join(moved),
                "translated": self.page(german, number),
                "its text translated": "\n".join(german),
            }

    def page(self, paragraphs: Sequence[str], seed: int) -> Image.Image:
        """The same seed gives the same font, size, margins and paper."""
        drawn = render_page(None, paragraphs, random.Random(seed), self.fonts, 420, 588)
        return Image.fromarray(drawn.pixels)


def halves(text: str) -> list[str]:
    """A text cut at a word near its middle."""
    at = text.find(" ", len(text) // 2)
    return (
        [text[:at], text[at + 1 :]] if at > 0 else [text[: len(text) // 2], text[len(text) // 2 :]]
    )


def scaled(page: Image.Image, factor: float) -> Image.Image:
    """At another resolution."""
    size = round(page.width * factor), round(page.height * factor)
    return page.resize(size, Image.Resampling.BICUBIC)


def cut(page: Image.Image, low: float, high: float) -> Image.Image:
    """What lies between two shares of the height, and of the width if margins go."""
    left, right = (low, high) if low else (0.0, 1.0)
    (x0, x1), (y0, y1) = (
        (round(side * start), round(side * end))
        for side, start, end in ((page.width, left, right), (page.height, low, high))
    )
    return page.crop((x0, y0, x1, y1))


def scanned(page: Image.Image, rng: random.Random) -> Image.Image:
    """Turned by half a degree to one and a half on a white bed, blurred, noisy, as a JPEG."""
    angle = rng.uniform(0.5, 1.5) * rng.choice((-1, 1))
    turned = page.rotate(angle, Image.Resampling.BICUBIC, fillcolor=(250, 250, 248))
    soft = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.6)), np.float64)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 8, (*soft.shape[:2], 1))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(soft + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")
