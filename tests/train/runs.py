"""Tiny trainings for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightrank.train.settings import Settings

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
