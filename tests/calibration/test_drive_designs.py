"""Coverage of `drive` through the verb where the mapped kernels do not go: clusters, two treatments, the other target,
the other metric, and the pseudo-true value above the threshold.

Run as a script for the table: ``python -m tests.calibration.test_drive_designs 400``.
"""

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import causalsat as cs
from causalsat.inference.coverage import binomial_gate
from causalsat.simulate.iv import iv
from tests.calibration.iv_studies import first_seed

SHORT, LONG = 80, 400
STRONG = {"n": 500, "q": 4, "concentration": 200.0}


@dataclass(frozen=True)
class Design:
    """What is simulated, how the verb is called, and the lowest coverage that is accepted without a gate."""

    name: str
    simulated: dict[str, Any]
    called: dict[str, Any]
    floor: float | None = None
    above: bool = False


def both_signs(name: str, simulated: dict[str, Any], called: dict[str, Any], **more: Any) -> list[Design]:
    return [
        Design(f"{name}, confounding {sign * 0.6:+}", STRONG | simulated | {"confounding": sign * 0.6}, called, **more)
        for sign in (1, -1)
    ]


DESIGNS = [
    *both_signs("clusters", {"n": 1200, "clusters": 300, "concentration": 480.0}, {"cluster": "cluster"}),
    *both_signs(
        "two treatments", {"p": 2, "effect": (1.0, 0.5), "concentration": (300.0, 200.0)}, {"treatment": ["x1", "x2"]}
    ),
    *both_signs("shrink_to ols", {}, {"shrink_to": "ols"}),
    *both_signs("metric gmm", {"heteroskedastic": True}, {"metric": "gmm"}),
    # The basic bootstrap of a curved function of the first stage covers .91 to .96 in 400 runs.
    *both_signs("above the threshold", {"scale": "raw"}, {"scale": "raw"}, floor=0.86, above=True),
    *both_signs("above, unit scale", {"scale": "unit"}, {"scale": "unit"}, floor=0.86, above=True),
]


def covered(design: Design, runs: int) -> dict[str, tuple[int, int]]:
    """Rows of DRIVE that hold the truth, per treatment and interval, and how many there were."""
    held: dict[str, list[bool]] = {}
    first = first_seed(design.name)
    call = {"treatment": "x", "sets": (), "compare": (), "n_boot": 199} | design.called
    for seed in range(first, first + runs):
        data, truth = iv(seed=seed, **design.simulated)
        target = truth["effect"]
        if design.above:
            call["rho"] = 3.0 * float(truth["rho_star"])
            target = truth["drive"](call["rho"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
            table = cs.drive(data, outcome="y", instruments=["z1", "z2", "z3", "z4"], **call).table
        names = [call["treatment"]] if isinstance(call["treatment"], str) else call["treatment"]
        for i in range(len(table)):
            value = target[names.index(table["treatment"][i])]
            inside = bool(table["conf_low"][i] <= value <= table["conf_high"][i])
            held.setdefault(f"{table['treatment'][i]} {table['interval'][i]}", []).append(inside)
    return {key: (sum(values), len(values)) for key, values in held.items()}


def judge(design: Design, found: dict[str, tuple[int, int]]) -> None:
    for key, (count, runs) in found.items():
        if design.floor is not None:
            assert key.endswith("pseudo_true") and count / runs >= design.floor, (design.name, key, count, runs)
        elif key.endswith("limit"):
            assert binomial_gate(key, count, runs, 0.95).passed, (design.name, key, count, runs)
        else:
            assert count / runs >= 0.82, (design.name, key, count, runs)


@pytest.mark.parametrize("design", DESIGNS[1::2], ids=lambda d: d.name)
def test_short(design):
    judge(design, covered(design, SHORT))


@pytest.mark.calibration
@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: d.name)
def test_long(design):
    judge(design, covered(design, LONG))


def table(runs: int) -> str:
    lines = [f"{runs} runs through cs.drive, nominal .95, Monte Carlo standard error {np.sqrt(0.0475 / runs):.3f}"]
    for design in DESIGNS:
        rows = "  ".join(f"{key} {count / n:.3f}" for key, (count, n) in covered(design, runs).items())
        lines.append(f"{design.name:36s} {rows}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(int(sys.argv[1]) if len(sys.argv) > 1 else LONG) + "\n")
