"""Devices and processes, as accelerate finds them: alone, under torchrun or accelerate launch."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from sightrank.errors import OptionError
from sightrank.train.settings import Settings


def make_accelerator(settings: Settings) -> Accelerator:
    """Raises OptionError where a step's batches do not divide among the processes, or where they
    cannot share the weights."""
    section = settings.train
    plugin = _shards(section.precision) if section.fsdp else None
    accelerator = Accelerator(
        # Without a GPU accelerate has to be told, or every process would train alone.
        cpu=section.device == "cpu" or torch.accelerator.current_accelerator() is None,
        mixed_precision="bf16" if section.precision == "bfloat16" else "no",
        fsdp_plugin=plugin,
    )
    if plugin and accelerator.distributed_type == DistributedType.MULTI_CPU:
        _shard_on_cpus(accelerator, plugin)
    if section.accumulate % accelerator.num_processes:
        raise OptionError(
            f"train.accumulate is {section.accumulate} and there are"
            f" {accelerator.num_processes} processes.",
            "It must be a multiple of their number: that many batches make a step.",
        )
    return accelerator


def release(accelerator: Accelerator) -> None:
    """End what the processes shared, so that this one may train again with other settings."""
    accelerator.end_training()
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_FSDP", None)  # a plugin sets it, for all that follow


def _shards(precision: str) -> FullyShardedDataParallelPlugin:
    """Each layer's weights are shared out by themselves, everything else's together.

    The vision tower is among the rest on purpose: what is shared out by itself has to run in every
    process, and a batch may hold no image.
    """
    try:
        from torch.distributed.fsdp import MixedPrecisionPolicy
    except ImportError as error:
        raise OptionError("train.fsdp needs torch 2.6 or later.", "Update it.") from error
    # accelerate's own policy would round logits and the sums of gradients to bfloat16. No autocast
    # runs in an FSDP model: weights are cast as they are gathered.
    cast = torch.bfloat16 if precision == "bfloat16" else None
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["DecoderLayer"],
        mixed_precision_policy=MixedPrecisionPolicy(param_dtype=cast, reduce_dtype=torch.float32),
    )


def _shard_on_cpus(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Have processes without GPUs share the weights too.

    accelerate takes up its plugin for kinds of accelerators that it lists (`AcceleratorState`), and
    processors are not among them. Everything it then does with it works on them as well.
    """
    if torch.accelerator.current_accelerator() is not None:  # torch would take the GPUs' mesh
        raise OptionError(
            "train.fsdp is true, the device is cpu, and there are GPUs.",
            "Leave out fsdp, or hide the GPUs: CUDA_VISIBLE_DEVICES= (empty).",
        )
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP
