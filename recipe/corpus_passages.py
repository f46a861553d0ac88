"""Pages of a manual in several languages -> passages that say the same in each, and their headings.

A page is a list of blocks: headings and paragraphs in order. The English page decides where it is
cut; a translation with the same run of blocks is cut at the same places.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

MIN_CHARS = 180
MAX_CHARS = 1500
"""Bounds of an English passage, about 30 and 250 words; a longer paragraph stays whole."""

_SHORTEST = 60
_MANY_HEADINGS = 3
_VALID_PERCENT = 3
_MOST_ENGLISH = 0.3
_BLANKS = re.compile(r"\s+")
_NUMBER = re.compile(r"^(?:[^\W\d]+\s)?(?:\d+\.|[A-Z]\.)(?:\d+\.)*\s+")


@dataclass(frozen=True)
class Block:
    """A heading (`level` 1 to 6, 1 the page's title) or a paragraph (`level` 0)."""

    level: int
    text: str


@dataclass(frozen=True)
class Document:
    """A passage. Documents of one `group` say the same in several languages."""

    group: str
    lang: str
    text: str
    source: str
    split: str


@dataclass(frozen=True)
class Query:
    """A short text for which every document of its group is relevant."""

    group: str
    lang: str
    text: str
    kind: str
    split: str


@dataclass(frozen=True)
class Cut:
    """Blocks [start, stop) of a page: `num_headings` headings first, then the passage's text."""

    start: int
    stop: int
    num_headings: int


@dataclass(frozen=True)
class Page:
    """One page of a manual: its blocks in each language, English among them."""

    source: str
    name: str
    blocks: Mapping[str, Sequence[Block]]


def split_of(name: str) -> str:
    """Return "valid" for about 3 % of names, else "train"; the same on every machine."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return "valid" if digest % 100 < _VALID_PERCENT else "train"


def squeeze(text: str) -> str:
    """`text` with every run of blanks made one space."""
    return _BLANKS.sub(" ", text).strip()


def strip_number(heading: str) -> str:
    """A heading without "6.3. " or "Chapter 6. " before it and a colon after it."""
    return _NUMBER.sub("", heading).rstrip(":\uff1a ")


class BlockReader:
    """Walks an element tree and collects blocks; subclasses say what is a heading or left out."""

    block_tags = frozenset(
        {"p", "div", "pre", "blockquote", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6"}
        | {"li", "ul", "ol", "dl", "dt", "dd", "td", "th", "tr", "table"}
    )

    def level(self, element: Element, tag: str) -> int:
        """1 to 6 if the element is a heading, else 0."""
        return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0

    def skips(self, element: Element, tag: str) -> bool:
        """True if nothing in the element is text of the page."""
        return False

    def read(self, root: Element) -> list[Block]:
        """Blocks under `root` in order, empty ones left out."""
        self._blocks: list[Block] = []
        self._pending: list[str] = []
        self._walk(root, 0)
        self._flush(0)
        return self._blocks

    def _walk(self, element: Element, outer: int) -> None:
        if not isinstance(element.tag, str):  # a comment or processing instruction
            return
        tag = element.tag.rpartition("}")[2]
        if self.skips(element, tag):
            return
        level = self.level(element, tag) or outer
        is_block = tag in self.block_tags or level != outer
        if is_block:
            self._flush(outer)
        self._pending.append(element.text or "")
        for child in element:
            self._walk(child, level)
            self._pending.append(child.tail or "")
        if is_block:
            self._flush(level)

    def _flush(self, level: int) -> None:
        text = squeeze("".join(self._pending))
        self._pending.clear()
        text = strip_number(text) if level else text
        if text:
            self._blocks.append(Block(level, text))


def cut_page(blocks: Sequence[Block]) -> list[Cut]:
    """Cut a page at headings once a passage is long enough, and where it grows too long."""
    edges: list[int] = [0]
    size = 0
    for i, block in enumerate(blocks):
        full = size >= MIN_CHARS if block.level else size and size + len(block.text) > MAX_CHARS
        if full:
            edges.append(i)
            size = 0
        size += 0 if block.level else len(block.text)
    if size < MIN_CHARS and len(edges) > 1:
        edges.pop()  # a short rest belongs to the passage before it
    edges.append(len(blocks))
    return [
        Cut(start, stop, _leading_headings(blocks[start:stop])) for start, stop in pairwise(edges)
    ]


def _leading_headings(blocks: Sequence[Block]) -> int:
    return next((i for i, block in enumerate(blocks) if not block.level), len(blocks))


def heading_blocks(blocks: Sequence[Block], cut: Cut, vague: Iterable[str]) -> list[int]:
    """Indexes of the headings that together name a passage: at most two, the last the nearest.

    A heading that many pages have ("Syntax") is preceded by the one it stands under.
    """
    if not cut.num_headings:
        return []
    last = cut.start + cut.num_headings - 1
    above = (i for i in range(last - 1, -1, -1) if 0 < blocks[i].level < blocks[last].level)
    parent = next(above, None)
    if parent is not None and (parent >= cut.start or blocks[last].text in vague):
        return [parent, last]
    return [last]


def vague_headings(pages: Iterable[Page]) -> frozenset[str]:
    """English headings that stand on more than a few pages."""
    counts = Counter(block.text for page in pages for block in page.blocks["en"] if block.level)
    return frozenset(text for text, count in counts.items() if count > _MANY_HEADINGS)


def passages(pages: Sequence[Page]) -> Iterator[Document | Query]:
    """Documents and queries of one manual, in every language whose page runs as in English."""
    vague = vague_headings(pages)
    for page in pages:
        english = page.blocks["en"]
        cuts = cut_page(english)
        names = [heading_blocks(english, cut, vague) for cut in cuts]
        shape = [block.level for block in english]
        for lang, blocks in page.blocks.items():
            if [block.level for block in blocks] == shape:
                yield from _one_language(page, lang, blocks, cuts, names)


def _one_language(
    page: Page, lang: str, blocks: Sequence[Block], cuts: Sequence[Cut], names: Sequence[list[int]]
) -> Iterator[Document | Query]:
    english = page.blocks["en"]
    split = split_of(f"{page.source}/{page.name}")
    for number, (cut, name) in enumerate(zip(cuts, names, strict=True)):
        first = cut.start + cut.num_headings
        body = blocks[first : cut.stop]
        text = "\n".join(block.text for block in body)
        if len(text) < _SHORTEST * density(lang):
            continue
        if lang != "en" and english_share(body, english[first : cut.stop]) > _MOST_ENGLISH:
            continue
        group = f"{page.source}/{page.name}#{number}"
        yield Document(group, lang, text, page.source, split)
        heading = ": ".join(blocks[i].text for i in name)
        if name and (lang == "en" or heading != ": ".join(english[i].text for i in name)):
            kind = "title" if name == [0] else "heading"
            yield Query(group, lang, heading, kind, split)


def english_share(blocks: Sequence[Block], english: Sequence[Block]) -> float:
    """Part of the characters of `blocks` that stand in blocks left as they are in English."""
    same = sum(len(a.text) for a, b in zip(blocks, english, strict=True) if a.text == b.text)
    return same / max(1, sum(len(block.text) for block in blocks))


def density(lang: str) -> float:
    """Characters in this language for one of English, roughly."""
    return 0.4 if lang in {"zh", "zh-tw", "ja", "ko"} else 1.0
