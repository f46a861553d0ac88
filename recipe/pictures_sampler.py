"""Pictures for training: each time in another place, size, light and paper, under another name."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from recipe.pictures import PicturePack

BLOCK = 28
SIDES = (56, 84, 84, 112, 112, 112, 140, 140, 168)
"""Sides to choose from, each as often as it stands here."""
WHITE = (255, 255, 255)
_NEAR = 60
"""Colours closer than this in every channel can hardly be told apart."""


@dataclass(frozen=True)
class SamplerConfig:
    """How pictures are drawn."""

    english: float = 0.4
    """Share of English names; the other languages of a picture share the rest evenly."""
    more: float = 0.25
    """Share of keywords and descriptions instead of names."""
    sides: tuple[int, ...] = SIDES
    plain: float = 0.15
    """Share of pictures shown as they are, as large as fits on white."""


class PictureSampler:
    """Draws pictures of a pack, families equally often."""

    def __init__(
        self, pack: PicturePack, valid: bool = False, config: SamplerConfig | None = None
    ) -> None:
        """`valid` picks the validation side; raises ValueError if the pack has none of it."""
        self.pack, self.config = pack, config or SamplerConfig()
        rows = np.flatnonzero(pack.valid == valid)
        if not len(rows):
            side = "validation" if valid else "training"
            raise ValueError(f"The pack of {len(pack)} pictures has none for {side}.")
        rows = rows[np.argsort(pack.family[rows], kind="stable")]
        edges = np.flatnonzero(np.diff(pack.family[rows])) + 1
        self.families: list[NDArray[np.int64]] = np.split(rows, edges)
        self.english = pack.langs.index("en") if "en" in pack.langs else -1

    def picture(self, rng: random.Random) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A picture (height, width, 3), both sides multiples of 28, and token ids of its name."""
        row = self.draw(rng)
        return self.pixels(row, rng), self.pack.names[self.name(row, rng)]

    def draw(self, rng: random.Random, family: NDArray[np.int64] | None = None) -> int:
        """A row of the pack, of any family (None) or of this one. Two rows of one family are no wrong
        answers to each other."""
        family = rng.choice(self.families) if family is None else family
        return int(family[rng.randrange(len(family))])

    def name(self, row: int, rng: random.Random) -> int:
        """A row of the pack's names that names picture `row`."""
        names = self.pack.names_of(row)
        langs = {int(self.pack.name_lang[name]) for name in names}
        lang = self.english
        if lang not in langs or (len(langs) > 1 and rng.random() >= self.config.english):
            lang = rng.choice(sorted(langs - {self.english}))
        those = [name for name in names if self.pack.name_lang[name] == lang]
        first = self.pack.kinds.index("name")
        called = [name for name in those if self.pack.name_kind[name] == first]
        others = [name for name in those if self.pack.name_kind[name] != first]
        if called and not (others and rng.random() < self.config.more):
            return rng.choice(called)
        return rng.choice(others)

    def pixels(self, row: int, rng: random.Random) -> NDArray[np.uint8]:
        """Picture `row` as RGB (height, width, 3), both sides multiples of 28."""
        image = self.pack.image(row)
        size = canvas_size(image.size, self.config.sides, rng)
        if rng.random() < self.config.plain and not hides(WHITE, image):
            return place(image, size, WHITE, 1.0, rng)
        if self.pack.mirrors[row] and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.4:
            image = image.rotate(rng.gauss(0, 6), Image.Resampling.BILINEAR, expand=True)
        if rng.random() < 0.3:
            width = max(1, round(image.width * rng.uniform(0.85, 1.18)))
            image = image.resize((width, image.height), Image.Resampling.BILINEAR)
        paper = paper_for(image, rng)
        return weather(place(image, size, paper, rng.uniform(0.6, 1.0), rng), rng)


def canvas_size(
    picture: tuple[int, int], sides: tuple[int, ...], rng: random.Random
) -> tuple[int, int]:
    """Width and height among `sides`, mostly about as oblong as the picture."""
    long = rng.choice(sides)
    shape = picture[0] / picture[1] * rng.choice((1.0, 1.0, rng.uniform(0.6, 1.7)))
    other = long * min(shape, 1 / shape)
    short = min(sides, key=lambda side: abs(side - other))
    return (long, min(long, short)) if shape > 1 else (min(long, short), long)


def paper_for(image: Image.Image, rng: random.Random) -> tuple[int, int, int]:
    """A colour to lay under an RGBA picture: white half the time, but not one that hides it."""
    paper = WHITE if rng.random() < 0.5 else _colour(rng)
    for _ in range(6):
        if not hides(paper, image):
            break
        paper = _colour(rng)
    return paper


def _colour(rng: random.Random) -> tuple[int, int, int]:
    low = rng.choice((0, 128, 200))
    return rng.randint(low, 255), rng.randint(low, 255), rng.randint(low, 255)


def hides(paper: tuple[int, int, int], image: Image.Image) -> bool:
    """Whether two fifths of what an RGBA picture shows are hard to tell from the paper."""
    small = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR), np.int16)
    ink = small[small[..., 3] > 128][:, :3]
    near = np.abs(ink - np.array(paper, np.int16)).max(axis=1) < _NEAR
    return bool(len(near)) and bool(near.mean() > 0.4)


def place(
    image: Image.Image,
    size: tuple[int, int],
    paper: tuple[int, int, int],
    scale: float,
    rng: random.Random,
) -> NDArray[np.uint8]:
    """The picture somewhere on paper of `size` (width, height), at `scale` of what would fit."""
    fit = min(size[0] / image.width, size[1] / image.height) * scale
    width, height = (max(1, round(side * fit)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    corner = rng.randint(0, max(0, size[0] - width)), rng.randint(0, max(0, size[1] - height))
    canvas = Image.new("RGB", size, paper)
    canvas.paste(scaled, corner, scaled)
    return np.array(canvas)


def weather(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Light, contrast, blur, noise and JPEG's traces; colours keep their names."""
    if rng.random() < 0.2:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
        pixels = np.asarray(blurred)
    if rng.random() < 0.6:
        gain = rng.uniform(0.8, 1.15)
        gains = np.array([gain * rng.uniform(0.94, 1.06) for _ in range(3)], np.float32)
        lit = (pixels.astype(np.float32) - 128) * gains + 128 + rng.uniform(-15, 15)
        if rng.random() < 0.3:
            noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(
                pixels.shape, np.float32
            )
            lit += noise * rng.uniform(1, 8)
        pixels = lit.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=rng.randint(40, 90))
        pixels = np.array(Image.open(buffer))
    return pixels
