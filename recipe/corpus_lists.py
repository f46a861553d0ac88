"""Sources that are lists rather than manuals: package descriptions, functions, names of things."""

from __future__ import annotations

import ast
import re
import subprocess
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from recipe.corpus_manuals import language
from recipe.corpus_passages import Document, Query, density, split_of, squeeze

_APT_HELPER = "/usr/lib/apt/apt-helper"
_INDEXES = "*_bookworm_main_i18n_Translation-*"
_MEASURES = "debian-reference"
_BOILERPLATE = 40
_MOST_ENGLISH = 0.3
_FAMILY = re.compile(r"^(?:lib|python3?-|golang-|node-|ruby-|r-cran-|fonts-)?([a-z]+)")
_SHORTEST_DESCRIPTION = 80
_LONGEST_CODE = 2500


def descriptions(lists: Path) -> Iterator[Document | Query]:
    """Debian's package descriptions: the long one a document, the short one its query.

    `lists` is the folder of apt's `Translation-XX` indexes. Paragraphs that many packages share
    ("Node.js is ...") are left out, and translations that are mostly English. So are packages of
    the manual that nano is measured on.
    """
    indexes = [(_index_language(path), path) for path in sorted(lists.glob(_INDEXES))]
    originals = [path for lang, path in indexes if lang == "en"]
    if not originals:
        raise FileNotFoundError(f"{lists} holds no {_INDEXES.replace('*', '')}en")
    english = dict(_entries(originals[0]))
    for lang, path in indexes:
        for package, (short, long) in _without_boilerplate(dict(_entries(path))).items():
            _, original = english.get(package, ("", ""))
            translated = lang == "en" or same_lines(long, original) <= _MOST_ENGLISH
            if translated and len(long) >= _SHORTEST_DESCRIPTION * density(lang):
                yield from _description(package, lang, short, long)


def _index_language(path: Path) -> str:
    code = path.name.partition("_Translation-")[2].partition(".")[0]
    return language(code.replace("%5f", "-"))


