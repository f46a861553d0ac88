"""How much memory there is: of the machine, of the container it is run in, of a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

UNKNOWN = 4 * 1024**3
"""Taken to be free where the system does not say."""
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def available_bytes(device: torch.device) -> int:
    """Memory that may still be taken on `device` without pushing others out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(_machine(), *_groups())


def _machine() -> int:
    try:
        for line in MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # all there is, as macOS does not say what is free; half of it is taken to be
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN


def _groups() -> Iterator[int]:
    """What each control group around this process leaves; nothing for one without a limit."""
    for folder in _folders():
        for limit, usage in (
            ("memory.max", "memory.current"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),  # version 1
        ):
            try:
                free = int((folder / limit).read_text()) - int((folder / usage).read_text())
            except (OSError, ValueError):  # not there, or "max"
                continue
            yield max(0, free + _reclaimable(folder))
    yield _NO_LIMIT


_NO_LIMIT = 1 << 62


def _folders() -> Iterator[Path]:
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory") or "memory" in controllers.split(","):
            root = GROUPS / "memory" if controllers else GROUPS
            inside = root / path.lstrip("/")
            # In a container the path is often that of the host, and the root is the group itself.
            yield from (inside, *inside.parents[: len(inside.parts) - len(root.parts)])


def _reclaimable(folder: Path) -> int:
    """Cached files of a group, which count as used and give way."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        stat = dict(line.split() for line in lines)
        return int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
    except (OSError, ValueError):
        return 0
