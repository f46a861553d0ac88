"""Clip art of the Open Clip Art Library, named by its titles, file names and keywords."""

from __future__ import annotations

import html
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from recipe.corpus_passages import squeeze
from recipe.pictures_emoji import CLDR, read_annotations
from recipe.pictures_names import Name, Picture, can_mirror, kind_of_thing

PNG = "openclipart-png/usr/share/openclipart/png"
SVG = "openclipart-svg/usr/share/openclipart/svg"

_LEFT_OUT = (
    *("buttons", "icons", "shapes", "logos", "special", "flags", "led", "duplicates"),
    *("simple", "ornamental", "white", "bordered", "map_symbols", "diagrams"),
)
"""Folders of mere shapes, of icons whose titles name a theme, of what other folders repeat."""
_LANGS = ("en", "it", "fr")
"""Languages that titles are in."""
_MOST_PIXELS = 12_000_000
_MOST_FILES = 3
_WORD = re.compile(r"[^\W\d_]+")
_KEYWORD = re.compile(r"<rdf:li>([^<]*)</rdf:li>")
_LINKED = re.compile(r"<image\b[^>]*href=\"(?!data:)")
_ADDRESS = re.compile(r"@|https?:|www\.|inkscape", re.IGNORECASE)
_COLLECTION = re.compile(r"^clip ?art by [^-]*- *|\s*\(?\b(?:b ?and ?w|bw)\b\)?", re.IGNORECASE)
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NOT_NAMES = frozenset(
    (
        *("aiga", "alt", "bw", "card", "clipart", "hash", "icon", "mapsym", "openclipart", "png"),
        *("svg", "symbol", "the", "unsorted", "vector"),
    )
)
_NOT_KEYWORDS = frozenset(("signs and symbols", "clip art", "activities", "entertainment"))


@dataclass(frozen=True)
class Label:
    """What the library says of one picture."""

    path: PurePosixPath
    title: str
    author: str
    description: str


def clipart(packages: Path) -> Iterator[Picture]:
    """Pictures with a usable name. Raises OSError if the library is not there."""
    root = packages / PNG
    labels = [label for path in _files(root) if (label := read_label(path, root))]
    titles = Counter(label.title for label in labels)
    vocabularies = {lang: _vocabulary(packages / CLDR, lang) for lang in _LANGS}
    seen: set[tuple[str, str]] = set()
    for label in labels:
        name = name_of(label, titles)
        file = " ".join(words_of_file(label)), label.path.stem[-6:]
        drawing = read_drawing(packages / SVG / label.path.with_suffix(".svg"))
        if name and file not in seen and not _LINKED.search(drawing):
            seen.add(file)
            more = [label.description, ", ".join(keywords_of(drawing, name))]
            names = [Name(language_of(name, vocabularies), name, "name")]
            names += [Name("en", text, "more") for text in more if text not in {"", name}]
            yield Picture(
                "clipart",
                f"thing/{kind_of_thing(name)}",
                can_mirror((name, *more, *label.path.parts[:-1])),
                tuple(names),
                partial(open_rgba, root / label.path),
            )


def _files(root: Path) -> list[Path]:
    found = [path for path in sorted(root.rglob("*.png")) if not set(path.parts) & set(_LEFT_OUT)]
    if not found:
        raise FileNotFoundError(root)
    return found


def read_label(path: Path, root: Path) -> Label | None:
    """Title, author and description out of the file; None if it is huge or damaged."""
    try:
        with warnings.catch_warnings(action="error"), Image.open(path) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            info = {key: _clean(str(value)) for key, value in image.info.items()}
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    description = info.get("Description", "")
    if _ADDRESS.search(description) or len(description) < 8:
        description = ""
    where = PurePosixPath(path.relative_to(root).as_posix())
    return Label(where, info.get("Title", ""), info.get("Author", ""), description)


def _clean(text: str) -> str:
    return squeeze(html.unescape(text).replace("_", " "))


def name_of(label: Label, titles: Mapping[str, int]) -> str:
    """The title, or the file's name where the title is that of a collection; "" if neither tells."""
    file = words_of_file(label)
    text = re.sub(r"[\s\d#]+$", "", _HUMPS.sub(" ", _COLLECTION.sub("", label.title)))
    title = [word.lower() for word in _WORD.findall(text)]
    if titles[label.title] > _MOST_FILES or text != _COLLECTION.sub("", text):
        own = all(any(_alike(a, b) for b in title) for a in file)
    else:
        own = text == label.title or any(_alike(a, b) for a in title for b in file)
    if _tells(title) and own and not _ADDRESS.search(text):
        return text
    return " ".join(file) if _tells(file) else ""


def _alike(a: str, b: str) -> bool:
    return min(len(a), len(b)) >= 2 and (a.startswith(b[:4]) or b.startswith(a[:4]))


def _tells(words: Collection[str]) -> bool:
    return any(len(word) >= 3 and word not in _NOT_NAMES for word in words)


def words_of_file(label: Label) -> list[str]:
    """Words of the file's name, less its number and the author, whose name is often cut short."""
    author = [word.lower() for word in _WORD.findall(label.author)]
    words = [word.lower() for word in _WORD.findall(label.path.stem.replace("_", " "))]
    return [
        word
        for number, word in enumerate(words)
        if len(word) > 1 and word not in _NOT_NAMES and not (number and _is_of(word, author))
    ]


def _is_of(word: str, author: Collection[str]) -> bool:
    return any(name.startswith(word) or (len(name) > 2 and word == name) for name in author)


def _vocabulary(cldr: Path, lang: str) -> frozenset[str]:
    known = read_annotations(cldr, lang).values()
    texts = (text.lower() for each in known for text in (each.name, *each.keywords))
    return frozenset(word for text in texts for word in _WORD.findall(text))


def language_of(name: str, vocabularies: Mapping[str, Collection[str]]) -> str:
    """The language most of the words are in; the first of `vocabularies` if none has more."""
    words = [word.lower() for word in _WORD.findall(name)]
    return max(vocabularies, key=lambda lang: sum(word in vocabularies[lang] for word in words))


def read_drawing(path: Path) -> str:
    """The SVG file a picture was made of; empty if it is not there."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def keywords_of(content: str, name: str) -> list[str]:
    """Keywords of a drawing, each once, without the name."""
    words = dict.fromkeys(_clean(word).lower() for word in _KEYWORD.findall(content))
    return [
        word
        for word in words
        if len(word) > 2
        and word not in name.lower()
        and word not in _NOT_NAMES | _NOT_KEYWORDS
        and not _ADDRESS.search(word)
    ]


def open_rgba(path: Path) -> Image.Image:
    """A picture file as RGBA."""
    with Image.open(path) as image:
        return image.convert("RGBA")
