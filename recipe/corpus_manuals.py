"""The manuals among the sources, as pages of blocks in each language."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from recipe.corpus_passages import Block, BlockReader, Page

_VOID = re.compile(r'<(meta|br|img|link|input|hr|source|col)\b((?:[^>"]|"[^"]*")*?)/?>')
_ENTITY = re.compile(r"&(\w+);")
_OF_XML = frozenset(("amp", "lt", "gt", "quot", "apos"))
_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*(?:\[.*?\])?\s*>", re.DOTALL)
_LANGUAGES = {"en-us": "en", "c": "en", "zh-cn": "zh", "pt-br": "pt-br", "zh-tw": "zh-tw"}


def language(code: str) -> str:
    """Our code for a package's: "de-DE" -> "de", "C" -> "en"; "pt-br" and "zh-tw" stay apart."""
    lowered = code.lower().replace("_", "-")
    return _LANGUAGES.get(lowered, lowered if "@" in lowered else lowered.split("-")[0])


def parse(text: str) -> Element:
    """The tree of an XML page that may use HTML's entities. Raises ElementTree.ParseError."""
    return ElementTree.fromstring(_ENTITY.sub(_decode, _DOCTYPE.sub("", text, count=1)))


def close_voids(text: str) -> str:
    """HTML with "/" in every element that HTML never closes, which makes most of it XML."""
    return _VOID.sub(r"<\1\2/>", text)


def _decode(entity: re.Match[str]) -> str:
    return entity[0] if entity[1] in _OF_XML else html.unescape(entity[0])


class _Classed(BlockReader):
    """Leaves out elements of some classes, and scripts."""

    skipped: frozenset[str] = frozenset()

    def skips(self, element: Element, tag: str) -> bool:
        """True for the classes in `skipped`."""
        return tag in {"script", "style"} or bool(self.skipped & classes(element))


def classes(element: Element) -> set[str]:
    """The class names of an element."""
    return set(element.get("class", "").split())


class LibreOfficeReader(_Classed):
    """Help of LibreOffice; of words that differ by system or program, one choice is kept."""

    skipped = frozenset({"howtogetheader", "relatedtopics", "relatedbody", "noteicon"})

    def __init__(self) -> None:
        self._others: set[Element] = set()

    def skips(self, element: Element, tag: str) -> bool:
        """Also the other choices of a switch."""
        return element in self._others or super().skips(element, tag)

    def read(self, root: Element) -> list[Block]:
        """Blocks of a page, each switch shown in its default choice or else its first."""
        self._others = {other for switch in root.iter() for other in _other_choices(switch)}
        return super().read(root)


def _other_choices(switch: Element) -> list[Element]:
    if not classes(switch) & {"switch", "switchinline"}:
        return []
    choices = [child for child in switch if child.get("hidden") == "true"]
    choices.sort(key=lambda child: not child.get("id", "").startswith("default"))
    return choices[1:]


class DocBookReader(_Classed):
    """HTML made from DocBook; figures are left out, titles of sidebars are headings."""

    skipped = frozenset({"figure", "mediaobject", "docnav", "navheader", "navfooter", "toc"})

    def skips(self, element: Element, tag: str) -> bool:
        """Also what is not of the page, and marks of footnotes."""
        banner = element.get("id") in {"banner", "title"}
        return banner or tag in {"head", "sup"} or super().skips(element, tag)

    def level(self, element: Element, tag: str) -> int:
        """Titles of sidebars stand lowest."""
        if tag == "p" and "title" in classes(element):
            return 6
        return super().level(element, tag)


class MallardReader(BlockReader):
    """GNOME's help, written in Mallard."""

    block_tags = frozenset(
        {"page", "section", "p", "item", "list", "steps", "terms"}
        | {"table", "tr", "td", "title", "note", "screen"}
    )

    def __init__(self) -> None:
        self._depth: dict[Element, int] = {}

    def skips(self, element: Element, tag: str) -> bool:
        """True for what is about the page or not text."""
        return tag in {"info", "links", "media", "comment", "credit"}

    def level(self, element: Element, tag: str) -> int:
        """Depth of the section whose title this is."""
        return self._depth.get(element, 0)

    def read(self, root: Element) -> list[Block]:
        """Blocks of a page; titles of pages and sections are headings, by depth."""
        self._depth = dict(_titles(root, 1))
        return super().read(root)


def _titles(element: Element, depth: int) -> Iterator[tuple[Element, int]]:
    for child in element:
        tag = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if tag == "title":
            yield child, min(depth, 6)
        elif tag == "section":
            yield from _titles(child, depth + 1)


def libreoffice(packages: Path) -> list[Page]:
    """Pages of `libreoffice-help-XX`."""
    reader = LibreOfficeReader()
    pages: dict[str, dict[str, list[Block]]] = defaultdict(dict)
    for text_root in sorted(packages.glob("libreoffice-help-*/usr/share/libreoffice/help/*/text")):
        lang = language(text_root.parent.name)
        for path in sorted(text_root.rglob("*.html")):
            content = path.read_text(encoding="utf-8")
            start = content.find('<div id="DisplayArea"')
            stop = content.find('<div id="SearchFrame"', start)
            if 0 <= start < stop:
                name = path.relative_to(text_root).with_suffix("").as_posix()
                pages[name][lang] = _blocks(reader, close_voids(content[start:stop]))
    return _in_english("libreoffice-help", pages)


def gnome(packages: Path) -> list[Page]:
    """Pages of `gnome-user-docs`."""
    pages: dict[str, dict[str, list[Block]]] = defaultdict(dict)
    root = packages / "gnome-user-docs" / "usr" / "share" / "help"
    for path in sorted(root.glob("*/*/*.page")):
        lang, book, _ = path.relative_to(root).parts
        content = path.read_text(encoding="utf-8")
        pages[f"{book}/{path.stem}"][language(lang)] = _blocks(MallardReader(), content)
    return _in_english("gnome-user-docs", pages)


def handbook(packages: Path) -> list[Page]:
    """Pages of `debian-handbook`."""
    root = packages / "debian-handbook" / "usr" / "share" / "doc" / "debian-handbook" / "html"
    return _docbook("debian-handbook", {language(p.name): p for p in sorted(root.glob("*"))})


def gimp(packages: Path) -> list[Page]:
    """Pages of `gimp-help-XX`."""
    roots = sorted(packages.glob("gimp-help-*/usr/share/gimp/*/help/*"))
    named = {language(root.name): root for root in roots if (root / "index.html").exists()}
    return _docbook("gimp-help", named)


def _docbook(source: str, roots: dict[str, Path]) -> list[Page]:
    reader = DocBookReader()
    pages: dict[str, dict[str, list[Block]]] = defaultdict(dict)
    for lang, root in roots.items():
        for path in sorted(root.glob("*.html")):
            if path.stem not in {"index", "ix01", "bibliography"}:
                pages[path.stem][lang] = _blocks(reader, path.read_text(encoding="utf-8"))
    return _in_english(source, pages)


def _blocks(reader: BlockReader, content: str) -> list[Block]:
    """Blocks of a page; none if it is not well-formed (a handful are not)."""
    try:
        return reader.read(parse(content))
    except ElementTree.ParseError:
        return []


def _in_english(source: str, pages: dict[str, dict[str, list[Block]]]) -> list[Page]:
    return [Page(source, name, blocks) for name, blocks in pages.items() if blocks.get("en")]
