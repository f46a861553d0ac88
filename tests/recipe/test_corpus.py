"""Passages say the same in each language; queries stand apart from what they ask for."""

from __future__ import annotations

import ast
import json
from xml.etree import ElementTree

import pytest

from recipe import corpus_lists, corpus_manuals, corpus_select
from recipe.corpus_passages import (
    Block,
    Document,
    Page,
    Query,
    cut_page,
    passages,
    split_of,
    strip_number,
)
from recipe.fetch import DATA

LONG = "A sentence that says something about margins and paper. " * 5
LANG = "Ein Satz, der etwas über Ränder und Papier aussagt, ist hier. " * 5


def _page(**languages: list[Block]) -> Page:
    return Page("manual", "page", languages)


def _blocks(*rows: tuple[int, str]) -> list[Block]:
    return [Block(level, text) for level, text in rows]


ENGLISH = _blocks((1, "Paper"), (0, LONG), (2, "Margins"), (0, LONG), (0, "Short."))


def test_a_page_is_cut_at_headings_and_short_sections_join() -> None:
    cuts = cut_page(ENGLISH)
    assert [(cut.start, cut.stop, cut.num_headings) for cut in cuts] == [(0, 2, 1), (2, 5, 1)]
    short = _blocks((1, "Paper"), (0, "Short."), (2, "Margins"), (0, LONG))
    assert [(cut.start, cut.stop) for cut in cut_page(short)] == [(0, 4)]


def test_long_sections_are_cut_between_paragraphs() -> None:
    blocks = _blocks((1, "Paper"), *[(0, LONG)] * 12)
    cuts = cut_page(blocks)
    assert [cut.stop for cut in cuts[:-1]] == [cut.start for cut in cuts[1:]]
    assert all(sum(len(b.text) for b in blocks[cut.start : cut.stop]) <= 1510 for cut in cuts)
    assert [cut.num_headings for cut in cuts] == [1] + [0] * (len(cuts) - 1)


def test_passages_share_groups_and_leave_the_heading_to_the_query() -> None:
    german = _blocks((1, "Papier"), (0, LANG), (2, "Ränder"), (0, LANG), (0, "Kurz."))
    rows = list(passages([_page(en=ENGLISH, de=german)]))
    groups = {(row.lang, row.group) for row in rows if isinstance(row, Document)}
    assert groups == {(lang, f"manual/page#{n}") for lang in ("en", "de") for n in (0, 1)}
    queries = {(q.lang, q.group[-1]): (q.text, q.kind) for q in rows if isinstance(q, Query)}
    assert queries["de", "0"] == ("Papier", "title")
    assert queries["en", "1"] == ("Margins", "heading")
    assert not any("Margins" in row.text for row in rows if isinstance(row, Document))


def test_untranslated_passages_and_pages_of_another_shape_are_left_out() -> None:
    half = _blocks((1, "Papier"), (0, LANG), (2, "Margins"), (0, LONG), (0, "Short."))
    other = _blocks((1, "Papier"), (0, LANG))
    rows = [row for row in passages([_page(en=ENGLISH, de=half, fr=other)]) if row.lang != "en"]
    assert {(row.lang, row.group) for row in rows} == {("de", "manual/page#0")}


def test_a_heading_that_many_pages_have_is_preceded_by_its_parent() -> None:
    blocks = [_blocks((1, f"Sum {n}"), (0, LONG), (2, "Syntax"), (0, LONG)) for n in range(5)]
    pages = [Page("manual", f"page{n}", {"en": each}) for n, each in enumerate(blocks)]
    texts = {row.text for row in passages(pages) if isinstance(row, Query)}
    assert "Sum 3: Syntax" in texts
    assert "Syntax" not in texts


def test_numbers_before_headings_go() -> None:
    assert strip_number("6.3. The apt-cache Command") == "The apt-cache Command"
    assert strip_number("Kapitel 6. Wartung") == "Wartung"
    assert strip_number("3D effects:") == "3D effects"


def test_a_libreoffice_page_shows_one_choice_of_a_switch() -> None:
    html = (
        '<div><h1>Copy &nbsp; now</h1><p>Press <span class="switchinline">'
        '<span hidden="true" id="MACx">Command</span><span hidden="true" id="defaultx">Ctrl</span>'
        '</span>+C<br> here.</p><img src="a>b"><div class="relatedtopics"><p>See</p></div></div>'
    )
    root = corpus_manuals.parse(corpus_manuals.close_voids(html))
    blocks = corpus_manuals.LibreOfficeReader().read(root)
    assert blocks == _blocks((1, "Copy now"), (0, "Press Ctrl+C"), (0, "here."))


