"""DRIVE against its comparators where shrinkage towards zero helps and where it hurts; both are asserted.

One treatment, b0 = 1, n = 500, q = 4. Confounding above zero biases TSLS away from zero, so that shrinkage helps; below
zero it hurts. Weak cells compare median absolute errors, because the fourth moment of TSLS does not exist there. With
valid strong instruments DRIVE must not beat TSLS on either side: that is the theory.
Run as a script for the table: ``python -m tests.calibration.test_drive_horse_race 1000``.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from causalsat.simulate.iv import iv
from tests.calibration.iv_studies import B0, METHODS, Studies, estimates, first_seed, fit_all, median_error, studies

SHORT, LONG = 400, 1000
STRONG, WEAK = 200.0, 10.0
Z_SHORT, Z_LONG = 1.96, 3.29


@dataclass(frozen=True)
class Cell:
    """A design; ``beats`` is what the theory says of DRIVE's loss less that of TSLS: "lower", "higher", None (open)."""

    name: str
    options: dict[str, Any]
    beats: str | None
    median: bool = field(default=False)


def cell(strength: str, validity: str, sign: int, beats: str | None) -> Cell:
    options: dict[str, Any] = {
        "concentration": STRONG if strength == "strong" else WEAK,
        "confounding": 0.6 * sign,
    }
    if validity == "invalid":
        options["direct"] = (0.1 * sign, 0.0, 0.0, 0.0)
    side = "favourable" if sign > 0 else "unfavourable"
    return Cell(f"{strength}, {validity}, {side}", options, beats, strength == "weak")


CELLS = (
    cell("strong", "valid", 1, "higher"),
    cell("strong", "valid", -1, "higher"),
    cell("weak", "valid", 1, "lower"),
    cell("weak", "valid", -1, "higher"),
    cell("strong", "invalid", 1, "lower"),
    cell("strong", "invalid", -1, "higher"),
    cell("weak", "invalid", 1, None),
    cell("weak", "invalid", -1, None),
)


def race(design: Cell, runs: int) -> dict[str, dict[str, float]]:
    """Bias, loss (MSE, or median absolute error in weak cells) and its Monte Carlo error per method.

    ``gap`` is the loss less that of TSLS in the same studies, with its own Monte Carlo error.
    """
    found = estimates(studies(runs, first_seed(design.name), **design.options))
    report = {}
    for method in METHODS:
        apart = {m: np.abs(found[m] - B0) for m in (method, "tsls")}
        row = {"bias": float(found[method].mean() - B0), "median_bias": float(np.median(found[method]) - B0)}
        if design.median:
            row |= {"loss": float(np.median(apart[method])), "error": median_error(apart[method])}
            row |= median_gap(apart[method], apart["tsls"])
        else:
            square, gap = apart[method] ** 2, apart[method] ** 2 - apart["tsls"] ** 2
            row |= {"loss": float(square.mean()), "error": float(square.std(ddof=1) / np.sqrt(runs))}
            row |= {"gap": float(gap.mean()), "gap_error": float(gap.std(ddof=1) / np.sqrt(runs))}
        report[method] = row
    return report


def median_gap(one: np.ndarray, other: np.ndarray, draws: int = 400) -> dict[str, float]:
    """Difference of two medians over the same studies, and its bootstrap standard error."""
    rows = np.random.default_rng(1).integers(0, one.size, (draws, one.size))
    again = np.median(one[rows], axis=1) - np.median(other[rows], axis=1)
    return {"gap": float(np.median(one) - np.median(other)), "gap_error": float(again.std(ddof=1))}


def judge(design: Cell, report: dict[str, dict[str, float]], z: float) -> None:
    """The table of assertions: lower or higher than TSLS by more than z Monte Carlo errors."""
    gap, error = report["drive"]["gap"], report["drive"]["gap_error"]
    if design.beats == "lower":
        assert gap < -z * error, (design.name, gap, error)
    elif design.beats == "higher":
        assert gap > z * error, (design.name, gap, error)


@pytest.fixture(scope="module")
def short():
    return {design.name: race(design, SHORT) for design in CELLS}


@pytest.mark.parametrize("design", CELLS, ids=lambda c: c.name)
def test_short(design, short):
    judge(design, short[design.name], Z_SHORT)


