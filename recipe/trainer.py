"""The training loop of every stage: a time budget, checkpoints, resume, one command on CPU and CUDA."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

Batch = dict[str, Any]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train; the learning rate follows the share of the budget used."""

    seconds: float = 600.0
    """Training time, checkpoints and validation included; a resumed run goes on where it was."""
    learning_rate: float = 1e-3
    warmup: float = 0.02
    """Share of the budget in which the rate rises from zero; then it falls as a half cosine."""
    final: float = 0.05
    """Share of the rate that is left at the end."""
    weight_decay: float = 0.01
    clip: float = 1.0
    workers: int = 0
    """Processes that prepare batches; 0 prepares them in the training process."""
    log_every: int = 20
    validate_every: float = 300.0
    """Seconds between validations, and between checkpoints."""
    seed: int = 0
    device: str = "cpu"


class Task(Protocol):
    """What a stage supplies: batches made on the CPU, a loss, a validation."""

    def batches(self, seed: int) -> Iterator[Batch]:
        """Endless batches, different for every seed."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss to descend, and figures to log."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures on data carved out of the training sources."""
        ...


class _Stream(IterableDataset[Batch]):
    """A task's batches as a data set; every worker process gets a seed of its own."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.seed = task, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        return self.task.batches(self.seed * 1009 + (worker.id if worker else 0))


class Trainer:
    """Trains the parameters that require gradients; `run` is the whole of it."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainConfig,
        folder: Path,
        describe: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.task, self.config, self.folder = model, task, config, folder
        self.device = torch.device(config.device)
        self.bf16 = self.device.type != "cpu" or is_bf16_faster()
        self.step, self.elapsed = 0, 0.0
        self.optimizer = _optimizer(model, config)
        folder.mkdir(parents=True, exist_ok=True)
        summary = {"train": asdict(config), **(describe or {}), "torch": torch.__version__}
        (folder / "config.json").write_text(json.dumps(summary, indent=1, default=str))

    def run(self) -> dict[str, float]:
        """Resume if there is a checkpoint, train until the budget is used, validate, save."""
        with without_subnormals():
            return self._run()

    def _run(self) -> dict[str, float]:
        self.resume()
        self.model.to(self.device).train()
        batches = self._batches()
        started, last_saved = time.monotonic() - self.elapsed, time.monotonic()
        while self.elapsed < self.config.seconds:
            figures = self._descend(next(batches))
            self.elapsed = time.monotonic() - started
            if self.step % self.config.log_every == 0:
                self.log({"loss": figures.pop("loss"), **figures})
            if time.monotonic() - last_saved > self.config.validate_every:
                self.log(self.validate())
                self.save()
                last_saved = time.monotonic()
        final = self.validate()
        self.log(final)
        self.save()
        return final

    def _batches(self) -> Iterator[Batch]:
        # The step is part of the seed, so that a resumed run does not see the same data again.
        stream = _Stream(self.task, self.config.seed + 7919 * self.step)
        workers = self.config.workers
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def _descend(self, batch: Batch) -> dict[str, float]:
        batch = to_device(batch, self.device)
        rate = self.config.learning_rate * self._schedule()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        with self.autocast():
            loss, figures = self.task.loss(self.model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.step % self.config.log_every:
            return {}
        return {"loss": loss.item(), "norm": float(norm), "rate": rate, **figures}

    def _schedule(self) -> float:
        share = min(self.elapsed / self.config.seconds, 1.0)
        if share < self.config.warmup:
            return max(share, 1e-4) / self.config.warmup
        fall = (share - self.config.warmup) / (1 - self.config.warmup)
        return self.config.final + (1 - self.config.final) * 0.5 * (1 + math.cos(math.pi * fall))

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """bf16 matrix products with float32 weights, where the device is faster at them."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def validate(self) -> dict[str, float]:
        """The task's validation figures, named valid/*."""
        self.model.eval()
        with torch.inference_mode(), self.autocast():
            figures = self.task.validate(self.model)
        self.model.train()
        return {f"valid/{name}": value for name, value in figures.items()}

    def log(self, figures: dict[str, float]) -> None:
        """One JSON line on stdout and in log.jsonl."""
        line = json.dumps(
            {"step": self.step, "seconds": round(self.elapsed, 1)}
            | {name: float(f"{value:.5g}") for name, value in figures.items()}
        )
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def save(self) -> None:
        """Write checkpoint.pt under a temporary name, then rename: a kill leaves the old one whole."""
        path = self.folder / "checkpoint.pt"
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def resume(self) -> None:
        """Continue from checkpoint.pt, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.model.to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]


def device_of(model: nn.Module) -> torch.device:
    """Where its weights are."""
    return next(model.parameters()).device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors there."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


@contextlib.contextmanager
def without_subnormals() -> Iterator[None]:
    """Numbers below float32's normal range count as zero, in this thread.

    Sharp attention leaves such weights and gradients, on which a CPU takes a hundred times as long:
    half the time of a step went into them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@cache
def is_bf16_faster() -> bool:
    """Whether this processor multiplies bf16 matrices faster than float32 ones, by a short trial.

    Those with matrix units are several times faster, those without take twice as long.
    """
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(1024, 384, dtype=dtype), torch.ones(384, 1024, dtype=dtype)
        left @ right  # the first product also builds its kernel
        started = time.perf_counter()
        for _ in range(3):
            left @ right
        seconds.append(time.perf_counter() - started)
    return seconds[1] < seconds[0]


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; no decay on vectors, and a tenth of the rate on embeddings."""
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            scale = 0.1 if "embed_tokens" in name else 1.0
            kinds.setdefault((decay, scale), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for (decay, scale), parameters in kinds.items()
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-8)
