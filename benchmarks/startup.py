"""Seconds that `import sightrank` takes in a fresh interpreter, and what it loads.

    python benchmarks/startup.py

The last line on stdout is one JSON object.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys

CODE = """
import sys, time
begin = time.perf_counter()
import sightrank
print(time.perf_counter() - begin, *sorted({name.partition(".")[0] for name in sys.modules}))
"""
HEAVY = {"torch", "numpy", "PIL", "tokenizers", "safetensors", "typer", "rich"}


def main() -> None:
    """Start an interpreter eleven times; the median is what counts."""
    runs = []
    loaded: set[str] = set()
    for _ in range(11):
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
        )
        seconds, *modules = done.stdout.split()
        runs.append(float(seconds))
        loaded |= HEAVY & set(modules)
    report = {
        "benchmark": "startup",
        "import_seconds": {"median": statistics.median(runs), "largest": max(runs)},
        "heavy_modules": sorted(loaded),
        "versions": {"python": platform.python_version()},
        "machine": platform.machine(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
