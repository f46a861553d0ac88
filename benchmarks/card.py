"""Fill the tables of nano's card from the committed results: `python benchmarks/card.py`.

A table is known by its header; its rows are replaced, the words around it are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CARD = ROOT / "sightrank" / "nano" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Write the card anew and say whether anything changed."""
    before = CARD.read_text(encoding="utf-8")
    after = filled(before)
    CARD.write_text(after, encoding="utf-8")
    print(json.dumps({"card": CARD.name, "changed": before != after}))


def filled(card: str) -> str:
    """The card with its tables as the results have them."""
    for header, rows in (
        ("| set, candidates | their order | nano |", quality(_read("quality"))),
        ("| | first query | next query |", speed(_read("nano-speed"))),
        ("| language | same | to English |", languages(_read("nano-validation"))),
    ):
        card = replace_rows(card, header, rows)
    return card


SHOWN = {"pages": {"random"}, "xquad": {"e5"}, "cranfield": {"bm25", "e5"}}
"""The lists of candidates that the card shows, by the beginning of a set's name."""


def quality(report: Any) -> Iterable[Sequence[str]]:
    """nDCG@10 of a list in its own order and in nano's."""
    for each in report["sets"]:
        for name, found in sorted(each["candidates"].items()):
            if name in SHOWN[each["dataset"].split("-")[0]]:
                values = (found[order]["ndcg@10"] for order in ("first_stage", "metrics"))
                yield f"{each['dataset']}, {name}", *(f"{value:.3f}" for value in values)


def speed(report: Any) -> Iterable[Sequence[str]]:
    """Documents a second, cold and warm."""
    kinds = {"passages": "passages", "pages": "PDF pages"}
    for name, title in kinds.items():
        found = report["sets"][name]
        tokens = round(found["tokens_per_document"], -1)
        rates = (found[f"{state}_documents_per_second"] for state in ("cold", "warm"))
        yield f"{title} of about {tokens:.0f} tokens", *map(_rounded, rates)


def languages(report: Any) -> Iterable[Sequence[str]]:
    """nDCG@10 of each language in itself and asked of English."""
    for name, same in sorted(report["same_language"].items()):
        other = report["to_english"].get(name)
        yield name, f"{same:.2f}", "" if other is None else f"{other:.2f}"


def replace_rows(text: str, header: str, rows: Iterable[Sequence[str]]) -> str:
    """`text` with other rows below `header` and its rule; raises ValueError if there is none."""
    lines = text.split("\n")
    first = lines.index(header) + 2
    last = next(at for at in range(first, len(lines)) if not lines[at].startswith("|"))
    lines[first:last] = ["| " + " | ".join(row).rstrip() + " |" for row in rows]
    return "\n".join(lines)


def _rounded(rate: float) -> str:
    """One decimal below 10, whole numbers below 1,000, tens above."""
    digits = 1 if rate < 10 else 0 if rate < 1000 else -1
    return f"{round(rate, digits):,.{max(digits, 0)}f}"


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