def _entries(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    command = [_APT_HELPER, "cat-file", str(path)]
    text = subprocess.run(command, check=True, capture_output=True).stdout.decode("utf-8")
    for entry in filter(None, map(parse_description, text.split("\n\n"))):
        if not entry[0].startswith(_MEASURES):
            yield entry[0], (entry[1], entry[2])


def _description(package: str, lang: str, short: str, long: str) -> Iterator[Document | Query]:
    group, split = f"ddtp/{package}", split_of(f"ddtp/{family(package)}")
    yield Document(group, lang, long, "ddtp", split)
    yield Query(group, lang, short, "summary", split)
    if lang == "en" and re.search(rf"\b{re.escape(package)}\b", long, re.IGNORECASE):
        yield Query(group, lang, package, "name", split)


def _without_boilerplate(entries: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    counts = Counter(line for _, long in entries.values() for line in set(long.split("\n")))
    clean: dict[str, tuple[str, str]] = {}
    for package, (short, long) in entries.items():
        lines = long.split("\n")
        own = [line for line in lines if counts[line] <= _BOILERPLATE and "debcargo" not in line]
        clean[package] = short, "\n".join(own)
    return clean


def same_lines(text: str, original: str) -> float:
    """Part of the characters of `text` in lines that `original` has too."""
    known = set(original.split("\n"))
    same = sum(len(line) for line in text.split("\n") if line in known)
    return same / max(1, len(text))


def parse_description(stanza: str) -> tuple[str, str, str] | None:
    """(package, short description, long description) of a stanza of a Translation index."""
    lines = stanza.strip().split("\n")
    package = short = ""
    for i, line in enumerate(lines):
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
        elif line.startswith("Description-") and not line.startswith("Description-md5"):
            short = line.partition(": ")[2].strip()
            return (package, short, _unwrap(lines[i + 1 :])) if package and short else None
    return None


def _unwrap(lines: Iterable[str]) -> str:
    """The long description as text: paragraphs joined, lines set verbatim kept."""
    text = ""
    for line in lines:
        content = line[1:]
        if content.strip() == ".":
            text = text.rstrip() + "\n"
        elif content.startswith((" ", "*", "-")):
            text = text.rstrip() + "\n" + content.strip() + " "
        else:
            text += content.strip() + " "
    return re.sub(r"\n+", "\n", text).strip()


def family(package: str) -> str:
    """What packages made of one source mostly share: libfoo2-dev and foo-data are both foo."""
    match = _FAMILY.match(package)
    return match[1] if match else package


def functions(root: Path | None = None) -> Iterator[Document | Query]:
    """Functions of the Python standard library; the first line of the docstring is the query."""
    root = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        parts = set(path.relative_to(root).parts)
        if not parts & {"test", "tests", "site-packages", "dist-packages", "idle_test"}:
            yield from _one_module(path, name)


def _one_module(path: Path, name: str) -> Iterator[Document | Query]:
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    lines = source.splitlines()
    split = split_of(f"stdlib/{name.split('/')[0]}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            summary, code = docstring_and_code(node, lines)
            if summary and code:
                group = f"python/{name}#{node.name}-{node.lineno}"
                yield Document(group, "code", code, "python", split)
                yield Query(group, "code", summary, "docstring", split)


def docstring_and_code(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]
) -> tuple[str, str]:
    """First sentence or line of the docstring and the code without it; empty if too short."""
    docstring = ast.get_docstring(node) or ""
    summary = squeeze(docstring.split("\n\n")[0])
    if len(summary) > 200:
        summary = summary.split(". ")[0]
    if not 12 <= len(summary) <= 200 or node.end_lineno is None:
        return "", ""
    first = node.body[0]
    assert first.end_lineno is not None  # a node that ast.parse made has one
    kept = lines[node.lineno - 1 : first.lineno - 1] + lines[first.end_lineno : node.end_lineno]
    indent = len(kept[0]) - len(kept[0].lstrip())
    code = "\n".join(line[indent:] if not line[:indent].strip() else line for line in kept)
    long_enough = len(node.body) > 1 and len(code) > 80
    return (summary, code[:_LONGEST_CODE].rstrip()) if long_enough else ("", "")


def names(cldr: Path, languages: Iterable[str]) -> Iterator[Document | Query]:
    """CLDR's names of characters and places: keywords a document, the name its query.

    `cldr` is the `common` folder of `unicode-cldr-core`. Places have no keywords; their names are
    documents only.
    """
    for lang in languages:
        code = {"pt-br": "pt", "pt": "pt_PT", "zh-tw": "zh_Hant"}.get(lang, lang)
        for folder in ("annotations", "annotationsDerived"):
            yield from _annotations(cldr / folder / f"{code}.xml", lang)
        yield from _places(cldr / "main" / f"{code}.xml", lang)
        yield from _places(cldr / "subdivisions" / f"{code}.xml", lang)


def _annotations(path: Path, lang: str) -> Iterator[Document | Query]:
    entries: Mapping[str, dict[str, str]] = defaultdict(dict)
    for element in _elements(path, "annotation"):
        kind = element.get("type", "keywords")
        entries[element.get("cp", "")][kind] = squeeze(element.text or "")
    for character, entry in entries.items():
        name = entry.get("tts", "")
        words = [word.strip() for word in entry.get("keywords", "").split("|")]
        others = [word for word in words if word and word != name]
        if name and others:
            group = f"cldr/{character}"
            yield Document(group, lang, ", ".join(others), "cldr", split_of(group))
            yield Query(group, lang, name, "name", split_of(group))


def _places(path: Path, lang: str) -> Iterator[Document]:
    named = [
        (f"{tag}/{element.get('type')}", element)
        for tag in ("territory", "language", "subdivision")
        for element in _elements(path, tag)
        if not element.get("alt")
    ]
    # The city after which a time zone is named has no key of its own.
    named += [
        (f"city/{zone.get('type')}", city)
        for zone in _elements(path, "zone")
        for city in zone.findall("exemplarCity")
        if not city.get("alt")
    ]
    for key, element in named:
        text = squeeze(element.text or "")
        if text and "↑" not in text:
            group = f"cldr/{key}"
            yield Document(group, lang, text, "cldr", split_of(group))


def _elements(path: Path, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.parse(path).iter(tag)) if path.exists() else []
