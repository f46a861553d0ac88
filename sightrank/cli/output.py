"""What the commands print: tables and JSON to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from sightrank.errors import DamageWarning, InputError, SightrankError
from sightrank.types import Document, Query, RankedDocument, Ranking, Text

SNIPPET = 160
"""Characters of a passage shown at most; the table cuts it again at the screen's edge."""
MARGIN = 23
"""Width of the columns before the document."""
_JOINERS = "\u200c\u200d"  # not printable to Python, but part of how Persian or emoji are written


def ranking_json(model: str, query: Query, ranking: Ranking) -> dict[str, Any]:
    """A ranking as `--json` prints it; `document` is what to type, or the passage itself."""
    rejected = ranking.rejected
    below = {"count": len(rejected), "best": _hit_json(rejected[0])} if rejected else None
    return {
        "model": model,
        "query": typed(query),
        "results": [_hit_json(hit) for hit in ranking],
        **({"below_threshold": below} if below else {}),
        "usage": {"total_tokens": ranking.total_tokens},
    }


def _hit_json(hit: RankedDocument) -> dict[str, Any]:
    calibrated = {} if hit.probability is None else {"probability": hit.probability}
    return {
        "rank": hit.rank,
        "index": hit.index,
        "document": typed(hit.document),
        "score": hit.score,
        "logit": hit.logit,
        **calibrated,
    }


def nothing_relevant(ranking: Ranking, threshold: float | None) -> str:
    """The answer where every document lies below the threshold."""
    best = ranking.rejected[0]
    kind = "score" if best.probability is None else "probability"
    value = best.score if best.probability is None else best.probability
    count = len(ranking.rejected)
    what = f"the best of {count} documents has" if count > 1 else "the one document has"
    name = printable(best.document.name or snippet(best.document))
    where = f" ({name})" if name else ""
    return (
        f"Nothing here is relevant: {what} a {kind} of {value:.4f}, asked for is {threshold:g} or"
        f" more{where}."
    )


def typed(item: Query | Document) -> str:
    """What the user gave: the text of a single passage, else the item's name."""
    if len(item.parts) == 1 and isinstance(item.parts[0], Text):
        return item.parts[0].text
    return item.name or ""


def print_json(content: Any) -> None:
    """Print JSON, readable in any script where stdout's encoding can carry it."""
    text = json.dumps(content, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an old locale, or a file name that is not Unicode
        text = json.dumps(content, indent=2)
    print(text)


def print_table(ranking: Ranking) -> None:
    """Print rank, probability if calibrated, score, logit and document. Names are never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Styled

    console = Console()
    calibrated = any(hit.probability is not None for hit in ranking)
    margin = MARGIN + (len("probability") + 1 if calibrated else 0)
    edge, longest = console.width - margin, 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("rank", *(["probability"] if calibrated else []), "score", "logit"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("document", overflow="fold")
    for hit in ranking:
        label = Styled(printable(hit.document.name or ""), style="bold")
        words = Styled(snippet(hit.document), style="dim")
        gap = "  " if label and words else ""
        if label.cell_len + len(gap) < edge:
            words.truncate(edge - label.cell_len - len(gap), overflow="ellipsis")
            label.append(gap).append_text(words)
        numbers = [f"{hit.score:.4f}", f"{hit.logit:.2f}"]
        if calibrated:
            numbers.insert(0, "" if hit.probability is None else f"{hit.probability:.4f}")
        table.add_row(str(hit.rank), *numbers, label)
        longest = max(longest, label.cell_len)
    if not console.is_terminal:  # a file or another program: one document, one line
        console.width = max(console.width, longest + margin)
    console.print(table)


def snippet(document: Document) -> str:
    """The start of a document's text in one line; empty if it has none or it cannot be read."""
    from sightrank.types import TextFile

    for part in document.parts:
        if isinstance(part, Text):
            return " ".join(printable(part.text[: 2 * SNIPPET]).split())[:SNIPPET]
        if isinstance(part, TextFile):
            try:
                with part.path.open(encoding="utf-8-sig", errors="replace") as file:
                    start = "".join(islice(iter(lambda: file.read(64), ""), 5))
            except OSError:
                return ""
            return " ".join(printable(start).split())[:SNIPPET]
    return ""


def printable(text: str) -> str:
    """`text` in which nothing can steer a terminal: control characters become spaces."""
    return "".join(
        char if char.isprintable() or char in _JOINERS else " " if char.isspace() else "\ufffd"
        for char in text
    )


def readable_bytes(count: int) -> str:
    """A number of bytes with a unit that suits it, in powers of 1000: 23.4 MB."""
    power = min((len(str(count)) - 1) // 3, 5)
    return f"{count / 1000**power:.1f} {'kMGTP'[power - 1]}B" if power else f"{count} bytes"


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Warnings about an index as plain lines on stderr, each one once."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {printable(str(message))}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DamageWarning)
        warnings.showwarning = show
        yield


def nothing(count: int) -> InputError:
    """No document is left to work on."""
    return InputError(f"None of {count} documents could be read.", "The lines above say why.")


def named(error: Exception, document: Document) -> SightrankError:
    """The error with the document's name in its message."""
    message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
    name = document.name or ""
    return InputError(message if name in message else f"{name}: {message}", hint)


def print_error(error: SightrankError, label: str = "error") -> None:
    """`error: what happened` and, on a second line, what to do next."""
    print(f"{label}: {printable(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  {printable(error.hint)}", file=sys.stderr)
