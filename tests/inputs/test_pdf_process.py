"""The process that reads PDFs: started once, replaced when it ends, and never left behind."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from sightrank.errors import SightrankError, TooLargeError, UnreadablePdfError
from sightrank.inputs import pdf, pdfium
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf_process import PdfProcess
from tests.inputs import bombs

ROOT = Path(__file__).parents[2]
LIMITS = FileLimits()
MakePdf = Callable[..., bytes]
posix = pytest.mark.skipif(os.name != "posix", reason="the system has no such signals")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[PdfProcess]:
    """One that no other test has used."""
    process = PdfProcess()
    monkeypatch.setattr(pdf, "_PROCESS", process)
    yield process
    process.close()


def run(code: str, *arguments: object, expected: int = 0, cwd: Path | None = None) -> str:
    """What a program prints that reads PDFs. `expected`: its exit status."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRELUDE + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
    )
    assert done.returncode == expected, done.stderr
    assert done.stderr == ""
    return done.stdout


PRELUDE = """
import os, signal, sys, threading, time
from contextlib import suppress
from pathlib import Path
from sightrank.errors import SightrankError
from sightrank.inputs import pdf
from sightrank.inputs.load import FileLimits
LIMITS, SOURCE = FileLimits(), Path(sys.argv[1])
"""


