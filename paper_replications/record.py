"""What every ``replicate.py`` writes down: results with seconds, memory, hardware and versions."""

import csv
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import board
import numpy as np

FAST = os.environ.get("CAUSALSAT_FAST") == "1"
COLUMNS = ("id", "part", "ours", "our_se", "runs", "seconds", "peak_mb", "hardware", "versions", "note")
PACKAGES = ("causalsat", "numpy", "jax", "statsmodels")

Result = dict[str, Any]
Part = Callable[[], list[Result] | None]


def say(text: str) -> None:
    """One line for the person who runs this."""
    sys.stdout.write(text + "\n")


def row(name: str, ours: float | None, our_se: float | None = None, *, runs: int = 1, note: str = "") -> Result:
    """One result; ``ours`` is None for a target that is judged on other rows and carries only its note."""
    values = ("" if value is None else f"{value:.10g}" for value in (ours, our_se))
    return dict(zip(("id", "ours", "our_se", "runs", "note"), (name, *values, runs, note), strict=True))


def mean_row(name: str, values: Iterable[float], note: str = "") -> Result:
    """Mean over repeats with its Monte Carlo standard error."""
    v = np.asarray(list(values), dtype=np.float64)
    return row(name, v.mean(), v.std(ddof=1) / np.sqrt(v.size), runs=v.size, note=note)


def run(folder: Path, parts: Mapping[str, Part]) -> list[Result]:
    """Run the parts named on the command line (all by default) and write the results, the reports and the board.

    A part that returns None, or is not asked for, keeps its committed rows. With CAUSALSAT_FAST=1 nothing is written.
    """
    wanted = [part for part in parts if part in sys.argv[1:]] or list(parts)
    results: list[Result] = []
    for part, rows in parts.items():
        results += (timed(part, rows) if part in wanted else []) or committed(folder, part)
    for found in results:
        say(f"  {found['id']:34s} {found['ours']:>14s} {found['our_se']}")
    if FAST:
        say("CAUSALSAT_FAST=1: a shortened run; results.csv and the reports are left as they are.")
        return results
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)
    board.write()
    return results


def timed(part: str, rows: Part) -> list[Result]:
    """Run one part and write down where and how long."""
    started = time.perf_counter()
    found = rows()
    seconds = time.perf_counter() - started
    if found is None:
        return []
    say(f"{part}: {len(found)} results in {seconds:.1f} s")
    facts = {
        "part": part,
        "seconds": f"{seconds:.1f}",
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "hardware": f"{os.cpu_count()} CPU cores",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]),
    }
    return [result | facts for result in found]


def committed(folder: Path, part: str) -> list[Result]:
    """The rows of a part as they stand in results.csv."""
    path = folder / "results.csv"
    return [dict(r) for r in board.read(path) if r["part"] == part] if path.is_file() else []
