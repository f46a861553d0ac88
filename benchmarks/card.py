"""Fill the tables of nano's card and of pages in docs/ from the results: `python benchmarks/card.py`.

A table is known by its header, those of docs/explaining.md lie between two comments; the words around
them are left alone.
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
    """Write both anew and say which changed."""
    changed = []
    for path, fill in FILLED.items():
        before = path.read_text(encoding="utf-8")
        path.write_text(fill(before), encoding="utf-8")
        if fill(before) != before:
            changed.append(str(path.relative_to(ROOT)))
    print(json.dumps({"changed": changed}))


def fill_card(card: str) -> str:
    """The card with its tables as the results have them."""
    for header, rows in (
        ("| set, candidates | their order | nano |", quality(_read("quality"))),
        ("| | first query | next query |", speed(_read("nano-speed"))),
        ("| language | same | to English |", languages(_read("nano-validation"))),
    ):
        card = replace_rows(card, header, rows)
    return card


def fill_explaining(page: str) -> str:
    """The page with its tables as the results have them; raises ValueError without the comments."""
    first = page.index(BEGIN) + len(BEGIN)
    return page[:first] + explain_tables(_read("explain")) + page[page.index(END) :]


def fill_calibration(page: str) -> str:
    """The page with its tables as the results have them."""
    report = _read("calibrate-nano")
    for header, rows in (
        ("| other candidates | calibration error before | after |", errors(report)),
        (
            "| others | wanted | promised, 95 % | on the third part"
            " | of 100 deals: given | reached | inside |",
            thresholds(report),
        ),
    ):
        page = replace_rows(page, header, rows)
    return page


def errors(report: Any) -> Iterable[Sequence[str]]:
    """Expected calibration errors on held-out queries, before and after the better fit."""
    for name, title in (("random", "8 at random"), ("hard", "and 4 by BM25")):
        found = report[name]
        yield title, *(f"{found[fit]['ece']:.3f}" for fit in ("before", found["method"]))


def thresholds(report: Any) -> Iterable[Sequence[str]]:
    """Each threshold that was given: promised, and what became of it."""
    for name, title in (("random", "random"), ("hard", "with BM25's")):
        for each in report[name]["fresh"]["thresholds"]:
            if each["reached"] is not None:
                goal = f"{each['goal']} {each['wanted']}"
                deals = report[name]["dealt_out"]["goals"][goal]
                promised = " to ".join(f"{end:.3f}" for end in each["promised"])
                counts = (str(deals[key]) for key in ("given", "reached", "inside"))
                yield title, goal, promised, f"{each['reached']:.3f}", *counts


FILLED = {
    CARD: fill_card,
    ROOT / "docs" / "explaining.md": fill_explaining,
    ROOT / "docs" / "calibration.md": fill_calibration,
}
BEGIN, END = "<!-- explain.json -->\n", "\n<!-- end -->"


def explain_tables(report: Any) -> str:
    """Of texts and of pages: all methods but occlusion on all, and all of them on the first few."""
    lines = []
    for name, kind in (("texts", "text"), ("pages", "image")):
        found, few = report[name], report[name]["with_occlusion"]
        heads = report["heads"]["chosen"][kind]
        which = "all heads" if heads is None else f"heads chosen: {heads}"
        lines += [f"{found['measured_on']} {name} ({which}, on {found['chosen_on']} others):", ""]
        lines += [*_methods(found["methods"], {}), ""]
        lines += [f"The first {few['measured_on']} of these {name}, with occlusion:", ""]
        lines += [*_methods(few["methods"], few["curves"]), ""]
    return "\n".join(lines)


def _methods(methods: Any, curves: Any) -> list[str]:
    """A row for each method, and chance's."""
    titles = [
        "method",
        "pointing",
        "IoU",
        "processor seconds",
        *(["deletion", "insertion"] if curves else []),
    ]
    rows = [titles, ["---"] * len(titles)]
    for name, each in methods.items():
        row = [name, f"{each['pointing']:.2f}", f"{each['iou']:.3f}"]
        rows.append([*row, f"{each['processor_seconds']:.2f}", *_curve(curves, name)])
    any_method = methods["attention"]
    chance = [
        "chance",
        f"{any_method['pointing_by_chance']:.2f}",
        f"{any_method['iou_by_chance']:.3f}",
    ]
    rows.append([*chance, "", *_curve(curves, "random")])
    return ["| " + " | ".join(row).rstrip() + " |" for row in rows]


def _curve(curves: Any, name: str) -> list[str]:
    return [f"{curves[name][f'{way}_mean']:.2f}" for way in ("deletion", "insertion") if curves]


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
