"""Emoji: Noto's pictures with the names and keywords CLDR gives them in many languages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from recipe.corpus_passages import squeeze
from recipe.pictures_names import Name, Picture, can_mirror, kind_of_thing

FONT = "fonts-noto-color-emoji/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
CLDR = "unicode-cldr-core/usr/share/unicode/cldr/common"
SIZE = 109
"""The only size the font's bitmaps come in."""
CELL = (136, 128)
"""Width and height of every bitmap at that size."""

_FILES = {"pt-br": ("pt",), "pt": ("pt", "pt_PT"), "zh-tw": ("zh_Hant",), "nb": ("no",)}
_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
_GENDER = re.compile("\u200d[\u2640\u2642]|\ufe0f")
_HAIR = re.compile("\u200d[\U0001f9b0-\U0001f9b3]")
_ADULTS, _CHILDREN = re.compile("[👨👩]"), re.compile("[👦👧👶]")
_CLOCK = re.compile("o['’]clock|-thirty")
_INHERITED = "↑"


@dataclass(frozen=True)
class Annotation:
    """CLDR's words for a character in one language."""

    name: str
    keywords: tuple[str, ...]


def read_annotations(cldr: Path, lang: str) -> dict[str, Annotation]:
    """Every annotated character of a language; a variant's file is laid over its parent's."""
    names: dict[str, str] = {}
    keywords: dict[str, str] = {}
    for code in _FILES.get(lang, (lang,)):
        for folder in ("annotations", "annotationsDerived"):
            path = cldr / folder / f"{code}.xml"
            for element in ElementTree.parse(path).iter("annotation") if path.exists() else ():
                text = squeeze(element.text or "")
                if text and _INHERITED not in text:
                    target = names if element.get("type") == "tts" else keywords
                    target[element.get("cp", "")] = text
    return {
        char: Annotation(name, _keywords(keywords.get(char, ""), name))
        for char, name in names.items()
    }


def _keywords(text: str, name: str) -> tuple[str, ...]:
    words = (word.strip() for word in text.split("|"))
    return tuple(word for word in words if word and word.lower() != name.lower())


def emoji(packages: Path, langs: Sequence[str]) -> Iterator[Picture]:
    """Every emoji that has an English name; of skin tones, one each.

    Raises OSError if the font or CLDR is not there.
    """
    font = ImageFont.truetype(str(packages / FONT), SIZE, layout_engine=ImageFont.Layout.RAQM)
    if not (packages / CLDR / "annotations" / "en.xml").exists():
        raise FileNotFoundError(packages / CLDR)
    words = {lang: read_annotations(packages / CLDR, lang) for lang in langs}
    english = words["en"]
    for char, annotation in english.items():
        if keeps_tone(char) and is_one_glyph(font, char):
            yield Picture(
                "emoji",
                f"thing/{family(char, english)}",
                can_mirror((annotation.name, *annotation.keywords)),
                tuple(_names(char, words)),
                partial(draw, font, char),
            )


def _names(char: str, words: Mapping[str, Mapping[str, Annotation]]) -> Iterator[Name]:
    for lang, known in words.items():
        if annotation := known.get(char):
            yield Name(lang, annotation.name, "name")
            if annotation.keywords:
                yield Name(lang, ", ".join(annotation.keywords), "more")


def keeps_tone(char: str) -> bool:
    """True without skin tones, and for the one tone, of five, that a picture is kept in."""
    tones = _TONES.findall(char)
    if not tones:
        return True
    plain = hashlib.sha256(_TONES.sub("", char).encode()).digest()[0]
    return len(tones) == 1 and ord(tones[0]) - 0x1F3FB == plain % 5


def family(char: str, english: Mapping[str, Annotation]) -> str:
    """What pictures share that differ in skin, hair, gender, colour, size or the hour."""
    base = _HAIR.sub("", _GENDER.sub("", _TONES.sub("", char)))
    base = _CHILDREN.sub("🧒", _ADULTS.sub("🧑", base))
    if "🧒" in base and len(base) > 1:
        return "family"
    if base not in english:
        return base
    name = english[base].name
    return "clock" if _CLOCK.search(name) else kind_of_thing(name) or base


def is_one_glyph(font: FreeTypeFont, char: str) -> bool:
    """Whether the font shows `char` as one bitmap, neither missing nor a row of its parts."""
    return font.getbbox(char) == (0, 0, *CELL)


def draw(font: FreeTypeFont, char: str) -> Image.Image:
    """The emoji's bitmap, RGBA."""
    image = Image.new("RGBA", CELL)
    ImageDraw.Draw(image).text((0, 0), char, font=font, embedded_color=True)
    return image
