"""The repository says what is true: its commands exist, its demo is small and attributed."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

import sightrank
from sightrank.cli import app
from sightrank.inputs.load import FileLimits
from sightrank.inputs.pdf import page_count

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
MIB = 1024 * 1024


def project() -> dict[str, object]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert isinstance(content["project"], dict)
    return content["project"]


def test_make_targets_that_are_written_about_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in [*DOCUMENTS, ROOT / ".ci" / "run"]]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)}
    assert {"demo", "test", "check"} <= named <= targets


def test_make_alone_lists_its_targets() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "check", "bench", "clean"):
        assert re.search(rf"^{target} +\S", listed, re.MULTILINE)


def options_of(command: str) -> set[str]:
    """Options of a command, or of all the commands in a group."""
    declared = typer.main.get_command(app)
    found = declared.commands[command]  # type: ignore[attr-defined]
    parts = [found, *getattr(found, "commands", {}).values()]
    parameters = [each for part in parts for each in part.params]
    named = {name for each in parameters for name in (*each.opts, *each.secondary_opts)}
    return named | {"-h", "--help"}


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "demo" / "run.sh"], ids=lambda path: path.name)
def test_commands_that_are_written_about_exist(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.search(r"(?:^|\| |`)sightrank ([a-z]+)([^`]*)", line)
        if match:
            written = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", match[2]))
            assert written <= options_of(match[1]), line


def test_the_readme_names_what_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links and all((ROOT / link).exists() for link in links)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code
    for module, names in re.findall(r"^from ([\w.]+) import (.+)$", code[1], re.MULTILINE):
        assert all(hasattr(import_module(module), name.strip()) for name in names.split(","))
    compile(code[1], "README.md", "exec")


def test_the_version_has_one_source() -> None:
    assert project()["dynamic"] == ["version"]
    printed = CliRunner().invoke(app, ["--version"]).output
    assert printed.split() == ["sightrank", sightrank.__version__]


def test_constraints_pin_every_dependency_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            assert re.fullmatch(r"[\d.]+", version), line
            pinned[name.lower().replace("_", "-")] = version
    extras = project()["optional-dependencies"]
    wanted = project()["dependencies"]
    assert isinstance(extras, dict) and isinstance(wanted, list)
    everything = wanted + [item for extra in extras.values() for item in extra]
    names = {re.split(r"[^\w-]", item)[0].lower().replace("_", "-") for item in everything}
    assert names - {"sightrank"} <= pinned.keys()


def test_every_demo_file_is_attributed_and_all_are_small() -> None:
    demo = ROOT / "demo"
    files = {
        path.relative_to(demo).as_posix(): path.stat().st_size
        for path in demo.rglob("*")
        if path.is_file()
    }
    assert sum(files.values()) <= 3 * MIB
    attribution = (demo / "ATTRIBUTION.md").read_text(encoding="utf-8")
    documents = files.keys() - {"ATTRIBUTION.md", "run.sh"}
    assert {name for name in documents if f"`{name}`" not in attribution} == set()
    listed = set(re.findall(r"`((?:pictures|passages)/[^`]+|[\w-]+\.pdf)`", attribution))
    assert listed == documents


def test_the_demo_holds_what_it_promises() -> None:
    demo = ROOT / "demo"
    assert len({path.name[:2] for path in (demo / "passages").iterdir()}) >= 4
    assert len(list((demo / "pictures").iterdir())) >= 4
    assert page_count(demo / "xfig-howto.pdf", FileLimits()) > 1


def test_golden_cases_are_complete() -> None:
    content = json.loads((ROOT / "sightrank" / "golden.json").read_text(encoding="utf-8"))
    for case in content["cases"]:
        count = len(case["documents"])
        assert count == len(case["scores"]) == len(case["prompt_tokens_without_score_token"]) > 0
