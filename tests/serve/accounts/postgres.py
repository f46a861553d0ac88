"""A PostgreSQL cluster of one's own, from Debian's binaries, reached by a socket in its folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest

NUMBERS = count()
SETTINGS = (
    "listen_addresses=''",
    "fsync=off",  # the tests stop it in order; what it does with the disk is its own affair
    "max_connections=40",
    "shared_buffers=16MB",
)


@dataclass(frozen=True)
class Cluster:
    binaries: Path
    folder: Path
    as_user: tuple[str, ...]

    def start(self) -> None:
        options = " ".join(f"-c {setting}" for setting in (*SETTINGS, self._sockets))
        self._run("pg_ctl", "start", "-w", "-l", f"{self.folder}/log", "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is a crash: connections break off, and the next start recovers."""
        self._run("pg_ctl", "stop", "-w", "-m", mode)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test{next(NUMBERS)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def execute(self, command: str) -> None:
        with psycopg.connect(self.administration, autocommit=True) as connection:
            connection.execute(command)

    @property
    def administration(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    @property
    def _sockets(self) -> str:
        return f"unix_socket_directories={self.folder}"

    def initialise(self) -> None:
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8")

    def _run(self, name: str, *arguments: str) -> None:
        program = str(self.binaries / name)
        command = [*self.as_user, program, *arguments, "-D", str(self.folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster, removed afterwards. Skips the test where there are no binaries."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))  # short: a socket's path has 107 characters
    made = Cluster(binaries, folder, _unprivileged(folder))
    try:
        made.initialise()
        made.start()
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.stop("immediate")
        shutil.rmtree(folder)


def _binaries() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _unprivileged(folder: Path) -> tuple[str, ...]:
    """What runs a command as a user without rights: the server refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    name = next(user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
    user = pwd.getpwnam(name)
    os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