@pytest.fixture
def report(make_pdf: MakePdf, tmp_path: Path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(make_pdf(["one", "two", "three"]))
    return path


def gone(pid: int) -> bool:
    """Whether no process has this number, save one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def test_nothing_starts_before_it_is_asked(process: PdfProcess) -> None:
    assert process.pid is None
    with pytest.raises(SightrankError):
        pdf.page_count(b"", LIMITS)
    assert process.pid is None


def test_one_process_reads_many_files(process: PdfProcess, make_pdf: MakePdf) -> None:
    pids = set()
    for count in [1, 2, 3] * 20:
        assert pdf.page_count(make_pdf(["x"] * count), LIMITS) == count
        with pytest.raises(UnreadablePdfError):
            pdf.page_count(b"%PDF-1.4", LIMITS)
        pids.add(process.pid)
    assert len(pids) == 1


@linux
def test_a_process_is_not_kept_with_much_memory(
    process: PdfProcess, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.inputs.pdf_process._KEPT_BYTES", 80 << 20)
    assert pdf.page_count(report, LIMITS) == 3
    before = process.pid
    assert before is not None
    pdf.render_page(bombs.nested(5), 1, FileLimits(max_pdf_seconds=100), max_pixels=50_000)
    assert process.pid is None
    with pytest.raises(ChildProcessError):
        os.waitpid(before, os.WNOHANG)
    assert pdf.page_count(report, LIMITS) == 3
    assert process.pid is not None


def test_threads_get_their_own_answers(make_pdf: MakePdf) -> None:
    sources = [make_pdf([f"text {number}"] * number) for number in range(1, 9)]

    def read(number: int) -> bool:
        source = sources[number % 8]
        count = number % 8 + 1
        return (
            pdf.page_count(source, LIMITS) == count
            and pdf.page_text(source, count, LIMITS) == f"text {count}"
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(80)))


def test_bombs_of_some_threads_do_not_hurt_the_others(make_pdf: MakePdf) -> None:
    bomb, sound = bombs.drawn_by_itself(), make_pdf(["sound"])

    def read(number: int) -> str:
        if number % 4:
            return pdf.page_text(sound, 1, LIMITS)
        with pytest.raises(TooLargeError):
            pdf.render_page(bomb, 1, FileLimits(max_pdf_seconds=0.5), max_pixels=50_000)
        return "sound"

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(16))) == {"sound"}


@posix
def test_a_process_killed_between_two_questions_is_replaced(
    process: PdfProcess, report: Path
) -> None:
    assert pdf.page_count(report, LIMITS) == 3
    before = process.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    assert pdf.page_count(report, LIMITS) == 3
    assert process.pid not in (before, None)
    with pytest.raises(ChildProcessError):  # no zombie
        os.waitpid(before, os.WNOHANG)


@posix
def test_a_process_killed_at_work_is_an_error(process: PdfProcess, report: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        limits = FileLimits(max_pdf_seconds=100)
        drawing = pool.submit(
            pdf.render_page, bombs.drawn_by_itself(), 1, limits, max_pixels=50_000
        )
        while not drawing.done():
            wait_for(lambda: process.pid is not None or drawing.done())
            pid = process.pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        with pytest.raises(UnreadablePdfError, match=r"ended the process .*\(SIGKILL\)"):
            drawing.result()
    assert pdf.page_count(report, LIMITS) == 3


@posix
def test_a_process_that_stands_still_is_replaced(process: PdfProcess, report: Path) -> None:
    assert pdf.page_count(report, LIMITS) == 3
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    large = report.read_bytes() + b"%" * 1_000_000  # more than a pipe holds
    with pytest.raises(TooLargeError, match=r"Opening the PDF takes more than the 0\.3 seconds"):
        pdf.page_count(large, FileLimits(max_pdf_seconds=0.3))
    assert pdf.page_count(large, LIMITS) == 3


def test_the_users_folder_is_neither_searched_nor_kept(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("struct", "json", "pypdfium2"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not that one')")
    code = "for _ in 'ab': print(pdf.page_count(SOURCE, LIMITS)); os.chdir('/')"
    assert run(code, report, cwd=tmp_path).split() == ["3", "3"]
    monkeypatch.chdir(tmp_path)
    assert pdf.page_count(Path(report.name), LIMITS) == 3
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    assert pdf.page_count(Path("..") / report.name, LIMITS) == 3


def test_what_start_up_files_print_is_skipped(report: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('welcome!')")
    code = "sys.path.append(sys.argv[2]); os.environ['PYTHONPATH'] += os.pathsep + sys.argv[2]\n"
    assert run(code + "print(pdf.page_count(SOURCE, LIMITS))", report, tmp_path) == "3\n"


@pytest.mark.parametrize("executable", ["", "/nothing/there", "/bin/true"])
def test_no_process_is_an_error_that_says_what_to_try(
    executable: str, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(SightrankError, match=r"does not start: .*import pypdfium2"):
        pdf.page_count(report, LIMITS)


@linux
def test_nothing_is_left_when_the_program_ends(report: Path) -> None:
    pid = int(run("pdf.page_count(SOURCE, LIMITS); print(pdf._PROCESS.pid)", report))
    assert not Path(f"/proc/{pid}").exists()


@linux
def test_nothing_is_left_when_the_program_is_killed_or_ends_while_it_reads(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pdf"
    bomb.write_bytes(bombs.drawn_by_itself())
    code = """
limits = FileLimits(max_pdf_seconds=0.3)
def draw():
    with suppress(SightrankError):
        pdf.render_page(SOURCE, 1, limits, max_pixels=50_000)
threading.Thread(target=draw, daemon=True).start()
while pdf._PROCESS.pid is None: time.sleep(0.01)
print(pdf._PROCESS.pid)
sys.stdout.flush()
if sys.argv[2] == "killed": os.kill(os.getpid(), signal.SIGKILL)
"""
    for end in ("ends", "killed"):
        pid = int(run(code, bomb, end, expected=0 if end == "ends" else -signal.SIGKILL))
        wait_for(lambda: gone(pid))  # noqa: B023 - called at once


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_reads_with_its_own(report: Path) -> None:
    code = """
read = lambda: pdf.page_count(SOURCE, LIMITS) == 3
assert read()
before = pdf._PROCESS.pid
busy = [threading.Thread(target=lambda: [read() for _ in range(40)]) for _ in range(3)]
for thread in busy: thread.start()
for _ in range(5):
    forked = os.fork()
    if not forked:
        assert pdf._PROCESS.pid is None and read() and pdf._PROCESS.pid != before
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 7
for thread in busy: thread.join()
assert read() and pdf._PROCESS.pid == before
print("ok")
"""
    assert run(code, report) == "ok\n"


def test_a_spawned_process_reads_with_its_own(report: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(pdf.page_count, report, LIMITS).result() == 3


def test_the_process_loads_little() -> None:
    code = "import sightrank.inputs.pdfium, pypdfium2, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"torch", "numpy", "PIL", "tokenizers"} & set(done.stdout.split())


class Trickle(io.RawIOBase):
    """A pipe that takes and gives a few bytes at a time."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, data: object) -> int:
        piece = bytes(data)[: random.randint(1, 7)]  # type: ignore[call-overload]
        self.content += piece
        return len(piece)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self.content[: min(len(buffer), random.randint(1, 7))]
        buffer[: len(piece)] = piece
        self.content = self.content[len(piece) :]
        return len(piece)


def test_frames_come_through_whole_or_not_at_all() -> None:
    pipe = Trickle()
    frames: list[tuple[pdfium.Header, bytes]] = [({}, b""), ({"a": "\udcff", "b": 1.5}, b"x" * 999)]
    for header, body in frames:
        pdfium.write_frame(pipe, header, body)  # type: ignore[arg-type]
        assert pdfium.read_frame(pipe, 999) == (header, bytearray(body))  # type: ignore[arg-type]
    pdfium.write_frame(pipe, {}, b"x" * 999)  # type: ignore[arg-type]
    with pytest.raises(pdfium.FrameTooLargeError):
        pdfium.read_frame(pipe, 998)  # type: ignore[arg-type]
    for content, error in [(b"\xff" * 12, pdfium.FrameTooLargeError), (b"\0" * 11, EOFError)]:
        pipe.content = content
        with pytest.raises(error):
            pdfium.read_frame(pipe, 10)  # type: ignore[arg-type]
    pipe.content = b"\0\0\0\2" + b"\0" * 8 + b"[]"
    with pytest.raises(ValueError, match="no object"):
        pdfium.read_frame(pipe, 10)  # type: ignore[arg-type]