def test_no_method_wins_everywhere(short):
    best = {name: min(report, key=lambda m: report[m]["loss"]) for name, report in short.items()}
    assert len(set(best.values())) > 1, best
    assert best["strong, valid, favourable"] != "drive" != best["strong, valid, unfavourable"]


@pytest.mark.calibration
@pytest.mark.parametrize("design", CELLS, ids=lambda c: c.name)
def test_long(design):
    judge(design, race(design, LONG), Z_LONG)


def along(runs: int) -> dict[int, tuple[float, float]]:
    """Direct effects along the first stage: median |DRIVE - TSLS| and median TSLS at n and 16 n, pi fixed."""
    found = {}
    for n in (500, 8000):
        fitted = estimates(
            studies(runs, first_seed(f"along {n}"), n=n, concentration=STRONG * n / 500, confounding=0.6, direct=0.1)
        )
        found[n] = (float(np.median(np.abs(fitted["drive"] - fitted["tsls"]))), float(np.median(fitted["tsls"])))
    return found


def test_direct_effects_along_the_first_stage_are_not_repaired():
    found = along(100)
    _, truth = iv(n=500, concentration=STRONG, confounding=0.6, direct=0.1)
    assert truth["j"] == 0.0
    assert truth["tsls"][0] > 1.3
    assert truth["drive"](0.5 * truth["lambda_min"])[0] == truth["tsls"][0]
    assert 3.0 < found[500][0] / found[8000][0] < 5.0  # 16 times the rows: a quarter of the distance
    assert found[8000][1] == pytest.approx(truth["tsls"][0], abs=0.02)


def held_out(runs: int) -> dict[str, tuple[float, float]]:
    """Mean squared error of predicting y from x where the instruments vary twice as much as in training."""
    options = {"concentration": STRONG, "confounding": 0.6}
    train = studies(runs, first_seed("train"), environments=(1.0,), **options)
    test = studies(runs, first_seed("test"), environments=(2.0,), **options)
    return {m: mean_and_error(_missed(b, train, test)) for m, b in estimates(train).items()}


def _missed(b: np.ndarray, train: Studies, test: Studies) -> np.ndarray:
    intercept = train.y.mean(axis=1) - b * train.x.mean(axis=1)
    return np.mean((test.y - intercept[:, None] - b[:, None] * test.x) ** 2, axis=1)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def test_held_out_errors_are_reported_for_every_method():
    """No ranking of DRIVE is asserted under a shift of the instruments."""
    found = held_out(SHORT)
    assert set(found) == set(METHODS)
    assert all(np.isfinite(value) and error > 0 for value, error in found.values())


def test_theory_radius_stays_below_the_threshold_in_strong_cells():
    fits = fit_all(studies(SHORT, first_seed("radius"), concentration=STRONG, confounding=-0.6))
    assert (fits.rho < 0.5 * fits.limit).all() and (fits.rho > 0).all()


def table(runs: int) -> str:
    """Every cell and method, favourable or not."""
    lines = [f"{runs} runs, n = 500, q = 4, b0 = 1; Monte Carlo standard errors in brackets; gap: loss less TSLS's"]
    for design in CELLS:
        loss = "median |error|" if design.median else "MSE"
        lines += ["", f"{design.name} {design.options}", f"  {'':8s} {'median bias':>11s} {loss:>18s} {'gap':>20s}"]
        for method, row in race(design, runs).items():
            lines.append(
                f"  {method:8s} {row['median_bias']:+11.4f} {row['loss']:9.4f} ({row['error']:.4f}) "
                f"{row['gap']:+11.4f} ({row['gap_error']:.4f})"
            )
    lines += ["", "direct effects along the first stage (same wrong limit): median |DRIVE - TSLS|, median TSLS"]
    lines += [f"  n = {n}: {gap:.5f}, {tsls:.4f}" for n, (gap, tsls) in along(min(runs, 400)).items()]
    lines += ["", "prediction where the instruments vary twice as much: held-out mean squared error"]
    lines += [f"  {m:8s} {value:.4f} ({error:.4f})" for m, (value, error) in held_out(runs).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    import jax

    jax.config.update("jax_enable_x64", True)
    sys.stdout.write(table(int(sys.argv[1]) if len(sys.argv) > 1 else LONG) + "\n")
