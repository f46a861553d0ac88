"""Figures of GIMP's manual, mostly what its filters do to a picture, with captions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from recipe.corpus_manuals import classes, language, parse
from recipe.corpus_passages import squeeze, strip_number
from recipe.pictures_clipart import open_rgba
from recipe.pictures_names import Name, Picture

_HELP = "gimp-help-*/usr/share/gimp/*/help/*"
_LEFT_OUT = re.compile(
    r"dialog|menu|window|options\b|preferences|prefs|\btab\b|popup|dock|legacy|toolbox$|settings$",
    re.I,
)
"""In paths and captions: pictures of windows, whose words are too small to read."""
_NUMBER = re.compile(r"^\D{0,14}?(?:\d+|[A-Z])\.\d+\.?\s+(?:ábra\s*[-–:.]\s*)?")
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")
_MOST_ENGLISH = 0.5
_ENGLISH = re.compile(r"\b(?:the|with|this|from|you)\b")
_LONGEST = 160

Captions = dict[str, str]
"""Picture (its path below the manual's folder) -> caption."""


def figures(packages: Path, langs: Sequence[str]) -> Iterator[Picture]:
    """Captioned figures of the English manual. Raises OSError if it is not there."""
    roots = {language(root.name): root for root in sorted(packages.glob(_HELP))}
    if "en" not in roots:
        raise FileNotFoundError(packages / _HELP)
    read = {lang: read_manual(root) for lang, root in roots.items() if lang in langs}
    for source, page in read["en"][1].items():
        path = roots["en"] / source
        shown = f"{source.removeprefix('images/')} {read['en'][0][source]}"
        if path.exists() and not _LEFT_OUT.search(shown):
            names = tuple(_names(source, {lang: captions for lang, (captions, _) in read.items()}))
            yield Picture("figures", f"gimp-help/{page}", False, names, partial(open_rgba, path))


def _names(source: str, captions: Mapping[str, Captions]) -> Iterator[Name]:
    english = captions["en"][source]
    yield Name("en", english, "name")
    for lang, known in captions.items():
        if lang != "en" and is_translated(known.get(source, english), english):
            yield Name(lang, known[source], "name")


def is_translated(text: str, english: str) -> bool:
    """False for a text in English, this one or another."""
    words = _LONG_WORD.findall(english.lower())
    same = set(words) & set(_LONG_WORD.findall(text.lower()))
    english_still = len(_ENGLISH.findall(text.lower())) > 1
    return (
        text != english
        and not english_still
        and sum(word in same for word in words) <= len(words) * _MOST_ENGLISH
    )


def read_manual(root: Path) -> tuple[Captions, dict[str, str]]:
    """Captions of a manual's pictures, and the page each is on first."""
    captions: Captions = {}
    pages: dict[str, str] = {}
    for path in sorted(root.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        if 'class="figure"' in text:
            for source, caption in captions_of(text).items():
                if source not in captions:
                    captions[source], pages[source] = caption, path.stem
    return captions, pages


def captions_of(page: str) -> Captions:
    """Captions of one page; none if it is not well-formed.

    Where a figure has several pictures each is called by the title and its own caption. Pictures
    that are left with the same words as others are left out: no one could tell them apart.
    """
    try:
        root = parse(page)
    except ElementTree.ParseError:
        return {}
    found: dict[str, list[str]] = defaultdict(list)
    for figure in _of_class(root, "figure"):
        title = next((_text(e) for e in _of_class(figure, "title")), "")
        title = strip_number(_NUMBER.sub("", title))
        objects = list(_of_class(figure, "mediaobject"))
        for each in objects:
            caption = next((_text(e) for e in _of_class(each, "caption")), "")
            words = f"{title}: {caption}" if caption and len(objects) > 1 else title
            if len(images := _images(each)) == 1 and title and _tells(caption, objects):
                found[words[:_LONGEST]].append(images[0])
    return {sources[0]: words for words, sources in found.items() if len(sources) == 1}


def _tells(caption: str, objects: Sequence[Element]) -> bool:
    return len(objects) == 1 or bool(_LONG_WORD.search(caption))


def _of_class(root: Element, name: str) -> Iterator[Element]:
    return (element for element in root.iter() if name in classes(element))


def _text(element: Element) -> str:
    return squeeze("".join(element.itertext()))


def _images(element: Element) -> list[str]:
    return [e.get("src", "") for e in element.iter() if str(e.tag).rpartition("}")[2] == "img"]
