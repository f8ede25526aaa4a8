"""Coverage of the intervals of `drive`: which hold with strong instruments, which with weak ones, and which fail.

b0 = 1, n = 500, q = 4. Strong and valid: the limit law covers on both sides of the bias; the recentred bootstrap is too
short where shrinkage and bias add up; percentile intervals count the bias twice and fail there. Weak: AR and CLR cover,
the Wald and limit rows do not. Studies are mapped over the kernels; a few of them go through `cs.drive` as well.
Run as a script for the table: ``python -m tests.calibration.test_drive_coverage 1000``.
"""

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import causalsat as cs
from causalsat.inference.coverage import binomial_gate
from causalsat.simulate.iv import iv
from tests.calibration.iv_studies import (
    B0,
    METHODS,
    N,
    Q,
    bootstrap_bands,
    estimates,
    first_seed,
    fit_all,
    law_and_wald,
    studies,
    weak_tests,
)

SHORT, LONG = 300, 1000
LEVELS = (0.90, 0.95)
STRONG = {
    "strong, bias away from zero": {"concentration": 200.0, "confounding": 0.6},
    "strong, bias towards zero": {"concentration": 200.0, "confounding": -0.6},
}
WEAK = {
    "weak, bias away from zero": {"concentration": 10.0, "confounding": 0.6},
    "weak, bias towards zero": {"concentration": 10.0, "confounding": -0.6},
}
UNEVEN = {"strong, uneven errors": {"concentration": 200.0, "confounding": -0.6, "heteroskedastic": True}}
EVERY = STRONG | WEAK | UNEVEN
N_LAW = 20_000


def coverage(name: str, runs: int, draws: int) -> dict[str, np.ndarray]:
    """Studies (of ``runs``) whose interval or set holds b0, per method and level; ``draws`` 0: no bootstrap rows."""
    many = studies(runs, first_seed(name), **EVERY[name])
    fits = fit_all(many)
    normals = jnp.asarray(np.random.default_rng(0).standard_normal((N_LAW, Q)))
    bands = law_and_wald(jax.tree.map(jnp.asarray, fits), normals, LEVELS)
    intervals = {"limit": np.asarray(bands.limit), "wald tsls": np.asarray(bands.wald)}
    if draws:
        intervals |= bootstrap_bands(many, fits, draws, first_seed(name), LEVELS)
    held = {k: ((v[:, :, 0] <= B0) & (v[:, :, 1] >= B0)).sum(axis=0) for k, v in intervals.items()}
    tests = weak_tests(fits, B0)
    return held | {k: np.array([(p > 1.0 - level).sum() for level in LEVELS]) for k, p in tests.items()}


def holds(found: dict[str, np.ndarray], method: str, runs: int, level: float = 0.95) -> bool:
    return binomial_gate(method, int(found[method][LEVELS.index(level)]), runs, level).passed


def judge_strong(name: str, found: dict[str, np.ndarray], runs: int) -> None:
    for level in LEVELS:
        for method in ("limit", "wald tsls", "ar", "ar robust", "clr"):
            assert holds(found, method, runs, level), (name, method, level, found[method] / runs)
    assert found["recentred"][1] / runs > 0.85
    if "towards" in name:
        assert not holds(found, "percentile", runs)
        assert found["percentile"][1] < found["recentred"][1] <= found["limit"][1]


def judge_weak(name: str, found: dict[str, np.ndarray], runs: int) -> None:
    for level in LEVELS:
        for method in ("ar", "ar robust", "clr"):
            assert holds(found, method, runs, level), (name, method, level, found[method] / runs)
    for method in ("limit", "wald tsls"):
        assert not holds(found, method, runs), (name, method, found[method] / runs)


@pytest.mark.parametrize("name", STRONG)
def test_strong_short(name):
    judge_strong(name, coverage(name, SHORT, 399), SHORT)


@pytest.mark.parametrize("name", WEAK)
def test_weak_short(name):
    judge_weak(name, coverage(name, 2 * SHORT, 0), 2 * SHORT)


def test_uneven_errors_need_the_robust_test():
    found = coverage("strong, uneven errors", 2 * SHORT, 0)
    assert holds(found, "ar robust", 2 * SHORT) and holds(found, "limit", 2 * SHORT)
    assert not holds(found, "ar", 2 * SHORT) and not holds(found, "clr", 2 * SHORT)


