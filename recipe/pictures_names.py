"""What a picture is called: the vocabulary of the picture sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image

KINDS = ("name", "more")
"""A name says what is shown; "more" is keywords or a description."""

_COLOURS = (
    "black white red green blue yellow orange purple violet pink brown grey gray light dark silver "
    "golden cyan magenta bw"
)
_SIZES = "large medium medium-small small big little"
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_DIRECTED = (
    "left right leftwards rightwards arrow arrows flag flags letter letters button clock watch hour "
    "keycap input sign signs signal map globe clockwise anticlockwise note notes key keyboard "
    "calendar calculator number numbers text book newspaper dice domino card cards money banknote "
    "license labels label o'clock thirty forward backward fast reverse track question numeral "
    "chart graph ruler speaker north south east west asia africa americas symbol logo writing "
    "script roman alphabet currency dollar euro pound yen percent playing music musical score clef "
    "check square root atm cell computer screen stop"
)


@dataclass(frozen=True)
class Name:
    """One way to ask for a picture."""

    lang: str
    text: str
    kind: str


@dataclass(frozen=True)
class Picture:
    """A picture, not opened yet."""

    source: str
    family: str
    """The same for what shows the same thing, whatever the source; splits keep families together."""
    mirrors: bool
    names: tuple[Name, ...]
    open: Callable[[], Image.Image]
    """Returns RGBA."""


def kind_of_thing(name: str) -> str:
    """An English name without colours, sizes and numbers: near-duplicates mostly share it."""
    words = [word.lower() for word in _WORD.findall(name)]
    kept = [word for word in words if word not in _COLOURS.split() and word not in _SIZES.split()]
    return " ".join(kept or words)


def can_mirror(english: Iterable[str]) -> bool:
    """False if an English name or keyword speaks of directions, writing or maps."""
    words = {word.lower() for text in english for word in re.findall(r"[\w'’]+", text)}
    return not {word.replace("’", "'") for word in words} & set(_DIRECTED.split())
