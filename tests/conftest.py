"""What every room's tests share: how hypothesis runs, and a tiny model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On other processors than Intel's, sums of matrix products depend on where in memory a matrix lies, unless
# MKL is told which code to take. Some tests ask for the same bits twice.
os.environ.setdefault("MKL_CBWR", "AVX2")

# The same examples every time, no database and no deadline: a test that fails here fails anywhere.
# HYPOTHESIS_PROFILE=explore looks for new examples, as many as HYPOTHESIS_EXAMPLES says.
_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("fixed", derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile(
    "explore",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "1000")),
    **_COMMON,  # type: ignore[arg-type]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of nano's architecture, tiny, with random weights."""
    from tests.tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tests that ask for the same bits twice: on some processors with AVX-512 two threads share
    the work of a product out otherwise than one, which is what processes of a test have."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
