"""The container's files agree with each other and the package. No image is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sightrank import Reranker, cli
from sightrank.serve.access import NoAccess
from sightrank.serve.app import create_app
from sightrank.serve.database import database_url
from sightrank.serve.listen import config
from sightrank.serve.marketplaces import PORT, platform_of
from sightrank.serve.settings import Settings
from tests.serve.live import live

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "docker" / "entrypoint"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, without comments."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    parted = [line.partition(" ") for line in text.replace("\\\n", "").splitlines() if line]
    return [(name, rest.strip()) for name, _, rest in parted]


def every(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def variables() -> dict[str, str]:
    (content,) = every("ENV")
    return dict(pair.split("=", 1) for pair in content.split())


def compose() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def compose_arguments() -> list[str]:
    """What the composed server is run with behind `serve`."""
    name, *rest = compose()["services"]["server"]["command"]
    assert name == "serve"
    return list(rest)


def test_the_dockerfile_knows_only_instructions_that_exist() -> None:
    known = {
        "FROM",
        "ARG",
        "ENV",
        "LABEL",
        "WORKDIR",
        "RUN",
        "COPY",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
    }
    names = [name for name, _ in instructions()]
    assert set(names) == known | {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert names[:2] == ["ARG", "FROM"], "only the base may be named before"


def test_what_the_dockerfile_copies_exists_and_is_not_ignored() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for content in every("COPY"):
        for source in content.split()[:-1]:
            assert (ROOT / source).exists(), source
            ignored = False
            for rule in rules:
                if fnmatch(source, rule.removeprefix("!")):
                    ignored = not rule.startswith("!")
            assert not ignored, source


def test_the_entrypoint_is_of_the_exec_form_and_can_be_run() -> None:
    (entrypoint,), (command,) = every("ENTRYPOINT"), every("CMD")
    assert json.loads(entrypoint) == ["/usr/local/bin/entrypoint"]
    assert json.loads(command) == ["serve"]
    assert os.access(ENTRYPOINT, os.X_OK)
    assert every("EXPOSE") == [str(PORT)]


def test_the_health_check_tells_a_server_from_none(reranker: Reranker) -> None:
    command = json.loads(every("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    command[0] = sys.executable

    def check(**environment: str) -> int:
        return subprocess.run(command, env=environment, capture_output=True).returncode

    with live(create_app(reranker, NoAccess())) as url:
        port = url.rpartition(":")[2]
        for name in ("PORT", "SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT"):
            assert check(**{name: port}) == 0
    assert check(PORT=port) != 0


def test_the_extras_that_it_installs_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", " ".join(every("RUN")))
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert {"README.md", "LICENSE"} <= set(" ".join(every("COPY")).split()), "pyproject names them"


def test_every_argument_is_used() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for argument in every("ARG"):
        name = argument.partition("=")[0]
        assert re.search(rf"\${{?{name}\b", text), name


ENTRIES = [
    ({}, ["serve"], "serve --host 0.0.0.0 --port 8080"),
    ({"PORT": "9000"}, ["serve", "--queue", "9"], "serve --host 0.0.0.0 --port 9000 --queue 9"),
    ({}, ["keys", "list"], "keys list"),
    ({}, [], ""),
    (
        {"SIGHTRANK_PLATFORM": "sagemaker"},
        ["serve"],
        "serve --host 0.0.0.0 --port 8080 --no-auth --open-to-all",
    ),
    (
        {"SIGHTRANK_PLATFORM": "sagemaker", "SAGEMAKER_BIND_TO_PORT": "7000"},
        ["serve"],
        "serve --host 0.0.0.0 --port 7000 --no-auth --open-to-all",
    ),
    (
        {"SIGHTRANK_PLATFORM": "azureml"},
        ["serve", "--model", "a b"],
        "serve --host 0.0.0.0 --port 8080 --no-auth --open-to-all --model a b",
    ),
    (
        {"AIP_HTTP_PORT": "7080"},
        ["serve"],
        "serve --host 0.0.0.0 --port 7080 --no-auth --open-to-all",
    ),
]


@pytest.mark.parametrize(("environment", "arguments", "command"), ENTRIES)
def test_the_entrypoint(
    tmp_path: Path, environment: dict[str, str], arguments: list[str], command: str
) -> None:
    """What `docker run IMAGE ...` runs; the port is the one that the platform's routes name."""
    stand_in = tmp_path / "sightrank"
    stand_in.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    stand_in.chmod(0o755)
    shell = shutil.which("sh")
    assert shell
    ran = subprocess.run(
        [shell, str(ENTRYPOINT), *arguments],
        env={"PATH": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == command
    platform = platform_of(environment)
    if platform is not None:
        assert f"--port {platform.port}" in ran.stdout


@pytest.mark.parametrize(
    "arguments",
    [command.replace("a b", "folder").split() for _, _, command in ENTRIES if command]
    + [["serve", *compose_arguments()]],
)
def test_the_command_line_knows_what_the_container_runs(arguments: list[str]) -> None:
    """Parsed only: an option that was renamed is an error here."""
    group: Any = typer.main.get_command(cli.app)
    with group.make_context("sightrank", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        assert command is not None
        command.make_context(name, rest).close()


def test_a_request_ends_before_its_container_is_killed() -> None:
    grace = compose()["services"]["server"]["stop_grace_period"]
    served = config(create_app, Settings())  # type: ignore[arg-type]
    assert served.timeout_graceful_shutdown is not None
    assert Settings().deadline < served.timeout_graceful_shutdown < int(grace.removesuffix("s"))


def test_the_composed_services_fit_together() -> None:
    content = compose()
    server, database = content["services"]["server"], content["services"]["database"]
    assert set(server["depends_on"]) <= content["services"].keys()
    for service in (server, database):
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= content[
            "volumes"
        ].keys()
    assert {argument.partition("=")[0] for argument in every("ARG")} >= server["build"][
        "args"
    ].keys()
    assert server["ports"] == [f"{PORT}:{PORT}"]
    assert (ROOT / server["build"]["context"] / "Dockerfile").is_file()
    assert "/data" in every("VOLUME")[0] and server["volumes"] == ["data:/data"]
    assert compose_arguments()[0] == "--data" and compose_arguments()[1].startswith("/data/")


def test_the_composed_server_finds_its_database() -> None:
    content = compose()
    address = content["services"]["server"]["environment"]["SIGHTRANK_DATABASE"]
    given = content["services"]["database"]["environment"]
    url = database_url(re.sub(r"\$\{[^}]+\}", "pass1", address), {})
    assert url.host in content["services"]
    assert (url.username, url.database) == (given["POSTGRES_USER"], given["POSTGRES_DB"])
    assert url.password == "pass1" and given["POSTGRES_PASSWORD"] in address


def test_without_compose_accounts_are_kept_in_the_volume() -> None:
    url = database_url(None, variables())
    assert url.database is not None and url.database.startswith("/data/")
