"""Both layouts are read, and what is wrong in a file is named by file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sightrank.errors import InputError
from sightrank.evaluate.datasets import load, text_of
from sightrank.types import Image, Pdf, Text

MakeSet = Callable[..., Path]
PAGE = {"_id": "p", "pdf": "a.pdf", "page": 3}


def test_reads_the_plain_layout(make_set: MakeSet) -> None:
    dataset = load(make_set())
    assert dataset.name == "animals"
    assert list(dataset.documents) == ["d1", "d2", "d3"]
    assert dataset.documents["d2"].parts == (Text("a dog and a cat"),)
    assert text_of(dataset.queries["q2"]) == "sea birds"
    assert dataset.grades == {"q1": {"d2": 2, "d1": 1}, "q2": {"d3": 1}, "q3": {"d1": 1}}


def test_reads_the_layout_of_beir(make_set: MakeSet) -> None:
    folder = make_set(
        corpus=[{"_id": "1", "title": "Cats", "text": "sit", "metadata": {}},
                {"_id": "2", "title": "", "text": "dogs"}],
        queries=[{"_id": "7", "text": "cats?", "metadata": {"url": "x"}},
                 {"_id": "8", "text": "from the training split"}],
        qrels="query-id\tcorpus-id\tscore\n7\t1\t1\n",
        qrels_name="qrels/test.tsv",
    )  # fmt: skip
    dataset = load(folder)
    assert [text_of(document) for document in dataset.documents.values()] == ["Cats sit", "dogs"]
    assert dataset.grades == {"7": {"1": 1}}
    assert list(dataset.first(None).queries) == ["7"]


def test_names_of_pages_and_images_are_found_under_files(make_set: MakeSet, tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "a.pdf").touch()
    (tmp_path / "files" / "sub" / "b.png").touch()
    folder = make_set(corpus=[PAGE, {"_id": "i", "image": "sub/b.png"}])
    documents = load(folder, tmp_path / "files").documents
    assert documents["p"].parts == (Pdf(tmp_path / "files" / "a.pdf", (3,)),)
    assert documents["i"].parts == (Image(tmp_path / "files" / "sub" / "b.png"),)


def test_a_file_that_is_missing_asks_for_files(make_set: MakeSet) -> None:
    with pytest.raises(
        InputError, match=r"corpus\.jsonl, line 1: .*a\.pdf does not exist.*--files"
    ):
        load(make_set(corpus=[PAGE]))


def test_the_first_queries_are_those_with_grades(make_set: MakeSet) -> None:
    dataset = load(make_set(qrels="q3\td1\t1\nq2\td3\t1\n")).first(1)
    assert list(dataset.queries) == ["q2"]
    assert dataset.grades == {"q2": {"d3": 1}}
    assert len(dataset.documents) == 3


GOOD = '{"_id": "a", "text": "x"}\n\n'  # the bad line is the third, as blank lines count


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 3: Expecting property name"),
        ("[1]", "line 3: this is not a JSON object"),
        ('{"text": "x"}', "line 3: _id is null; it must be a string"),
        ('{"_id": 5, "text": "x"}', "line 3: _id is 5; it must be a string"),
        ('{"_id": "a", "text": "x"}', "line 3: _id 'a' stands on an earlier line too"),
        ('{"_id": "b"}', "line 3: one of text, pdf, image is needed; the line has none"),
        ('{"_id": "b", "text": "x", "image": "y"}', "line 3: .* has text and image"),
        ('{"_id": "b", "text": 4}', "line 3: text is 4; it must be a string"),
        ('{"_id": "b", "pdf": "/etc/x.pdf", "page": 1}', "line 3: .* inside the folder of files"),
        ('{"_id": "b", "image": "../x.png"}', "line 3: .* inside the folder of files"),
    ],
)
def test_bad_lines_of_the_corpus(make_set: MakeSet, line: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"corpus\.jsonl, {message}"):
        load(make_set(corpus=GOOD + line))


@pytest.mark.parametrize("page", [0, -1, 1.5, True, "3", None])
def test_bad_pages(make_set: MakeSet, tmp_path: Path, page: object) -> None:
    (tmp_path / "a.pdf").touch()
    with pytest.raises(InputError, match=r"line 1: page is .*; it must be a whole number from 1"):
        load(make_set(corpus=[{**PAGE, "page": page}]), tmp_path)


@pytest.mark.parametrize("row", [{"_id": "q", "text": " "}, {"_id": "q", "pdf": "a.pdf"}])
def test_bad_queries(make_set: MakeSet, row: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"queries\.jsonl, line 1"):
        load(make_set(queries=[row]))


@pytest.mark.parametrize(
    ("qrels", "message"),
    [
        ("q1\td1\t1\nq1 d2 1\n", "line 2: 1 fields instead of 3"),
        ("q1\td1\t1\nq1\td2\tyes\n", "line 2: grade is 'yes'"),
        ("q1\td1\t1\nq9\td2\t1\n", "line 2: queries.jsonl has no query 'q9'"),
        ("q1\td1\t1\nq1\td1\t2\n", "line 2: document 'd1' had another grade"),
    ],
)
def test_bad_grades(make_set: MakeSet, qrels: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"qrels\.tsv, {message}"):
        load(make_set(qrels=qrels))


def test_missing_files_are_named(make_set: MakeSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither qrels\.tsv nor qrels/test\.tsv"):
        load(make_set("no-grades", qrels=None))
    with pytest.raises(InputError, match=r"qrels\.tsv has no grades"):
        load(make_set("only-titles", qrels="query-id\tcorpus-id\tscore\n"))
    with pytest.raises(InputError, match=r"corpus\.jsonl has no lines"):
        load(make_set("empty", corpus=""))
    with pytest.raises(InputError, match="is not a folder"):
        load(tmp_path / "nowhere")
    folder = make_set("half")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(InputError, match=r"queries\.jsonl cannot be read: No such file"):
        load(folder)


def test_bytes_that_are_not_utf8_are_named(make_set: MakeSet) -> None:
    folder = make_set()
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write(b'\n{"_id": "e", "text": "caf\xe9"}')
    with pytest.raises(InputError, match=r"corpus\.jsonl, line 4: byte 26 is not UTF-8"):
        load(folder)


def test_a_byte_order_mark_and_windows_lines_are_read(make_set: MakeSet) -> None:
    folder = make_set()
    for path in (folder / "corpus.jsonl", folder / "qrels.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    dataset = load(folder)
    assert dataset.grades["q1"] == {"d2": 2, "d1": 1}
    assert list(dataset.documents) == ["d1", "d2", "d3"]
