"""Read the fetched packages into `.data/text/`: `python -m recipe.corpus`.

documents.jsonl  passages: id, group, lang, text, source, split
queries.jsonl    short texts for which every document of their group is relevant: id, group, lang,
                 text, kind, split
names.jsonl      names and keywords of characters and places in many languages, as documents and
                 queries; too short to be passages, but they show a vocabulary more languages
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from recipe import corpus_lists, corpus_manuals
from recipe.corpus_passages import Document, Page, Query, passages
from recipe.corpus_select import Row, count, select
from recipe.fetch import DATA

WIDELY_SPOKEN = "ar de es fr it ja ko pt ru zh"
OTHERS = (
    "pt-br uk pl cs sk sl hr sr bg nl da sv nb nn fi et lt lv hu ro el tr ca gl eu id vi fa he hi "
    "bn ta te th km zh-tw"
)
LIMITS = {
    "en": 100_000,
    "code": 10_000,
    **dict.fromkeys(WIDELY_SPOKEN.split(), 12_000),
    **dict.fromkeys(OTHERS.split(), 5_000),
}
"""Groups kept in each language; languages not named are left out."""

Source = Callable[[], Iterable[Row]]


def sources(data: Path) -> dict[str, Source]:
    """Every source by name; each reads what `recipe.fetch` left in `data`."""
    packages = data / "packages"
    manuals: dict[str, Callable[[Path], list[Page]]] = {
        "gnome-user-docs": corpus_manuals.gnome,
        "debian-handbook": corpus_manuals.handbook,
        "gimp-help": corpus_manuals.gimp,
        "libreoffice-help": corpus_manuals.libreoffice,
    }
    found: dict[str, Source] = {
        "python": corpus_lists.functions,
        "package descriptions": lambda: corpus_lists.descriptions(data / "apt" / "state" / "lists"),
    }
    for name, read in manuals.items():
        found[name] = partial(_manual, read, packages)
    return found


def _manual(read: Callable[[Path], list[Page]], packages: Path) -> Iterable[Row]:
    return passages(read(packages))


def read_all(data: Path) -> list[Row]:
    """Rows of every source; one that is missing or damaged is named on stderr and skipped."""
    rows: list[Row] = []
    for name, source in sources(data).items():
        before = len(rows)
        try:
            rows.extend(source())
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: cannot be read ({error}).", file=sys.stderr)
        hint = "" if len(rows) > before else "; fetch it with python -m recipe.fetch"
        print(f"{name}: {len(rows) - before:,} rows{hint}", file=sys.stderr, flush=True)
    return rows


def write(rows: Iterable[Row], path: Path) -> None:
    """Number `rows` and write them as JSON lines; `path` appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            file.write(json.dumps({"id": number, **asdict(row)}, ensure_ascii=False) + "\n")
    part.replace(path)


def build(data: Path = DATA) -> list[Row]:
    """Write all files; returns the rows of documents.jsonl and queries.jsonl."""
    folder = data / "text"
    folder.mkdir(parents=True, exist_ok=True)
    rows = select(read_all(data), LIMITS)
    write((row for row in rows if isinstance(row, Document)), folder / "documents.jsonl")
    write((row for row in rows if isinstance(row, Query)), folder / "queries.jsonl")
    cldr = data / "packages" / "unicode-cldr-core" / "usr" / "share" / "unicode" / "cldr" / "common"
    languages = [lang for lang in LIMITS if lang != "code"]
    write(corpus_lists.names(cldr, languages), folder / "names.jsonl")
    return rows


def main() -> None:
    """Command line."""
    for kind, counts in count(build()).items():
        languages = (f"{lang} {number:,}" for lang, number in counts.most_common())
        print(f"{kind}: {counts.total():,};", *languages)


if __name__ == "__main__":
    main()
