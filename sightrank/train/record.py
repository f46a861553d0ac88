"""What a training leaves in its folder while it runs: log, states to go on from, plot, TensorBoard.

Everything lies in `training/` below the folder of the result.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from sightrank.errors import OptionError
from sightrank.train.stages import State, read_state

RUN, LOG, STATE, PLOT, BOARD = "run.json", "log.jsonl", "state.pt", "curve.png", "tensorboard"


class Record:
    """The folder `training/`. Only the main process writes."""

    def __init__(self, result: Path) -> None:
        self.folder = result / "training"
        self._board: Any = None

    def begin(self, facts: dict[str, Any]) -> None:
        """Take the folder for this run, or find that it holds this very run already.

        Raises OptionError where it holds another, or a model of some other making.
        """
        path = self.folder / RUN
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            for key in ("settings_digest", "data_digest", "start_fingerprint"):
                if found.get(key) != facts[key]:
                    what = key.rpartition("_")[0]
                    raise OptionError(
                        f"{self.folder.parent} holds a run with other {what}.",
                        "Name another folder as train.to, or remove this one.",
                    )
            return
        if (self.folder.parent / "config.json").exists():
            raise OptionError(
                f"{self.folder.parent} holds a model that this command did not write.",
                "Name another folder as train.to.",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(path, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n")

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the facts again with what is known at the end; the states are not needed any more."""
        self.close()
        _replace(
            self.folder / RUN, json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n"
        )
        for path in self.folder.glob("*.pt"):
            path.unlink()

    @property
    def finished(self) -> dict[str, Any] | None:
        """The facts of a run that has ended."""
        path = self.folder / RUN
        facts: dict[str, Any] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
        return facts if "result" in facts else None

    # States

    def save_state(self, state: dict[str, Any]) -> None:
        """A state to go on from; a kill leaves this one or the one before, whole."""
        _save(state, self.folder / STATE)

    def state(self, stage: str) -> dict[str, Any] | None:
        """The last state of this stage."""
        path = self.folder / STATE
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state if state["stage"] == stage else None

    def save_result(self, stage: str, trained: State) -> None:
        """What a whole stage trained."""
        _save(trained, self.folder / f"{stage}.pt")

    def has(self, stage: str) -> bool:
        """Whether a stage has ended."""
        return (self.folder / f"{stage}.pt").exists()

    def result(self, stage: str) -> State | None:
        """What a stage trained, if it has ended."""
        path = self.folder / f"{stage}.pt"
        return read_state(path) if self.has(stage) else None

    # Log

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`; it is about to be done again."""
        kept = [line for line in self.log() if line["step"] <= step]
        _replace(self.folder / LOG, "".join(json.dumps(line) + "\n" for line in kept).encode())
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self._board = SummaryWriter(str(self.folder / BOARD), purge_step=step + 1)

    def write(self, step: int, figures: dict[str, Any]) -> None:
        """One line of the log, and its numbers to TensorBoard."""
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            if isinstance(value, float) and self._board is not None:
                self._board.add_scalar(name, value, step)

    def log(self) -> list[dict[str, Any]]:
        """All lines of the log."""
        path = self.folder / LOG
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def plot(self) -> None:
        """Loss and validation metric by step, as a picture."""
        from matplotlib.figure import Figure

        log = self.log()
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        left = figure.add_subplot()
        right = left.twinx()
        for axis, name, colour in ((left, "loss", "tab:blue"), (right, "ndcg@10", "tab:orange")):
            points = [(line["step"], line[name]) for line in log if name in line]
            axis.plot(*zip(*points, strict=True), color=colour) if points else None
            axis.set_ylabel(name, color=colour)
        left.set_xlabel("step")
        place = self.folder / PLOT
        figure.savefig(place.with_suffix(".tmp"), format="png", dpi=120)
        place.with_suffix(".tmp").replace(place)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None


def _save(content: Any, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