def test_a_mallard_page_has_titles_by_depth() -> None:
    root = ElementTree.fromstring(
        '<page xmlns="http://projectmallard.org/1.0/"><info><desc>no</desc></info><title>A</title>'
        "<p>one <gui>two</gui></p><section><title>B</title><p>three</p></section></page>"
    )
    expected = _blocks((1, "A"), (0, "one two"), (2, "B"), (0, "three"))
    assert corpus_manuals.MallardReader().read(root) == expected


def test_a_package_description_is_unwrapped() -> None:
    stanza = (
        "Package: foo\nDescription-md5: 0\nDescription-de: Ein Werkzeug\n"
        " Erste Zeile\n zweite.\n .\n Liste:\n  - eins\n    weiter\n"
    )
    package, short, long = corpus_lists.parse_description(stanza) or ("", "", "")
    assert (package, short) == ("foo", "Ein Werkzeug")
    assert long.split("\n")[0] == "Erste Zeile zweite."
    assert "- eins" in long.split("\n")[2]


def test_packages_of_one_family_share_a_split() -> None:
    families = {corpus_lists.family(name) for name in ("libfoo2-dev", "foo-data", "python3-foo")}
    assert families == {"foo"}
    assert split_of("ddtp/foo") == split_of("ddtp/foo")
    share = sum(split_of(str(n)) == "valid" for n in range(10_000)) / 10_000
    assert 0.02 < share < 0.04


def test_code_loses_its_docstring() -> None:
    source = (
        "class A:\n    def area(self, width):\n"
        '        """Area of the box.\n\n        Longer.\n        """\n'
        "        height = self.height_of_the_box()\n        result = width * height\n"
        "        return result\n"
    )
    node = next(n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef))
    summary, code = corpus_lists.docstring_and_code(node, source.splitlines())
    assert summary == "Area of the box."
    assert code.startswith("def area(self, width):\n    height =")
    assert "Longer" not in code


def test_nothing_is_kept_twice_and_no_query_without_an_answer() -> None:
    rows: list[corpus_select.Row] = [
        Document("a", "en", "same", "s", "train"),
        Query("a", "en", "what", "title", "train"),
        Document("b", "en", "same", "s", "train"),
        Query("b", "en", "which", "title", "train"),
        Query("c", "de", "wo", "title", "train"),
        Document("d", "xx", "unknown", "s", "train"),
    ]
    assert corpus_select.select(rows, {"en": 10, "de": 10}) == rows[:2]


def test_a_query_of_many_groups_goes() -> None:
    rows: list[corpus_select.Row] = [
        Document(str(n), "en", f"t{n}", "s", "train") for n in range(3)
    ]
    rows += [Query(str(n), "en", "Overview", "title", "train") for n in range(3)]
    assert corpus_select.clear_queries(rows) == rows[:3]


def test_languages_keep_the_same_groups() -> None:
    rows: list[corpus_select.Row] = [
        Document(str(n), lang, f"text {n}", "s", "train")
        for n in range(50)
        for lang in ("en", "de")
    ]
    kept = corpus_select.select(rows, {"en": 20, "de": 10})
    groups = {lang: {row.group for row in kept if row.lang == lang} for lang in ("en", "de")}
    assert (len(groups["en"]), len(groups["de"])) == (20, 10)
    assert groups["de"] < groups["en"]


def test_the_corpus_holds_what_it_says() -> None:
    folder = DATA / "text"
    if not (folder / "queries.jsonl").exists():
        pytest.skip("the corpus is not here; make it with python -m recipe.fetch and recipe.corpus")
    splits: dict[str, set[str]] = {}
    texts: dict[tuple[str, str], set[str]] = {}
    with (folder / "documents.jsonl").open(encoding="utf-8") as lines:
        for number, row in enumerate(map(json.loads, lines)):
            assert row["id"] == number
            splits.setdefault(row["group"], set()).add(row["split"])
            texts.setdefault((row["group"], row["lang"]), set()).add(row["text"])
    assert all(len(found) == 1 for found in splits.values())
    assert not any("debian-reference" in group for group in splits)
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            assert splits[row["group"]] == {row["split"]}
            assert row["text"] not in texts.get((row["group"], row["lang"]), set())
