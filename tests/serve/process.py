"""`sightrank serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """Where it is reached, and its process."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(
    checkpoint: Path, *options: str, log: int | IO[bytes] = subprocess.DEVNULL
) -> Iterator[Server]:
    """A server that is ready, on a free port; `log` takes its standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "sightrank", "serve", "--port", port, *options]
    command += ["--model", str(checkpoint), "--device", "cpu", "--memory", "1GiB"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as process:
        server = Server(f"http://127.0.0.1:{port}", process)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            process.terminate()


def _wait_until_ready(server: Server) -> None:
    while server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server ended before it was ready")
