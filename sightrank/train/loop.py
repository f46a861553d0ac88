"""The training itself: stages of steps that can be killed at any time and go on as if nothing was."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as whole

from sightrank.errors import SightrankError
from sightrank.inputs.segments import Encoder
from sightrank.train import losses
from sightrank.train.batches import Batch
from sightrank.train.data import Checked, check
from sightrank.train.export import export
from sightrank.train.feed import feed, seed_dropout, validation
from sightrank.train.launch import make_accelerator, release
from sightrank.train.needs import needs
from sightrank.train.packed import PairScorer
from sightrank.train.record import Record
from sightrank.train.settings import Settings
from sightrank.train.stages import Prepared, Stage, State, prepare, stages, start
from sightrank.train.validate import ndcg
from sightrank.train.versions import versions
from sightrank.weights import Checkpoint

FINAL = 0.1
"""Share of the learning rate that is left at the end of a stage."""

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Finished:
    """What a training came to."""

    folder: Path
    steps: int
    loss: float | None
    ndcg: float | None
    seconds: float
    fresh_head: bool


def train(settings: Settings, say: Say, progress: Progress | None = None) -> Finished:
    """Check the data, train what is left to train, write the result. Raises SightrankError."""
    accelerator = make_accelerator(settings)
    try:
        return _train(settings, accelerator, say, progress)
    finally:
        release(accelerator)


def _train(
    settings: Settings, accelerator: Accelerator, say: Say, progress: Progress | None
) -> Finished:
    started = time.monotonic()
    checked = _check(settings, accelerator, say)
    record = Record(Path(settings.train.to))
    checkpoint = start(settings)
    facts = _facts(settings, checked, checkpoint, accelerator)
    if accelerator.is_main_process:
        record.begin(facts)
        if checkpoint.fresh_head:
            say(f"{settings.model.start} has no score head: it starts from random weights.")
    accelerator.wait_for_everyone()
    if record.finished is None:
        training = Training(settings, checkpoint, accelerator, record, progress)
        for stage in stages(settings):
            if not record.has(stage.name):
                training.run(stage)
        if accelerator.is_main_process:
            export(settings, record.result("main"), record.result("head"))
            record.plot()
            record.finish({**facts, "result": _result(record, started)})
        accelerator.wait_for_everyone()
    result = (record.finished or {})["result"]
    return Finished(Path(settings.train.to), **result, fresh_head=checkpoint.fresh_head)


class Training:
    """One run; `run` takes it through a stage."""

    def __init__(
        self,
        settings: Settings,
        checkpoint: Checkpoint,
        accelerator: Accelerator,
        record: Record,
        progress: Progress | None,
    ) -> None:
        self.settings, self.accelerator, self.record = settings, accelerator, record
        self.progress = progress
        self.encoder = Encoder.from_folder(checkpoint.folder, checkpoint.config, settings.inputs())
        self.valid = list(validation(settings)) if settings.data.valid else []
        self.loss = losses.losses()[settings.loss.name]
        section = settings.loss
        self.numbers = losses.Settings(
            checkpoint.config.logit_bias, section.margin, section.temperature
        )

    def run(self, stage: Stage) -> None:
        """From the last state of this stage, or its beginning, to its end."""
        prepared = prepare(self.settings, stage, self.record.result("main"))
        scorer, optimizer = self._placed(stage, prepared)
        step = self._restore(stage, scorer, optimizer)
        if step == 0:
            self._validate(step, scorer)
        batches = self._batches(step)
        scorer.train()
        while step < stage.last:
            figures = self._step(stage, step, scorer, optimizer, batches)
            step += 1
            self._after(stage, step, scorer, optimizer, figures)
        trained = self._trained(scorer)
        if self.accelerator.is_main_process:
            self.record.save_result(stage.name, trained)
        self.accelerator.wait_for_everyone()
        # Nothing of this stage may outlive it: the next one needs its memory, and what holds on to a
        # process group at the interpreter's end can make that wait for ever.
        del batches
        scorer, optimizer = self.accelerator.free_memory(scorer, optimizer)
        gc.collect()

    def _placed(self, stage: Stage, prepared: Prepared) -> tuple[nn.Module, torch.optim.Optimizer]:
        section = self.settings.model
        see = stage.name == "main" and (section.vision or section.merger)
        scorer = PairScorer(prepared.model, see=see)
        optimizer = torch.optim.AdamW(_parameters(self.settings, stage, prepared.model))
        scorer, optimizer = self.accelerator.prepare(scorer, optimizer)
        return scorer, optimizer

    def _batches(self, step: int) -> Iterator[Batch]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        first = step * self.settings.train.accumulate + rank
        return feed(self.settings, self.encoder, first, world)

    # A step

    def _step(
        self,
        stage: Stage,
        step: int,
        scorer: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Iterator[Batch],
    ) -> dict[str, float]:
        """Gradients of all batches of a step, one update; the figures are of all processes."""
        accelerator, section = self.accelerator, self.settings.train
        factor = _schedule(section.warmup, step - stage.first, stage.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        world = accelerator.num_processes
        count = section.accumulate // world
        total = torch.zeros((), device=accelerator.device)
        for number in range(count):
            batch = next(batches).to(accelerator.device)
            seed_dropout(self.settings, step * section.accumulate + number * world
                         + accelerator.process_index)  # fmt: skip
            # Sharded gradients are summed each time: put off, all would lie whole in every process.
            share = number == count - 1 or accelerator.is_fsdp2
            with nullcontext() if share else accelerator.no_sync(scorer):
                loss = self._loss(scorer(batch), batch) / (section.groups * section.accumulate)
                accelerator.backward(loss * world)  # what follows is the processes' mean
            total += loss.detach()
        norm = accelerator.clip_grad_norm_(scorer.parameters(), section.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        value = float(accelerator.reduce(total, "sum"))
        if not math.isfinite(value):
            raise SightrankError(
                f"The loss of step {step + 1} is {value}.", "Lower the learning rate."
            )
        rate = section.learning_rate if stage.name == "main" else self.settings.head.learning_rate
        return {"loss": value, "norm": _number(norm), "rate": rate * factor}

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The sum over the batch's groups."""
        groups = losses.Groups(logits[batch.rows], batch.labels, batch.mask, batch.teacher)
        return self.loss(groups, self.numbers).sum()

    def _after(
        self,
        stage: Stage,
        step: int,
        scorer: nn.Module,
        optimizer: torch.optim.Optimizer,
        figures: dict[str, float],
    ) -> None:
        """Log, validate and save, where it is their turn."""
        section, main = self.settings.train, self.accelerator.is_main_process
        if main and (step % section.log_every == 0 or step == stage.last):
            self.record.write(step, {"stage": stage.name, **figures})
        if main and self.progress:
            self.progress(step, self.settings.train.steps + self.settings.head.steps)
        if step % section.validate_every == 0 or step == stage.last:
            self._validate(step, scorer)
        if step % section.save_every == 0 and step < stage.last:
            self._save(stage, step, scorer, optimizer)

    def _validate(self, step: int, scorer: nn.Module) -> None:
        if not self.valid:
            return
        section, data = self.settings.train, self.settings.data
        most = section.groups * (data.positives + data.negatives)
        value = ndcg(scorer, self.valid, self.encoder, self.accelerator, most)
        if self.accelerator.is_main_process:
            self.record.write(step, {"ndcg@10": value})
            self.record.plot()

    # States

    def _trained(self, scorer: nn.Module) -> State:
        """What learns, whole and on the CPU; under FSDP on the main process alone."""
        found: dict[str, Any] = whole.get_model_state_dict(scorer, options=_options())
        return {name.removeprefix("model."): value for name, value in found.items()}

    def _save(
        self, stage: Stage, step: int, scorer: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        moments = whole.get_optimizer_state_dict(scorer, _plain(optimizer), options=_options())
        trained = self._trained(scorer)
        if self.accelerator.is_main_process:
            self.record.save_state(
                {"stage": stage.name, "step": step, "trained": trained, "optimizer": moments}
            )
        self.accelerator.wait_for_everyone()

    def _restore(self, stage: Stage, scorer: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the last state of this stage in place; the step it was saved at."""
        state = self.record.state(stage.name)
        step = stage.first
        if state is not None:
            step = int(state["step"])
            trained = {f"model.{name}": value for name, value in state["trained"].items()}
            options = _options(strict=False)
            whole.set_model_state_dict(scorer, trained, options=options)
            whole.set_optimizer_state_dict(
                scorer, _plain(optimizer), state["optimizer"], options=options
            )
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.record.rewind(step if state is not None or stage.first else -1)
        return step


def _options(*, strict: bool = True) -> whole.StateDictOptions:
    return whole.StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=strict
    )


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside of accelerate's."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _parameters(settings: Settings, stage: Stage, model: nn.Module) -> list[dict[str, Any]]:
    """What learns, by learning rate; vectors are not decayed."""
    section = settings.train
    rates = {True: section.head_learning_rate, False: section.learning_rate}
    if stage.name == "head":
        rates[True] = settings.head.learning_rate
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = section.weight_decay if parameter.ndim > 1 else 0.0
            kinds.setdefault((rates[name.startswith("score.")], decay), []).append(parameter)
    return [
        {"params": own, "lr": rate, "base": rate, "weight_decay": decay}
        for (rate, decay), own in kinds.items()
    ]


def _schedule(warmup: float, step: int, steps: int) -> float:
    """The share of the learning rate at a step, counted from 0 inside its stage."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    fall = (step - rising) / max(steps - rising, 1)
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * fall))


