"""A dry run: no weights are read, bad data are named, the figures hang together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sightrank.train.dry_run import Machine, dry_run
from sightrank.train.settings import Settings
from tests.command import status
from tests.train.runs import raw, write_groups, write_toml

QWEN = "Qwen/Qwen2-VL-2B-Instruct"
TEXT, VISION, HEAD = 1_543_714_304, 665_271_296, 2_362_369
"""Weights of Qwen2-VL-2B without its unused vocabulary projection, and of m0's head."""


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    write_groups(tmp_path / "train.jsonl", 20)
    given = raw(Path(QWEN), train={"precision": "bfloat16"})
    config = Settings.from_dict(given, tmp_path)
    return dry_run(config, Machine(24 * 10**9, 50e12))


def test_m0s_shape_is_judged_without_its_weights(report: dict[str, Any]) -> None:
    found = report["parameters"]
    assert found["embeddings"] + found["language"] == TEXT
    assert found["vision"] + found["merger"] == VISION
    assert found["head"] == HEAD
    assert found["trained"] == found["adapters"] + HEAD
    assert found["total"] == found["trained"] + found["frozen"]
    assert report["step"]["tokenizer"] == "nano"


def test_time_memory_and_groups_hang_together(report: dict[str, Any]) -> None:
    step, time, memory = report["step"], report["time"], report["memory"]
    assert time["seconds"] == pytest.approx(step["flops"] * time["steps"] / 50e12, abs=0.1)
    plain, less = memory["as_it_is"], memory["checkpointing"]
    assert less["activations"] < plain["activations"]
    assert 1 <= plain["most_groups"] < less["most_groups"]
    assert (plain["chosen"], less["chosen"]) == (True, False)
    parts = ("weights", "gradients", "optimizer", "activations", "workspace")
    assert plain["total"] == sum(plain[part] for part in parts)
    assert plain["fits"] is (plain["total"] <= 24 * 10**9)


def test_the_command_needs_no_weights_and_writes_nothing(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = tmp_path / "shape"
    shape.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(checkpoint / name, shape / name)
    write_groups(tmp_path / "train.jsonl", 9)
    path = write_toml(tmp_path / "a.toml", raw(shape))
    assert status("train", path, "--dry-run", "--gpu", "H100", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory"]["given"] == 80 * 10**9
    assert report["time"]["flops_a_second"] == pytest.approx(0.4 * 989e12)
    assert report["step"]["tokenizer"] == str(shape)
    assert status("train", path, "--dry-run", "--gpu-memory", "1MB") == 0
    printed = capsys.readouterr().out
    assert "does not fit into 1.0 MB; never" in printed and "hours" not in printed
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_said(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_groups(tmp_path / "train.jsonl", 9)
    path = write_toml(tmp_path / "a.toml", raw(checkpoint))
    assert status("train", path, "--dry-run", "--gpu", "h1000") == 1
    assert "Known: l4" in capsys.readouterr().err
    assert status("train", path, "--gpu", "h100") == 1
    assert "belong to --dry-run" in capsys.readouterr().err
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"query": "q"}\n')
    assert status("train", path, "--dry-run") == 1
    assert "train.jsonl, line 10" in capsys.readouterr().err
