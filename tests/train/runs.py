"""Tiny trainings for the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from sightrank.train.settings import Settings

ROOT = Path(__file__).parents[2]
STEPS, HEAD_STEPS = 6, 3
TINY: dict[str, dict[str, Any]] = {
    "model": {},
    "data": {"train": "train.jsonl", "valid": "train.jsonl", "shuffle": 5},
    "loss": {"name": "infonce"},
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "train": {
        "to": "out",
        "steps": STEPS,
        "groups": 2,
        "accumulate": 2,
        "learning_rate": 3e-3,
        "head_learning_rate": 3e-3,
        "save_every": 2,
        "validate_every": 3,
        "log_every": 1,
        "device": "cpu",
    },
    "head": {"steps": HEAD_STEPS, "learning_rate": 1e-3},
}
"""A configuration; `settings` lays others over it."""


def settings(folder: Path, start: Path, **sections: dict[str, Any]) -> Settings:
    """TINY with changes, its paths in `folder`."""
    return Settings.from_dict(raw(start, **sections), folder)


def raw(start: Path, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    changed = {name: {**own, **sections.get(name, {})} for name, own in TINY.items()}
    changed["model"]["start"] = str(start)
    return changed


def write_toml(path: Path, content: dict[str, dict[str, Any]]) -> Path:
    """JSON's strings, numbers, lists and booleans are TOML's too."""
    lines = []
    for name, section in content.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_groups(path: Path, count: int, negatives: int = 3) -> Path:
    """Short texts; the relevant one repeats the query's word."""
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(count)]
    rows = [
        {
            "query": word,
            "positives": [word],
            "negatives": [words[(at + 1 + k) % count] for k in range(negatives)],
            "scores": [4.0, *[-1.0 - k for k in range(negatives)]],
        }
        for at, word in enumerate(words)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def quiet(_line: str) -> None:
    """Say nothing."""


def start(
    arguments: list[str], folder: Path, checkpoint: Path, **sections: Any
) -> subprocess.Popen[str]:
    """`sightrank train` in another process, with its configuration written to `folder`."""
    path = write_toml(folder / "config.toml", raw(checkpoint, **sections))
    return subprocess.Popen(
        [sys.executable, "-m", *arguments, "sightrank", "train", str(path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def curve(folder: Path) -> list[dict[str, Any]]:
    path = folder / "out" / "training" / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill_at(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    """SIGKILL for all processes of a run as soon as `step` has been logged."""
    until = time.monotonic() + 120
    while not any(line["step"] >= step for line in curve(folder)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)
    launched = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    for each in launched:
        each.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
