"""Two processes take the steps of one, each with all weights or with a share of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sightrank.train.loop import train
from tests.tolerances import GRADIENT
from tests.train.conftest import picture
from tests.train.runs import (
    HEAD_STEPS,
    STEPS,
    curve,
    kill_at,
    quiet,
    settings,
    start,
    write_groups,
)

TWO = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
SHARDED: dict[str, Any] = {"train": {"fsdp": True}}
FULL: dict[str, Any] = {"language": "full"}
SEEING: dict[str, Any] = {"language": "frozen", "vision": True, "merger": True}
KINDS: dict[str, dict[str, Any]] = {
    "adapters": {},
    "vision": {"model": SEEING},
    "sharded adapters": SHARDED,
    "all of the language model": {"model": FULL},
    "sharded, all of the language model": {"model": FULL, **SHARDED},
    "sharded, checkpointed": {"train": {"fsdp": True, "checkpointing": True, "accumulate": 4}},
    "sharded, vision": {"model": SEEING, **SHARDED},
}


def write(folder: Path, kind: str) -> None:
    """Ten groups; where the vision tower learns, every other batch has images."""
    write_groups(folder / "train.jsonl", 10)
    if "vision" not in kind:
        return
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for at, row in enumerate(rows):
        if at % 4 < 2:
            picture(at, 56, 56).save(folder / f"{at}.png")
            row["positives"] = [{"image": f"{at}.png"}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(folder: Path, checkpoint: Path, **sections: Any) -> dict[str, Any]:
    """Train in two processes; what the run says of itself."""
    process = start(TWO, folder, checkpoint, **sections)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("steps, loss") == 1, "one of them prints"
    facts: dict[str, Any] = json.loads((folder / "out/training/run.json").read_text())
    assert facts["processes"] == 2
    return facts


def off(one: Path, two: Path) -> float:
    """The largest distance between matrices of two results, which have the same names.

    Of biases some have a gradient of 0 but for rounding (the last under InfoNCE, those of keys), and
    AdamW makes whole steps of that.
    """
    ours, theirs = (load_file(each / "out" / "model.safetensors") for each in (one, two))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    return max(
        float((ours[name].float() - theirs[name].float()).abs().max())
        for name in ours
        if not name.endswith(".bias")
    )


def assert_same_curve(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        for name, value in two.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-4)
            assert one[name] == same, name


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(tmp_path: Path, checkpoint: Path, kind: str) -> None:
    # A loss on which a shift of all scores counts: InfoNCE gives biases of the head gradients of 0
    # but for rounding, and AdamW makes whole steps of that, other ones on every processor.
    sections = {"loss": {"name": "bce"}, **KINDS[kind]}
    if "vision" in kind:
        sections |= {"data": {"shuffle": 0}}
    alone, both = tmp_path / "alone", tmp_path / "both"
    for folder in (alone, both):
        folder.mkdir()
        write(folder, kind)
    train(settings(alone, checkpoint, **sections), quiet)
    facts = run(both, checkpoint, **sections)
    assert facts["sharded"] == ("sharded" in kind)
    assert_same_curve(curve(both), curve(alone))
    assert off(both, alone) <= 10 * GRADIENT
    assert (both / "out/adapter").exists() == (alone / "out/adapter").exists()


def test_shares_keep_bfloat16_of_what_is_frozen(tmp_path: Path, checkpoint: Path) -> None:
    sections = {"train": {"fsdp": True, "precision": "bfloat16"}}
    alone, both = tmp_path / "alone", tmp_path / "both"
    for folder in (alone, both):
        folder.mkdir()
        write_groups(folder / "train.jsonl", 10)
    train(settings(alone, checkpoint, **sections), quiet)
    assert run(both, checkpoint, **sections)["sharded"]
    found, expected = ([each["loss"] for each in curve(f) if "loss" in each] for f in (both, alone))
    assert len(found) == STEPS + HEAD_STEPS
    assert found == pytest.approx(expected, rel=0.02)


def test_shares_that_are_killed_go_on_to_the_same_curve(tmp_path: Path, checkpoint: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_groups(folder / "train.jsonl", 10)
    run(whole, checkpoint, **SHARDED)
    kill_at(start(TWO, killed, checkpoint, **SHARDED), killed, 3)
    assert curve(killed)[-1]["step"] < STEPS + HEAD_STEPS
    run(killed, checkpoint, **SHARDED)
    assert curve(killed) == curve(whole)
    assert off(killed, whole) == 0


def test_shares_leave_nothing_to_the_run_that_follows(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightrank.train.launch import make_accelerator, release

    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    release(make_accelerator(settings(tmp_path, checkpoint, train={"fsdp": True})))
    assert "ACCELERATE_USE_FSDP" not in os.environ
