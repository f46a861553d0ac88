"""A training that is killed goes on to the same curve, and two processes take the steps of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightrank.errors import OptionError
from sightrank.train.loop import train
from tests.tolerances import GRADIENT
from tests.train.runs import HEAD_STEPS, STEPS, quiet, raw, settings, write_groups, write_toml

ROOT = Path(__file__).parents[2]


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
    """SIGKILL as soon as `step` has been logged."""
    until = time.monotonic() + 120
    while not any(line["step"] >= step for line in curve(folder)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A training that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    write_groups(folder / "train.jsonl", 10)
    train(settings(folder, checkpoint), quiet)
    return folder


def test_killed_and_resumed_gives_the_same_curve(
    tmp_path: Path, checkpoint: Path, whole: Path
) -> None:
    write_groups(tmp_path / "train.jsonl", 10)
    kill_at(start([], tmp_path, checkpoint), tmp_path, 3)
    killed = curve(tmp_path)
    assert killed and killed[-1]["step"] < STEPS + HEAD_STEPS
    assert not (tmp_path / "out" / "config.json").exists()
    finished = train(settings(tmp_path, checkpoint), quiet)
    assert curve(tmp_path) == curve(whole)
    assert finished.steps == STEPS + HEAD_STEPS
    one, two = (load_file(each / "out" / "model.safetensors") for each in (tmp_path, whole))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stop_in_the_second_stage_goes_on_there(
    tmp_path: Path, checkpoint: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightrank.train.record import Record

    write_groups(tmp_path / "train.jsonl", 10)
    save = Record.save_state

    def stop(self: Record, state: dict[str, Any]) -> None:
        save(self, state)
        if state["stage"] == "head":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Record, "save_state", stop)
        train(settings(tmp_path, checkpoint), quiet)
    seen: list[int] = []
    train(settings(tmp_path, checkpoint), quiet, lambda step, _: seen.append(step))
    assert seen == [STEPS + HEAD_STEPS]
    assert curve(tmp_path) == curve(whole)


def test_a_finished_run_is_not_run_again(whole: Path, checkpoint: Path) -> None:
    seen: list[int] = []
    train(settings(whole, checkpoint), quiet, lambda step, _: seen.append(step))
    assert not seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": {"name": "ranknet"}}, "other settings"),
        ({"data": {"valid": []}}, "other settings"),
    ],
)
def test_another_run_does_not_go_into_its_folder(
    whole: Path, checkpoint: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        train(settings(whole, checkpoint, **change), quiet)


def test_other_data_do_not_go_on_in_its_folder(
    tmp_path: Path, whole: Path, checkpoint: Path
) -> None:
    write_groups(tmp_path / "train.jsonl", 11)
    config = settings(tmp_path, checkpoint)
    import shutil

    shutil.copytree(whole / "out", tmp_path / "out")
    run = tmp_path / "out" / "training" / "run.json"
    facts = json.loads(run.read_text()) | {"settings_digest": config.digest()}
    run.write_text(json.dumps(facts))
    with pytest.raises(OptionError, match="other data"):
        train(config, quiet)


def test_a_model_of_other_making_is_not_written_over(tmp_path: Path, checkpoint: Path) -> None:
    write_groups(tmp_path / "train.jsonl", 10)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(OptionError, match="did not write"):
        train(settings(tmp_path, checkpoint), quiet)
    assert (tmp_path / "out" / "config.json").read_text() == "{}"


def test_two_processes_take_the_steps_of_one(tmp_path: Path, checkpoint: Path, whole: Path) -> None:
    write_groups(tmp_path / "train.jsonl", 10)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    process = start(launcher, tmp_path, checkpoint)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert output.count("steps, loss") == 1, "one of them prints"
    assert json.loads((tmp_path / "out/training/run.json").read_text())["processes"] == 2
    found, expected = curve(tmp_path), curve(whole)
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert one.keys() == two.keys()
        for name, value in two.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-4)
            assert one[name] == same, name
    ours, theirs = (load_file(each / "out" / "model.safetensors") for each in (tmp_path, whole))
    for name, weight in theirs.items():
        off = (ours[name] - weight).abs().max()
        assert off <= 10 * GRADIENT, f"{name}: {off:.1e}"


def test_processes_without_gpus_do_not_say_that_they_share_the_weights(
    tmp_path: Path, checkpoint: Path
) -> None:
    write_groups(tmp_path / "train.jsonl", 10)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    process = start(launcher, tmp_path, checkpoint, train={"fsdp": True})
    _, errors = process.communicate(timeout=200)
    assert process.returncode != 0
    assert "train.fsdp is true, and accelerate shards weights among GPUs alone." in errors
