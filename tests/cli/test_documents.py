"""What a DOCUMENT argument stands for."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightrank.cli.documents import Expanded, expand
from sightrank.errors import UnreadablePdfError
from sightrank.types import Image, Pdf, Text, TextFile


def page_count(path: Path) -> int:
    """Every PDF has 6 pages, except that bad.pdf cannot be opened."""
    if path.name == "bad.pdf":
        raise UnreadablePdfError(f"{path}: The PDF is damaged.", "Save it again.")
    return 6


def expanded(*arguments: str, whole: bool = False, stdin: bytes = b"") -> Expanded:
    return expand(arguments, whole=whole, stdin=io.BytesIO(stdin), page_count=page_count)


def names(*arguments: str, whole: bool = False) -> list[str | None]:
    found = expanded(*arguments, whole=whole)
    assert not found.failures
    return [document.name for document in found.documents]


def failure(*arguments: str, whole: bool = False) -> str:
    found = expanded(*arguments, whole=whole)
    assert not found.documents
    (error,) = found.failures
    assert error.hint
    return error.message


@pytest.mark.usefixtures("files")
def test_files_are_taken_whatever_their_suffix() -> None:
    assert names("b.txt", "f.xyz") == ["b.txt", "f.xyz"]
    assert expanded("f.xyz").documents[0].parts == (TextFile(Path("f.xyz")),)
    assert expanded("x.PNG").failures and not expanded("x.PNG").documents


def test_a_folder_gives_known_suffixes_at_any_depth_sorted(files: Path) -> None:
    (files / "bad.pdf").unlink()
    pages = [f"p.pdf#page={page}" for page in range(1, 7)]
    inner = [f"deep/Q.PDF#page={page}" for page in range(1, 7)]
    assert names(".") == ["a.md", "b.txt", *inner, "deep/er/c.txt", *pages]


@pytest.mark.usefixtures("files")
def test_globs_are_sorted_and_reach_into_folders() -> None:
    assert names("*.txt") == ["b.txt"]
    assert names("**/*.txt") == ["b.txt", "deep/er/c.txt"]
    assert names("[ab].*") == ["a.md", "b.txt"]
    assert names("d*p/er") == ["deep/er/c.txt"]


def test_a_file_that_exists_is_no_pattern(files: Path) -> None:
    (files / "n[1].txt").write_text("x")
    (files / "r.pdf#page=1").write_text("x")
    assert names("n[1].txt", "r.pdf#page=1") == ["n[1].txt", "r.pdf#page=1"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("written", "pages"),
    [
        ("#page=3", [3]),
        ("#pages=2-5", [2, 3, 4, 5]),
        ("#pages=1,4", [1, 4]),
        ("#pages=6,1-2", [6, 1, 2]),
        ("", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_pages_of_a_pdf_are_documents(written: str, pages: list[int]) -> None:
    assert names(f"p.pdf{written}") == [f"p.pdf#page={page}" for page in pages]
    assert names(f"[p].pdf{written}") == [f"p.pdf#page={page}" for page in pages]


@pytest.mark.usefixtures("files")
def test_whole_makes_one_document_of_the_pages() -> None:
    found = expanded("p.pdf", "p.pdf#pages=1,4", "p.pdf#pages=2-3", "b.txt", whole=True)
    assert [document.name for document in found.documents] == [
        "p.pdf",
        "p.pdf#pages=1,4",
        "p.pdf#pages=2-3",
        "b.txt",
    ]
    assert [document.parts[0] for document in found.documents[:2]] == [
        Pdf(Path("p.pdf")),
        Pdf(Path("p.pdf"), (1, 4)),
    ]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "written", ["0", "7", "3-7", "4-2", "", "x", "1,,2", "-3", "2-", "1-999999999", "99999999999"]
)
def test_pages_that_are_not_there_are_named(written: str) -> None:
    message = failure(f"p.pdf#pages={written}")
    assert message.startswith(f"p.pdf#pages={written}: ")


@pytest.mark.usefixtures("files")
def test_every_name_gives_the_same_document_again() -> None:
    for whole in (False, True):
        found = expanded("p.pdf", "p.pdf#pages=2-4", "a.md", "deep/er", whole=whole)
        for document in found.documents:
            assert expanded(document.name or "", whole=whole).documents == (document,)


@pytest.mark.usefixtures("files")
def test_one_bad_argument_does_not_stop_the_others() -> None:
    found = expanded("b.txt", "bad.pdf", "gone.txt", "no*match", "a.md")
    assert [document.name for document in found.documents] == ["b.txt", "a.md"]
    for error, name in zip(found.failures, ["bad.pdf", "gone.txt", "no*match"], strict=True):
        assert name in error.message and error.hint


def test_one_bad_file_does_not_stop_its_folder(files: Path) -> None:
    found = expanded(str(files))
    assert len(found.documents) == 15
    assert ["bad.pdf" in error.message for error in found.failures] == [True]


def test_an_empty_folder_says_what_it_looked_for(files: Path) -> None:
    (files / "empty").mkdir()
    assert failure("empty") == "empty holds no text, image or PDF."


def test_an_image_is_known_by_its_suffix(files: Path) -> None:
    (files / "x.JPG").write_bytes(b"")
    assert expanded("x.JPG").documents[0].parts == (Image(Path("x.JPG")),)


def test_standard_input_is_one_passage_a_line() -> None:
    found = expanded("-", stdin="\ufeffone\r\n\n  two \nπ".encode())
    assert [document.parts for document in found.documents] == [
        (Text("one"),),
        (Text("  two "),),
        (Text("π"),),
    ]
    assert [document.name for document in found.documents] == ["-:1", "-:3", "-:4"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\n"])
def test_standard_input_without_passages_is_a_failure(content: bytes) -> None:
    found = expanded("-", stdin=content)
    assert not found.documents and found.failures[0].message.startswith("Standard input")


@given(st.text(max_size=40), st.booleans())
def test_any_argument_gives_documents_or_failures(argument: str, whole: bool) -> None:
    if Path(argument or "x").is_absolute() or "*" in argument or "?" in argument:
        return  # these may list this machine's folders
    if argument.strip("./~") == "":
        return
    found = expanded(argument, whole=whole)
    assert found.documents or found.failures
