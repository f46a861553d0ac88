"""`sightrank index` and `rank --index` as a user runs them, with a tiny checkpoint."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightrank.cli.output import readable_bytes
from tests.cli.conftest import DEMO
from tests.command import status
from tests.tolerances import ENGINE

PAGES = "howto.pdf#pages=19-20"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a PDF, pictures and passages."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO / "xfig-howto.pdf", tmp_path / "howto.pdf")
    for name in ("pictures", "passages"):
        shutil.copytree(DEMO / name, tmp_path / name)
    return tmp_path


class Command:
    """The command line with one model, and what it printed last."""

    def __init__(self, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.checkpoint, self.capsys = checkpoint, capsys
        self.out = self.err = ""

    def status(self, *arguments: object) -> int:
        code = status(*arguments)
        self.out, self.err = self.capsys.readouterr()
        return code

    def answer(self, *arguments: object) -> dict[str, Any]:
        assert self.status(*arguments, "--json") == 0, self.err
        printed: dict[str, Any] = json.loads(self.out)
        return printed

    def index(self, *documents: object, to: str = "pages.index") -> dict[str, Any]:
        return self.answer("index", *documents, "--to", to, "--model", self.checkpoint)

    def rank(self, *arguments: object) -> dict[str, Any]:
        return self.answer("rank", "lobster", *arguments, "--model", self.checkpoint)


@pytest.fixture
def command(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(checkpoint, capsys)


def by_document(printed: dict[str, Any]) -> dict[tuple[int, str], float]:
    return {(hit["index"], hit["document"]): hit["logit"] for hit in printed["results"]}


@pytest.mark.parametrize("precision", ["exact", "features"])
def test_ranking_from_an_index_prints_what_plain_ranking_prints(
    place: Path, command: Command, precision: str
) -> None:
    documents = ("pictures", PAGES, "passages")
    plain = command.rank(*documents)
    made = command.index(*documents, "--precision", precision)
    assert made["computed"] == len(plain["results"]) and made["found"] == made["left_out"] == 0
    for name in ("pictures", "passages"):
        shutil.rmtree(place / name)
    (place / "howto.pdf").unlink()
    found = command.rank("--index", "pages.index")
    assert found["usage"] == plain["usage"] and found.keys() == plain.keys()
    assert by_document(found) == pytest.approx(by_document(plain), abs=ENGINE)
    assert [hit["rank"] for hit in found["results"]] == [hit["rank"] for hit in plain["results"]]
    assert len(command.rank("--index", "pages.index", "--top", 2)["results"]) == 2
    assert command.status("rank", "q", "--index", "pages.index", "--model", command.checkpoint) == 0
    assert "howto.pdf#page=19" in command.out


def test_only_what_changed_is_computed(place: Path, command: Command) -> None:
    count = len(list((place / "passages").iterdir()))
    assert command.index("passages")["computed"] == count
    (place / "passages" / "new.txt").write_text("something new", encoding="utf-8")
    next((place / "passages").glob("de-*")).write_text("etwas anderes", encoding="utf-8")
    made = command.index("passages")
    assert (made["computed"], made["found"]) == (2, count - 1)
    assert len(command.rank("--index", "pages.index")["results"]) == count + 1


def test_costs_are_said_before_and_after(place: Path, command: Command) -> None:
    model = ("--model", command.checkpoint)
    assert command.status("index", "pictures", "passages", "--to", "a.index", *model) == 0
    assert "16 documents at precision exact: about" in command.err and "free" in command.err
    assert "a.index: 16 computed in" in command.out
    assert "6 pages: " in command.out and "10 texts: " in command.out
    assert command.out.count(" a million") == 2
    expected = command.index("pictures", to="b.index")["bytes"]["page"]
    sizes = [path.stat().st_size for path in (place / "b.index" / "entries").glob("*/*")]
    assert expected["count"] == len(sizes)
    assert expected["mean"] == round(sum(sizes) / len(sizes))
    assert abs(expected["million"] - 1e6 * expected["mean"]) <= 1e6


def test_lines_of_two_standard_inputs_do_not_replace_each_other(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lines in (b"one\ntwo\n", b"three\ntwo\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))
        command.index("-")
    found = command.rank("--index", "pages.index")
    assert sorted(hit["document"] for hit in found["results"]) == ["one", "three", "two"]


def test_the_same_name_in_two_folders_is_two_documents(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        (place / folder).mkdir()
        (place / folder / "notes.txt").write_text(f"notes of {folder}", encoding="utf-8")
        monkeypatch.chdir(place / folder)
        command.index("notes.txt", to="../pages.index")
    found = command.rank("--index", "../pages.index")
    assert [hit["document"] for hit in found["results"]] == ["notes.txt", "notes.txt"]


def test_list_shows_documents_by_model(place: Path, command: Command) -> None:
    command.index("passages", "pictures/violin.png")
    command.index("passages", "--max-length", "2000")
    printed = command.answer("index", "--list", "pages.index")
    assert printed["precision"] == "exact"
    assert [len(made["documents"]) for made in printed["models"]] == [11, 10]
    assert [made["settings"]["max_length"] for made in printed["models"]] == [10_240, 2000]
    violin = printed["models"][0]["documents"][-1]
    assert violin["document"] == "pictures/violin.png"
    assert violin["tokens"] > 20 and violin["bytes"] > 1000 and not violin["truncated"]
    assert command.status("index", "--list", "pages.index") == 0
    assert command.out.count("passages/") == 20 and "max_length 2000" in command.out


@pytest.mark.usefixtures("one_thread")
def test_verify_finds_and_removes_damage_and_indexing_mends_it(
    place: Path, command: Command
) -> None:
    command.index("pictures")
    truth = command.rank("--index", "pages.index")
    assert command.answer("index", "--verify", "pages.index")["damaged"] == {}
    entry = sorted((place / "pages.index" / "entries").glob("*/*"))[0]
    content = bytearray(entry.read_bytes())
    content[-5] ^= 4
    entry.write_bytes(content)
    warned = command.rank("--index", "pages.index")
    assert "warning: " in command.err and "is damaged" in command.err
    assert [hit["document"] for hit in warned["results"]] == [
        hit["document"] for hit in truth["results"]
    ]
    assert command.status("index", "--verify", "pages.index") == 1
    assert "its checksum does not match" in command.out and "1 damaged" in command.out
    assert command.index("pictures")["computed"] == 1
    assert command.status("index", "--verify", "pages.index") == 0
    assert command.rank("--index", "pages.index") == truth


def test_prune_says_what_it_frees(place: Path, command: Command) -> None:
    command.index("passages")
    command.index("passages", "--max-length", "2000")
    next((place / "passages").glob("de-*")).unlink()
    pruned = command.answer("index", "--prune", "pages.index")
    assert (pruned["gone"], pruned["other_models"], pruned["entries"]) == (2, 0, 2)
    assert pruned["num_bytes"] > 1000
    assert "with --model" not in command.out
    assert command.status("index", "--prune", "pages.index") == 0
    assert "2 models or settings" in command.err and command.out.endswith("0 bytes freed\n")
    model = ("--model", command.checkpoint, "--max-length", "2000")
    assert command.answer("index", "--prune", "pages.index", *model)["other_models"] == 9
    assert len(command.answer("index", "--list", "pages.index")["models"]) == 1


def test_a_pdf_that_lost_pages_loses_them_in_the_index_too(place: Path, command: Command) -> None:
    command.index("howto.pdf#pages=1-2", "howto.pdf#page=20")
    shutil.copy(one_page_pdf(place), place / "howto.pdf")
    assert command.answer("index", "--prune", "pages.index")["gone"] == 2
    (made,) = command.answer("index", "--list", "pages.index")["models"]
    assert [held["document"] for held in made["documents"]] == ["howto.pdf#page=1"]


def one_page_pdf(place: Path) -> Path:
    import PIL.Image

    PIL.Image.new("RGB", (60, 80), "white").save(place / "one.pdf")
    return place / "one.pdf"


def test_what_cannot_be_read_is_left_out(place: Path, command: Command) -> None:
    (place / "bad.png").write_bytes(b"\x89PNG no more")
    (place / "good.txt").write_text("fine", encoding="utf-8")
    arguments = ("bad.png", "good.txt", "gone.txt", "--to", "p.index", "--model")
    assert command.status("index", *arguments, command.checkpoint, "--strict") == 1
    assert "left out: bad.png" in command.err and "left out: gone.txt" in command.err
    assert "1 computed" in command.out and "2 left out" in command.out
    assert command.status("index", "bad.png", "--to", "p.index", "--model", command.checkpoint) == 1
    assert "None of 1 documents" in command.err


def test_an_index_of_another_setting_says_what_differs(place: Path, command: Command) -> None:
    command.index("passages")
    model = ("--model", command.checkpoint, "--max-length", "3000")
    assert command.status("rank", "q", "--index", "pages.index", *model) == 1
    assert "max_length 10240 there, 3000 here" in command.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("index", "--list", "nowhere"), "nowhere is not an index"),
        (("index", "--verify", "passages"), "passages is not an index"),
        (("index", "pictures", "--to", "passages"), "other things than an index"),
        (("index", "pictures", "--to", "p.index", "--precision", "int4"), "exact, int8, features"),
        (("rank", "q", "--index", "nowhere"), "sightrank index DOCUMENT... --to nowhere"),
    ],
)
def test_errors_say_what_to_do(
    place: Path, command: Command, arguments: tuple[str, ...], said: str
) -> None:
    model = () if {"--list", "--verify"} & set(arguments) else ("--model", command.checkpoint)
    assert command.status(*arguments, *model) == 1
    assert said in command.err and command.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["index", "a.txt"],
        ["index", "a.txt", "--list", "x"],
        ["index", "--list", "x", "--prune", "x"],
        ["rank", "q", "a.txt", "--index", "x"],
    ],
)
def test_wrong_usage_is_status_2(command: Command, arguments: list[str]) -> None:
    assert command.status(*arguments) == 2
    assert command.out == "" and "Usage" in command.err


def test_help_opens_with_examples(command: Command) -> None:
    assert command.status("index", "--help") == 0
    assert command.out.partition("─")[0].count("sightrank index") >= 4


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (23_400_000, "23.4 MB"), (5 * 10**18, "5000.0 PB")],
)
def test_bytes_are_readable(count: int, shown: str) -> None:
    assert readable_bytes(count) == shown