def _number(norm: Any) -> float:
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _check(
    settings: Settings, accelerator: Accelerator, say: Say
) -> tuple[Checked, Checked | None]:
    """Look through the data once, on the main process, for all."""
    found: list[Any] = [None]
    if accelerator.is_main_process:
        need = needs(settings)
        train = check([Path(name) for name in settings.data.train], need)
        say(f"{train.num_groups:,} groups of {train.num_documents:,} documents to train on.")
        valid = None
        if settings.data.valid:
            valid = check([Path(name) for name in settings.data.valid], needs(None))
            say(f"{valid.num_groups:,} groups of {valid.num_documents:,} documents to validate on.")
        found = [(train, valid)]
    broadcast_object_list(found)
    checked: tuple[Checked, Checked | None] = found[0]
    return checked


def _facts(
    settings: Settings,
    checked: tuple[Checked, Checked | None],
    checkpoint: Checkpoint,
    accelerator: Accelerator,
) -> dict[str, Any]:
    train, valid = checked
    return {
        "settings": settings.to_dict(),
        "settings_digest": settings.digest(),
        "data_digest": "/".join(each.digest for each in (train, valid) if each is not None),
        "data": {
            name: {
                "groups": each.num_groups,
                "documents": each.num_documents,
                "sha256": each.digest,
            }
            for name, each in (("train", train), ("valid", valid))
            if each is not None
        },
        "start_fingerprint": checkpoint.fingerprint,
        "fresh_head": checkpoint.fresh_head,
        "processes": accelerator.num_processes,
        "sharded": accelerator.is_fsdp2,
        "device": str(accelerator.device),
        "versions": versions(),
    }


def _result(record: Record, started: float) -> dict[str, Any]:
    log = record.log()
    losses_, metrics = ([line[k] for line in log if k in line] for k in ("loss", "ndcg@10"))
    return {
        "steps": max((line["step"] for line in log), default=0),
        "loss": losses_[-1] if losses_ else None,
        "ndcg": metrics[-1] if metrics else None,
        "seconds": round(time.monotonic() - started, 1),
    }
