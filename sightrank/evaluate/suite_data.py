"""mteb's tasks with their data, from the hub or from a folder that was fetched before."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

from sightrank.errors import DataUnavailableError, OptionError
from sightrank.evaluate.mteb import require_mteb


def get_tasks(
    name: str, data: Path | None = None, subsets: tuple[str, ...] | None = None
) -> list[Any]:
    """mteb's task, or the parts that one such as CQADupstack consists of; nothing is loaded yet.

    With `data` the hub's repository OWNER/NAME is looked for in `data`/OWNER/NAME. `subsets`: only
    these, such as languages. Raises MissingExtraError, OptionError, DataUnavailableError.
    """
    mteb = require_mteb()
    whole = mteb.get_task(name)
    # Copies: mteb holds the parts of a task once for the whole process.
    parts = [copy(task) for task in getattr(whole, "tasks", None) or [whole]]
    for task in parts:
        if subsets is not None:
            kept = [subset for subset in task.hf_subsets if subset in subsets]
            if not kept:
                raise OptionError(
                    f"{name} has no subset {', '.join(subsets)}.",
                    f"It has {', '.join(task.hf_subsets)}.",
                )
            task.hf_subsets = kept
        if data is not None:
            task.metadata = _from_folder(task, data)
    return parts


def load_task(task: Any) -> None:
    """Fill `task.dataset`. Raises DataUnavailableError saying what to fetch and where to put it."""
    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except (OSError, ValueError) as error:  # what datasets raises for hub, cache and layout alike
        path, name = task.metadata.dataset["path"], task.metadata.name
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataUnavailableError(
            f"The data of {name} ({path}) cannot be had: {reason}",
            "Fetch the folder again: it is a copy of the hub's repository."
            if Path(path).is_absolute()
            else f"Where there is a network: {fetch_command(task, Path('DATA'))}; then use --data"
            " DATA. Data in HF_HOME are found without it.",
        ) from error


def fetch_command(task: Any, data: Path) -> str:
    """What to type on a machine with a network to have the task's data in `data`."""
    source = task.metadata.dataset
    revision = f" --revision {source['revision']}" if source.get("revision") else ""
    where = data / source["path"]
    return f"hf download --repo-type dataset {source['path']}{revision} --local-dir {where}"


def _from_folder(task: Any, data: Path) -> Any:
    """The task's description with the folder as its source: its own loader reads either."""
    source = task.metadata.dataset
    folder = data / source["path"]
    if not folder.is_dir():
        raise DataUnavailableError(
            f"The data of {task.metadata.name} are not in {folder}.",
            f"Where there is a network: {fetch_command(task, data)}",
        )
    return task.metadata.model_copy(update={"dataset": {**source, "path": str(folder.resolve())}})
