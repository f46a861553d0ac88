"""The reference is what the commands say, and the examples with which they open do what they show."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from PIL import Image, ImageDraw

from sightrank.cli import app
from sightrank.cli.reference import PLACE, Command, commands, reference
from tests.command import status

ROOT = Path(__file__).parents[2]
COMMANDS = commands()
ELSEWHERE = (
    "jinaai/", "http+jina:", "cross-encoder:", "--suite", "postgresql:", "sightrank serve",
    "sightrank train", "torchrun", "apt-get", "dpkg-deb", "key_5f0c6d1e9a42",
)  # fmt: skip
"""Examples with one of these need a hub, a server, other software or hours: they are only parsed."""


def test_the_committed_reference_is_what_the_commands_say() -> None:
    written = (ROOT / PLACE).read_text(encoding="utf-8")
    assert written == reference(), "write it anew: make docs"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.path)
def test_help_opens_with_examples(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.paragraphs[1].startswith("\b"), "examples follow the first sentence"
    assert command.examples[0].find(command.path) >= 0
    assert status(*command.path.split()[1:], "--help") == 0
    before_options = capsys.readouterr().out.partition("─")[0]
    assert command.path in before_options.partition("Usage:")[2].partition("\n")[2]


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of every `sightrank` in a line of shell."""
    for part in re.split(r" \| |\$\(|\)$", line):
        words = shlex.split(part)
        if "sightrank" in words:
            yield words[words.index("sightrank") + 1 :]


EXAMPLES = [line for command in COMMANDS for line in command.examples]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_name_what_exists(line: str) -> None:
    found = list(calls(line))
    assert found or line.startswith(("apt-get", "dpkg-deb"))
    for arguments in found:
        declared = typer.main.get_command(app)
        while children := getattr(declared, "commands", None):
            declared = children[arguments.pop(0)]
        declared.make_context("sightrank", arguments)  # raises where an option is not known


class Terminal(io.StringIO):
    """A standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def office(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the files of which the examples speak, all of them small."""
    place = tmp_path_factory.mktemp("office")
    pages = [picture(number) for number in range(5)]
    for name in ("report.pdf", "contract.pdf"):
        pages[0].save(place / name, save_all=True, append_images=pages[1:])
    for folder in ("pictures", "photos", "drawings", "scans", "new", "notes"):
        (place / folder).mkdir()
        picture(len(folder)).save(place / folder / "a.png")
    for name in ("sketch.png", "fox.jpg", "page.png"):
        picture(9).save(place / name)
    (place / "notes" / "museum.txt").write_text("The museum opens at nine.\n")
    (place / "notes" / "tea.txt").write_text("Tea is at five.\n")
    for name in ("my-model", "mine"):
        shutil.copytree(checkpoint, place / name)
    labelled = [
        {"query": f"q{n // 5}", "logit": n % 5, "relevant": int(n % 5 > 2)} for n in range(200)
    ]
    write_lines(place / "labels.jsonl", labelled)
    write_lines(
        place / "groups.jsonl",
        [{"query": f"q{n}", "positives": [f"the {n} cats"], "negatives": []} for n in range(3)],
    )
    write_lines(place / "corpus.jsonl", [{"_id": f"d{n}", "text": f"q{n} dogs"} for n in range(6)])
    labelled_sets(place)
    (place / "pairs").mkdir()
    for name in ("one", "two"):
        (place / "pairs" / f"{name}.txt").write_text(f"This is page {name}.")
        picture(len(name)).save(place / "pairs" / f"{name}.png")
    return place


def picture(seed: int) -> Image.Image:
    image = Image.new("RGB", (84, 112), "white")
    ImageDraw.Draw(image).rectangle((10, 10 + seed, 60, 30 + 7 * seed), fill="black")
    return image


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def labelled_sets(place: Path) -> None:
    for name in ("sets/scifact", "sets/cranfield", "sets/pages-en-en", "pages"):
        folder = place / name
        folder.mkdir(parents=True)
        documents = ["the cat sat", "a dog and a cat", "birds of the sea"]
        write_lines(
            folder / "corpus.jsonl",
            [{"_id": f"d{n}", "text": text} for n, text in enumerate(documents)],
        )
        write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "cat and dog"}])
        (folder / "qrels.tsv").write_text("q\td1\t2\nq\td0\t1\n")
        for run in ("run.trec", "run.bm25.trec", "run.random.trec"):
            (folder / run).write_text("q Q0 d2 1 3 x\nq Q0 d1 2 2 x\nq Q0 d0 3 1 x\n")
    (place / "pdf").mkdir()


FIRST = ("sightrank index", "sightrank calibrate")
RUNNING = sorted(
    (line for line in dict.fromkeys(EXAMPLES) if not any(each in line for each in ELSEWHERE)),
    key=lambda line: not line.startswith(FIRST),  # they write what others read
)


def test_examples_do_what_they_show(
    office: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With a tiny model in nano's place, one after the other."""
    monkeypatch.chdir(office)
    monkeypatch.setattr("sightrank.weights.NANO", checkpoint)
    monkeypatch.setenv("SIGHTRANK_DATABASE", str(office / "keys.sqlite"))
    assert len(RUNNING) > 30
    for line in RUNNING:
        (office / "train.jsonl").unlink(missing_ok=True)  # examples of one command write it anew
        before, pipe, _ = line.rpartition(" | ")
        typed = io.StringIO(shell(before)) if pipe else Terminal()
        typed.buffer = io.BytesIO(typed.getvalue().encode())  # type: ignore[misc]
        monkeypatch.setattr("sys.stdin", typed)
        for arguments in calls(line):
            expanded = [found for each in arguments for found in globbed(office, each)]
            code = status(*expanded)
            assert code == 0, f"{line}\n{capsys.readouterr().err}"
    assert {"heat.png", "report.html", "cost.html", "calibration.json", "reliability.svg"} <= {
        path.name for path in office.iterdir()
    }


def shell(line: str) -> str:
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout


def globbed(folder: Path, word: str) -> list[str]:
    """As a shell does it: the files that a pattern matches, or the word."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob(word) if "*" in word)
    return found or [word]
