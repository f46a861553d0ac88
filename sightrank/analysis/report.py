"""A ranking as one HTML page that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from sightrank.analysis.explanation import Explanation, PagePart, TextPart
from sightrank.analysis.heatmap import shrunk
from sightrank.types import RankedDocument

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

LARGEST = 900
"""Longer side, in pixels, of a heat map in the report."""
_QUALITY = 80
_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --mark: #ffd54f; --ink: #111; --bar: #c75300; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
ol { list-style: none; padding: 0; }
li { display: grid; grid-template-columns: 8rem 1fr; gap: 1rem; padding: 1rem 0;
  border-top: 1px solid var(--edge); }
li > div { min-width: 0; }
h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; box-sizing: border-box; border: 1px solid var(--edge);
  border-radius: 3px; }
meter { width: 8rem; }
mark { background: var(--mark); color: var(--ink); }
summary { cursor: pointer; width: fit-content; padding: .2rem .4rem .2rem 0; }
details[open] summary { margin-bottom: .4rem; }
td { padding: 0 .8rem 0 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { text-align: right; font-variant-numeric: tabular-nums; }
small { opacity: .75; }
@media (max-width: 30rem) { li { grid-template-columns: 1fr; } }
"""


@dataclass(frozen=True)
class Entry:
    """One line of the report."""

    hit: RankedDocument
    name: str
    """What to type to get the document again; "" if there is no such name."""
    snippet: str = ""
    thumbnail: PILImage | None = None
    explanation: Explanation | None = None
    problem: str = ""
    """Why it could not be shown or explained."""


def report(model: str, query: str, picture: PILImage | None, entries: Sequence[Entry]) -> str:
    """A whole HTML document. Everything that comes from outside is escaped.

    `picture`: what was asked, where the query is one.
    """
    asked = _image(picture, "the query") if picture else ""
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(query)[:200]} - Sightrank</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f'<h1 dir="auto">{_text(query)}</h1>',
            asked,
            f"<p>{len(entries)} documents, ranked by {_text(model)}, the best first.</p>",
            "<ol>",
            *(_entry(entry) for entry in entries),
            "</ol>",
            "</body>",
            "</html>",
            "",
        )
    )


def _entry(entry: Entry) -> str:
    hit = entry.hit
    title = _text(entry.name or f"document {hit.index + 1}")
    thumbnail = _image(entry.thumbnail, "") if entry.thumbnail else ""
    snippet = f'<p dir="auto">{_text(entry.snippet)}</p>' if entry.snippet else ""
    problem = f"<p>{_text(entry.problem)}</p>" if entry.problem else ""
    why = _why(entry.explanation) if entry.explanation else ""
    return (
        f'<li value="{hit.rank}"><div>{thumbnail}</div><div>'
        f'<h2 dir="auto">{hit.rank}. {title}</h2>'
        f'<p><meter min="0" max="1" value="{hit.score:.4f}">{hit.score:.4f}</meter>'
        f" {hit.score:.4f} <small>logit {hit.logit:.3f}</small></p>"
        f"{snippet}{problem}{why}</div></li>"
    )


def _why(explanation: Explanation) -> str:
    """Closed until it is asked for, by the browser itself."""
    parts = "".join(_parts(explanation))
    note = "<p>The end was cut off and is not explained.</p>" if explanation.truncated else ""
    method = _text(explanation.method)
    return f"<details><summary>Why, by {method}</summary>{parts}{note}</details>"


def _parts(explanation: Explanation) -> Iterator[str]:
    pages = 0
    for part in explanation.parts:
        if isinstance(part, TextPart):
            yield _marked(explanation, part)
            continue
        label = "picture" if part.page is None else f"page {part.page}"
        heat = shrunk(explanation.heat_map(pages), LARGEST)
        yield _image(heat, f"heat map over the {label}") + _boxes(explanation, part)
        pages += 1


def _marked(explanation: Explanation, part: TextPart) -> str:
    pieces, at = [], 0
    for span in sorted(explanation.spans(part), key=lambda span: span.start):
        pieces.append(_text(part.text[at : span.start]))
        inside = _text(part.text[span.start : span.end])
        pieces.append(f'<mark title="{span.score:.1%}">{inside}</mark>')
        at = span.end
    return f'<p dir="auto">{"".join(pieces)}{_text(part.text[at:])}</p>'


def _boxes(explanation: Explanation, part: PagePart) -> str:
    rows = [
        f'<tr><td>{box.score:.1%}</td><td dir="auto">{_text(box.words)}</td></tr>'
        for box in explanation.boxes(part)
        if box.words
    ]
    return f"<table><tbody>{''.join(rows)}</tbody></table>" if rows else ""


def _image(image: PILImage, label: str) -> str:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img alt="{_text(label)}" {size} src="data:image/jpeg;base64,{data}">'


def _text(text: str) -> str:
    """Escaped; what HTML forbids even when escaped (most control characters) becomes U+FFFD."""
    return escape("".join(char if _allowed(char) else "\ufffd" for char in text))


def _allowed(char: str) -> bool:
    if char in "\t\n":
        return True
    code = ord(char)
    nothing = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return unicodedata.category(char) not in ("Cc", "Cs") and not nothing