@pytest.mark.calibration
@pytest.mark.parametrize("name", STRONG)
def test_strong_long(name):
    found = coverage(name, LONG, 999)
    judge_strong(name, found, LONG)
    assert 0.92 <= found["limit"][1] / LONG <= 0.97


@pytest.mark.calibration
@pytest.mark.parametrize("name", WEAK)
def test_weak_long(name):
    judge_weak(name, coverage(name, LONG, 999), LONG)


AGREEING = {"strong, bias towards zero": 6, "weak, bias away from zero": 6}
AGREEING_LONG = 100


@pytest.mark.parametrize("name", AGREEING)
def test_the_verb_gives_the_same_numbers(name):
    compare_with_the_verb(name, AGREEING[name])


@pytest.mark.calibration
@pytest.mark.parametrize("name", EVERY)
def test_the_verb_gives_the_same_numbers_often(name):
    compare_with_the_verb(name, AGREEING_LONG)


def compare_with_the_verb(name: str, runs: int) -> None:
    """Point estimates, radius, Wald limits and tests to rounding; simulated intervals within Monte Carlo error."""
    draws = 999
    many = studies(runs, first_seed(name), **EVERY[name])
    fits, found = fit_all(many), estimates(many)
    normals = jnp.asarray(np.random.default_rng(0).standard_normal((N_LAW, Q)))
    bands = law_and_wald(jax.tree.map(jnp.asarray, fits), normals, LEVELS)
    ours = {"limit": np.asarray(bands.limit)[:, 1], "wald": np.asarray(bands.wald)[:, 1]}
    ours["recentred"] = bootstrap_bands(many, fits, draws, 0, LEVELS)["recentred"][:, 1]
    tests = weak_tests(fits, B0)
    for r in range(runs):
        result = through_the_verb(name, first_seed(name) + r, draws, float(fits.rho[r]))
        table = result.table
        assert result.rho == pytest.approx(float(fits.rho[r]), rel=1e-9, abs=1e-14)
        for method in METHODS:
            row = next(i for i, m in enumerate(table["method"]) if m == method.replace("ridge", "ridge_tsls"))
            assert table["estimate"][row] == pytest.approx(found[method][r], rel=1e-8), method
        wald = table.row(method="tsls", interval="wald")
        assert (wald["conf_low"], wald["conf_high"]) == pytest.approx(tuple(ours["wald"][r]), rel=1e-8)
        for method, key in (("ar", "homoskedastic"), ("ar", "robust"), ("clr", "homoskedastic")):
            expected = tests[method if key == "homoskedastic" else "ar robust"][r]
            assert table.row(method=method, interval=key)["p_value"] == pytest.approx(expected, abs=1e-5), (method, key)
        for kind, room in (("limit", 0.02), ("recentred", 0.2)):
            row = table.row(method="drive", interval=kind)
            width = ours[kind][r][1] - ours[kind][r][0]
            gaps = np.array([row["conf_low"], row["conf_high"]]) - ours[kind][r]
            assert np.abs(gaps).max() < room * width, (kind, gaps, width)


def through_the_verb(name: str, seed: int, draws: int, ridge: float):
    data, _ = iv(n=N, q=Q, effect=B0, seed=seed, **EVERY[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.errors.CausalsatWarning)
        return cs.drive(
            data, outcome="y", treatment="x", instruments=[f"z{j + 1}" for j in range(Q)], n_boot=draws, null=B0,
            compare=("ols", "tsls", "liml", "fuller", "anchor", "ridge_tsls"),
            options=cs.DriveOptions(ridge=ridge, n_law=N_LAW),
        )  # fmt: skip


def table(runs: int) -> str:
    lines = [f"{runs} runs, n = {N}, q = {Q}, b0 = {B0:g}; coverage at nominal {LEVELS[0]:.2f} and {LEVELS[1]:.2f}"]
    lines.append("Monte Carlo standard error at .95: " + f"{np.sqrt(0.95 * 0.05 / runs):.4f}")
    for name in EVERY:
        lines.append(f"\n{name} {EVERY[name]}")
        for method, count in coverage(name, runs, 999).items():
            verdict = "" if binomial_gate(method, int(count[1]), runs, 0.95).passed else "  FAILS at .95"
            lines.append(f"  {method:10s} {count[0] / runs:.3f} {count[1] / runs:.3f}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    sys.stdout.write(table(int(sys.argv[1]) if len(sys.argv) > 1 else LONG) + "\n")
