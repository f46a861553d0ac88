"""What `sightrank rank` says about files, models and devices that it cannot use."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from sightrank.inputs.load import FileLimits
from tests.command import status
from tests.inputs import bombs

ROOT = Path(__file__).parents[2]
RED = PIL.Image.new("RGB", (60, 40), "red")
SHORT = FileLimits(max_pdf_seconds=1)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _png() -> bytes:
    buffer = io.BytesIO()
    RED.save(buffer, "PNG")
    return buffer.getvalue()


def _strip(path: Path) -> None:
    PIL.Image.new("RGB", (3000, 10)).save(path)


Make = Callable[[Path], object]
BAD: dict[str, tuple[Make, str, str]] = {
    # name -> how to make it, what is said, the next step
    "empty.png": (lambda p: p.write_bytes(b""), "has 0 bytes", "Leave it out"),
    "empty.txt": (lambda p: p.write_bytes(b""), "has 0 bytes", "Leave it out"),
    "blank.md": (lambda p: p.write_text(" \n"), "white space", "give it content"),
    "cut.png": (lambda p: p.write_bytes(_png()[:60]), "truncated or damaged", "viewer"),
    "junk.jpg": (lambda p: p.write_bytes(b"junk"), "no image of a known format", "PNG"),
    "pdf.png": (lambda p: p.write_bytes(b"%PDF-1.4\n"), "is a PDF", "Document.pdf"),
    "strip.png": (_strip, "allowed are 200 times", "Crop it"),
    "huge.png": (_sparse, "allowed are 209,715,200", "smaller"),
    "huge.pdf": (_sparse, "allowed are 209,715,200", "smaller"),
    "huge.txt": (_sparse, "allowed are 10,485,760", "smaller"),
    "cut.pdf": (lambda p: p.write_bytes(b"%PDF-1.7\n1 0 obj"), "damaged or is none", "viewer"),
    "latin.txt": (lambda p: p.write_bytes(b"caf\xe9"), "not UTF-8", "Save it as UTF-8"),
    "zip.txt": (lambda p: p.write_bytes(b"PK\3\4\0\0"), "zero bytes", "suffix"),
    "dangling.txt": (lambda p: p.symlink_to("nowhere"), "does not exist", "Check the path"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_reason_and_the_next_step(
    name: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, says, step = BAD[name]
    make(tmp_path / name)
    (tmp_path / "good.txt").write_text("fine")
    arguments = ("rank", "q", tmp_path / name, tmp_path / "good.txt", "--model", checkpoint)
    assert status(*arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert [Path(hit["document"]).name for hit in json.loads(out)["results"]] == ["good.txt"]
    what, next_step = err.rstrip().splitlines()
    assert what.startswith("left out: ") and str(tmp_path / name) in what and says in what
    assert step in next_step
    assert status(*arguments, "--strict") == 1


def test_a_pdf_that_never_ends_is_left_out(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sightrank.inputs.segments.FileLimits", lambda: SHORT)
    (tmp_path / "bomb.pdf").write_bytes(bombs.drawn_by_itself())
    (tmp_path / "good.txt").write_text("fine")
    assert status("rank", "q", tmp_path, "--model", checkpoint, "--json") == 0
    out, err = capsys.readouterr()
    assert [Path(hit["document"]).name for hit in json.loads(out)["results"]] == ["good.txt"]
    what, step = err.rstrip().splitlines()
    assert "bomb.pdf: page 1: Drawing takes more than the 1 seconds" in what
    assert "max_pdf_seconds" in step


def test_pages_are_documents_of_their_own_or_one(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.pdf"
    pages = [PIL.Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue", "teal")]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    tokens = {}
    for written, whole, names in [
        ("", [], ["#page=1", "#page=2", "#page=3", "#page=4"]),
        ("#page=3", [], ["#page=3"]),
        ("#pages=2-3", [], ["#page=2", "#page=3"]),
        ("", ["--whole"], [""]),
        ("#pages=2-3", ["--whole"], ["#pages=2-3"]),
    ]:
        arguments = ("rank", "q", f"{path}{written}", *whole, "--model", checkpoint, "--json")
        assert status(*arguments) == 0
        printed = json.loads(capsys.readouterr().out)
        found = sorted(hit["document"] for hit in printed["results"])
        assert found == [f"{path}{name}" for name in names]
        tokens[written, bool(whole)] = printed["usage"]["total_tokens"]
    assert tokens["", True] > tokens["#pages=2-3", True] > tokens["#page=3", False]


def test_options_reach_the_model(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.png"
    PIL.Image.new("RGB", (400, 400), "red").save(path)

    def rank(*options: object) -> dict[str, object]:
        assert status("rank", "q", path, "--model", checkpoint, "--json", *options) == 0
        printed: dict[str, object] = json.loads(capsys.readouterr().out)
        return printed

    usual, small = rank(), rank("--max-pixels", 10_000)
    assert usual["model"] == str(checkpoint)
    assert usual["usage"] != small["usage"]
    assert rank("--dtype", "bfloat16")["results"] != usual["results"]
    assert rank("--device", "cpu", "--dtype", "float32") == usual


def test_an_image_query_that_is_none(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.png").write_bytes(b"junk")
    (tmp_path / "d.txt").write_text("fine")
    for name in ("q.png", "gone.png"):
        query = tmp_path / name
        arguments = ("rank", "--query-image", query, tmp_path / "d.txt", "--model", checkpoint)
        assert status(*arguments) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and str(query) in err
        assert len(err.splitlines()) == 2


def test_an_empty_query_is_an_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.txt").write_text("fine")
    assert status("rank", " ", tmp_path, "--model", checkpoint) == 1
    assert "holds nothing but white space" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:3"])
def test_an_absent_device_is_named_with_those_present(
    device: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    (tmp_path / "d.txt").write_text("fine")
    assert status("rank", "q", tmp_path, "--model", checkpoint, "--device", device) == 1
    err = capsys.readouterr().err
    assert err == f"error: device is '{device}'.\n  Present on this machine: cpu.\n"


def test_a_hub_that_cannot_be_reached_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("fine")
    environment = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "sightrank", "rank", "q", str(tmp_path / "d.txt")]
    done = subprocess.run(
        [*command, "--model", "jinaai/jina-reranker-m0"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" not in done.stderr
    licence, what, step = done.stderr.rstrip().splitlines()
    assert "CC-BY-NC-4.0" in licence
    assert what.startswith("error: jinaai/jina-reranker-m0 ") and "could not be fetched" in what
    assert "give its path" in step


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_stderr_for_people_only(
    terminal: bool,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    else:
        monkeypatch.delenv("FORCE_COLOR", raising=False)
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("fine")
    assert status("rank", "q", tmp_path, "--model", checkpoint, "--json") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["results"]) == 3
    assert ("ranking" in err and "3/3" in err) if terminal else err == ""
