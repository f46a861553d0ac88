"""The processor's threads, shared out among passes of the model that run at once."""

from __future__ import annotations

import torch

MOST_PASSES = 4
"""Unless asked for more: about a tenth of a pass is Python's, which runs in one thread at a time."""


class Threads:
    """As many as PyTorch was set to use when this was made."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads()
        self.passes = min(self.count, MOST_PASSES) if device.type == "cpu" else 1
        """At once, that fill the device: a small model's products leave one of several threads idle."""

    def share(self, passes: int) -> None:
        """Let the calling thread's own work take one of `passes` equal parts of them, 1: all."""
        torch.set_num_threads(max(1, self.count // passes))  # OpenMP keeps it by thread
