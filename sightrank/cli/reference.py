"""docs/reference/cli.md, made from the commands themselves: `python -m sightrank.cli.reference`.

A test holds the committed file to what this prints; `make docs` writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import typer
import typer.main

from sightrank.cli import app
from sightrank.cli.options import ModelOptions

PLACE = Path("docs/reference/cli.md")
PROGRAM = "sightrank"
_MODEL_OPTIONS = frozenset("--" + each.name.replace("_", "-") for each in fields(ModelOptions))
_LIMITS = re.compile(r"\s*\[([^\[\]]*)\]$")
_RANGE = re.compile(r"(?:(\S+)<=)?x(?:(>=|<=)(\S+))?")
_HEAD = f"""# Every command and option

Made by `make docs` out of what `{PROGRAM} COMMAND --help` says; change it there. What the arguments stand
for and what is printed is in [the guide](../cli.md).
"""


@dataclass(frozen=True)
class Command:
    """A command with the names by which it is called."""

    path: str
    """`sightrank keys create`."""
    declared: Any
    """What typer makes of it."""
    context: typer.Context

    @property
    def paragraphs(self) -> list[str]:
        """The help's paragraphs; those that begin with a backspace are examples."""
        return re.split(r"\n\s*\n", (self.declared.help or "").strip())

    @property
    def examples(self) -> list[str]:
        """Command lines, each whole."""
        shown = [each[1:].strip("\n") for each in self.paragraphs if each.startswith("\b")]
        return [line for each in shown for line in each.replace("\\\n", " ").split("\n")]


def commands() -> list[Command]:
    """All of them, in the order in which --help lists them, groups before what is in them."""
    return list(_below(typer.main.get_command(app), PROGRAM, None))


def _below(declared: Any, path: str, parent: typer.Context | None) -> Iterator[Command]:
    context = typer.Context(declared, info_name=path.split()[-1], parent=parent)
    yield Command(path, declared, context)
    for name, each in getattr(declared, "commands", {}).items():
        yield from _below(each, f"{path} {name}", context)


def reference() -> str:
    """The whole file."""
    found = commands()
    listed = [
        f"| [`{each.path}`](#{_anchor(each.path)}) | {_cell(each.paragraphs[0])} |"
        for each in found[1:]
    ]
    parts = [_HEAD, "| command | |\n|---|---|\n" + "\n".join(listed) + "\n"]
    parts += [_section(each) for each in found]
    (source,) = (each for each in found if each.path == f"{PROGRAM} rank")
    rows = [row for row in _rows(source, "option") if _names(row[0]) <= _MODEL_OPTIONS]
    parts.append("## Model options\n\n" + _table("option", rows))
    return "\n".join(parts)


def _section(command: Command) -> str:
    """Title, usage, what it does with its examples, arguments, options."""
    usage = " ".join([command.path, "[OPTIONS]", *_arguments(command)])
    text = [_paragraph(each) for each in command.paragraphs]
    parts = [f"## `{command.path}`", f"`{usage}`", *text]
    arguments, options = (_rows(command, kind) for kind in ("argument", "option"))
    if arguments:
        parts.append(_table("argument", arguments))
    shared = [row for row in options if _names(row[0]) <= _MODEL_OPTIONS]
    has_model = len(shared) == len(_MODEL_OPTIONS)
    own = [row for row in options if not (has_model and row in shared)]
    parts.append(_table("option", own))
    if has_model:
        parts.append("And the [model options](#model-options).")
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return f"```sh\n{text[1:].strip(chr(10))}\n```"
    return _plain(" ".join(text.split()))


def _arguments(command: Command) -> list[str]:
    if getattr(command.declared, "commands", None):
        return ["COMMAND"]
    found = []
    for each in command.declared.params:
        if each.param_type_name == "argument":
            name = each.metavar or each.name.upper()
            name += "..." if each.nargs == -1 and not name.endswith("...") else ""
            found.append(name if each.required else f"[{name}]")
    return found


def _rows(command: Command, kind: str) -> list[tuple[str, str, str]]:
    """(name, help, default and limits) of the arguments or the options, but not of --help."""
    rows = []
    for each in command.declared.get_params(command.context):
        record = each.get_help_record(command.context)
        if each.param_type_name != kind or record is None or "--help" in each.opts:
            continue
        name, said = record
        if kind == "argument":
            name = name.partition(" <")[0]
        limits = _LIMITS.search(said)
        shown = said[: limits.start()] if limits else said
        rows.append((name, shown, _limits(limits[1]) if limits else ""))
    return rows


def _limits(written: str) -> str:
    """`default: 5; x>=1` in words."""
    said = []
    for each in written.split("; "):
        within = _RANGE.fullmatch(each)
        if each.startswith("default: "):
            said.append(f"`{each.removeprefix('default: ')}`")
        elif within:
            low, sign, edge = within.groups()
            low = edge if sign == ">=" else low
            said.append(" ".join([f"from {low}"] * bool(low) + [f"to {edge}"] * (sign == "<=")))
        else:
            said.append(each)
    return ", ".join(said)


def _names(option: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", option))


def _table(what: str, rows: Sequence[tuple[str, str, str]]) -> str:
    """Markdown; a last column that is empty is left out."""
    if not rows:
        return ""
    head = (what, "", "default, limits")
    width = 3 if any(row[2] for row in rows) else 2
    shown = [(f"`{name}`", _cell(said), _cell(limits)) for name, said, limits in rows]
    lines = ["| " + " | ".join(row[:width]) + " |" for row in [head, *shown]]
    lines.insert(1, "|" + "---|" * width)
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    return re.sub(r"([<>*_])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text)


def _anchor(title: str) -> str:
    return title.replace(" ", "-")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(reference(), encoding="utf-8", newline="\n")
