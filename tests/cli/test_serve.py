"""`sightrank serve`: what it refuses to start, and a real process that is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from sightrank.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--no-auth", "--database", "sqlite:///keys.db"], "exclude each other"),
        (["--no-auth", "--host", "0.0.0.0"], "--open-to-all"),
        (["--no-auth", "--host", "::"], "--open-to-all"),
        (["--no-auth", "--host", "example.org"], "--open-to-all"),
        (["--no-auth", "--max-body", "much"], "The size is 'much'"),
    ],
)
def test_what_is_not_safe_does_not_start(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *arguments])
    assert stopped.value.code == 1
    assert says in capsys.readouterr().err


def test_told_to_stop_it_finishes_what_it_accepted(checkpoint: Path) -> None:
    command = [sys.executable, "-m", "sightrank", "serve", "--no-auth", "--port", "0"]
    process = subprocess.Popen(
        [
            *(*command, "--model", str(checkpoint), "--also", "nano"),
            *("--device", "cpu", "--no-fetch", "--passes", "2"),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(json.loads(line))
        if "running on" in log[-1]["event"]:
            break
    url = log[-1]["event"].split("http://")[1].split()[0]
    listed = httpx.get(f"http://{url}/v1/models", trust_env=False).json()["data"]
    assert [each["id"] for each in listed][-1] == "nano"
    documents = ["word " * 60 + str(number) for number in range(90)]
    body = {"model": "sightrank", "query": "sugar secret", "documents": documents}
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(
            httpx.post(f"http://{url}/v1/rerank", json=body, timeout=60, trust_env=False)
        )
    )
    asking.start()
    with httpx.Client(base_url=f"http://{url}", trust_env=False) as client:
        while "sightrank_requests_waiting 0.0" in client.get("/metrics").text:
            time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    with process.stderr:
        rest = process.stderr.read()
    asking.join(60)
    process.wait(60)
    assert answers[0].status_code == 200
    assert len(answers[0].json()["results"]) == 90
    served = [json.loads(line) for line in rest.splitlines()]
    stopping = [each["event"] for each in served].index("Shutting down")
    assert any(each.get("route") == "/v1/rerank" for each in served[stopping:]), served
    assert "secret" not in rest
