"""A server in a process of its own, and what the system says of it: processor time and memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]


class NotStartedError(Exception):
    """A server that ended before it was ready."""


@dataclass(frozen=True)
class Process:
    """A running server: where it is, its process, its ranking route and its model's name."""

    url: str
    id: int
    rank: str
    model: str

    def seconds_by_thread(self) -> dict[int, float]:
        """Processor time of each thread so far; the process's own id is the first thread's."""
        times = {}
        for task in Path(f"/proc/{self.id}/task").iterdir():
            try:
                fields = (task / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            times[int(task.name)] = (int(fields[11]) + int(fields[12])) / TICKS
        return times

    def seconds(self) -> float:
        """Processor time of the process so far, threads that ended too."""
        fields = Path(f"/proc/{self.id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.id}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    ready: str,
    rank: str,
    model: str,
    program: str = sys.executable,
    patience: float = 180.0,
) -> Iterator[Process]:
    """A server that is ready; "{port}" among `arguments` is the port. Raises NotStartedError."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, *(argument.replace("{port}", str(port)) for argument in arguments)]
    settings = {**os.environ, **environment}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=log
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(process, url + ready, time.monotonic() + patience, log)
            yield Process(url, process.pid, rank, model)
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], url: str, until: float, log: IO[bytes]) -> None:
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    log.seek(0)
    said = log.read().decode("utf-8", "replace").splitlines()
    raise NotStartedError(" / ".join(said[-3:]) or f"{url} did not answer")


def machine_seconds() -> tuple[float, float]:
    """Processor seconds of the whole machine so far: (at work, at work or idle)."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    times = [int(field) / TICKS for field in fields]
    return sum(times) - times[3] - times[4], sum(times)
