"""Who may import whom, and that nothing heavy is loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sightrank"
VOCABULARY = {"types", "errors", "config", "extras", "_version"}
ARROWS = {
    "types": {"errors"},
    "errors": set(),
    "config": {"errors"},
    "extras": {"errors"},
    "_version": set(),
    "__init__": {"_version"},
    "__main__": {"cli"},
    "inputs": VOCABULARY,
    "model": VOCABULARY,
    "weights": VOCABULARY | {"model"},
    "engine": VOCABULARY | {"inputs", "model"},
    "reranker": VOCABULARY | {"inputs", "model", "weights", "engine", "analysis"},
    "analysis": VOCABULARY | {"inputs", "engine", "reranker", "model"},
    "evaluate": VOCABULARY | {"inputs", "reranker", "analysis"},
    "serve": VOCABULARY | {"inputs", "reranker", "analysis"},
    "integrations": VOCABULARY | {"reranker", "analysis"},
    "train": VOCABULARY | {"inputs", "model", "weights", "evaluate"},
    "cli": VOCABULARY
    | {
        "inputs",
        "model",
        "weights",
        "engine",
        "reranker",
        "analysis",
        "evaluate",
        "serve",
        "train",
    },
}
"""Room -> the rooms it may import. Imports for type checking alone do not count."""
WITHOUT_TORCH = ("types", "errors", "config", "inputs", "evaluate", "serve", "integrations")
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports anywhere, save under `if TYPE_CHECKING`."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            names |= (
                {f"sightrank.{alias.name}" for alias in node.names}
                if module == "sightrank"
                else {module}
            )
        waiting += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_between_rooms_hold(path: Path) -> None:
    here = room(path)
    assert here in ARROWS, f"{here} has no line in ARROWS"
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("sightrank.")}
    assert rooms - {here} <= ARROWS[here]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_stay_in_their_rooms(path: Path) -> None:
    outside = {name.split(".")[0] for name in imported(path)}
    assert "transformers" not in outside, "the network is our own"
    if room(path) in WITHOUT_TORCH:
        assert "torch" not in outside


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("sightrank", {"torch", "numpy", "PIL", "tokenizers", "typer"}),
        ("sightrank.types", {"torch", "numpy", "PIL"}),
        ("sightrank.cli", {"torch", "numpy", "PIL", "tokenizers", "fastapi", "uvicorn"}),
        ("sightrank.serve.app", {"torch"}),
        ("sightrank.inputs.segments", {"torch"}),
    ],
)
def test_importing_loads_nothing_heavy(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert not absent & set(loaded.stdout.split())


def test_every_public_name_can_be_had() -> None:
    import sightrank

    assert {name for name in sightrank.__all__ if not hasattr(sightrank, name)} == set()
    with pytest.raises(AttributeError, match="nothing"):
        _ = sightrank.nothing
