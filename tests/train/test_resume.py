"""A training that is killed goes on to the same curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sightrank.errors import OptionError
from sightrank.train.loop import train
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

pytestmark = pytest.mark.usefixtures("one_thread")  # as the processes they start


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
