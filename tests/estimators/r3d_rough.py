"""Designs of units with simulated draws, and a plain multiplier bootstrap to go with a fit."""

import numpy as np
import pandas as pd

from causalsat.estimators.r3d_design import open_design
from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_functional_columns import functional_columns
from causalsat.estimators.r3d_functional_names import parsed_functionals
from causalsat.estimators.r3d_functionals import SideDraws, functional_rows, side_draws
from causalsat.estimators.r3d_inference import infer
from causalsat.estimators.r3d_options import validated_choices

CHOICES = {
    "estimator": "frechet", "order": 2, "kernel": "triangular", "bandwidth": 0.5, "bandwidth_treatment": None,
    "quantile_rule": "type7", "small_sample": None, "functionals": (), "thresholds": (), "tests": (),
    "test_range": None, "band": None, "critical": "t", "residuals": "hc2", "donut": 0.0, "tie": "treated",
    "level": 0.95, "inference": None, "n_boot": None, "seed": 0, "checks": None, "compat": None,
}  # fmt: skip


def units(x, draws, **options):
    """R3dDesign of units at ``x`` with draws (n, k), or an outcome of another shape."""
    frame = pd.DataFrame({"x": x, **options.pop("columns", {})})
    return open_design(frame, outcome=draws, running="x", **options)


def rough_draws(design, fit, n_boot, seed, df=None):
    """SideDraws with hc2 contributions and normal multipliers; fuzzy contributions are merged at the jump."""
    columns = fit.columns
    spread = columns.residuals / np.sqrt(1.0 - np.minimum(columns.leverage, 0.999))[:, None]
    both = columns.limits[:, :, None] * spread[None]
    merged = both[0] - both[1]
    if fit.treatment is not None:
        t = fit.treatment
        own = (t.limits[0] - t.limits[1]) * t.residuals[:, 0] / np.sqrt(1.0 - np.minimum(t.leverage, 0.999))
        effect = (columns.raw[0] - columns.raw[1]) / fit.first_stage
        merged = (merged - effect[None, :] * own[:, None]) / fit.first_stage
    rng = np.random.default_rng(seed)
    xi = rng.standard_normal((n_boot, design.x.size))
    df = np.inf if df is None else df
    factors = np.ones(n_boot) if np.isinf(df) else np.sqrt(df / rng.chisquare(df, n_boot))
    k = merged.shape[1]
    return SideDraws(
        lambda: (xi @ both[0], xi @ both[1]), xi @ merged, np.sqrt((merged**2).sum(axis=0)), np.full(k, df),
        factors[:, None],
    )  # fmt: skip


def rows_of(design, names, h, *, thresholds=(), n_boot=199, seed=0, level=0.95, df=None, **fit_options):
    """Functional rows by name, and the fit."""
    wanted = parsed_functionals(names, thresholds)
    columns = functional_columns(wanted, design)
    fit = fit_curves(design, np.full(2, h), extra=columns.values, **fit_options)
    draws = rough_draws(design, fit, n_boot, seed, df)
    rows = functional_rows(wanted, columns, fit, draws, quantiles=design.quantiles, level=level)
    return {row.name: row for row in rows}, fit


def inferred_rows(seed, names, draws_of, *, n=200, h=0.8, n_boot=199, thresholds=(), level=0.95, **data):
    """Functional rows by name from simulated units, with the errors and draws of `infer`.

    ``draws_of(rng, x)`` gives draws (n, k) of units at ``x``.
    """
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n)
    design = units(x, draws_of(rng, x), quantiles=9, **data)
    wanted = parsed_functionals(names, thresholds)
    columns = functional_columns(wanted, design)
    fit = fit_curves(design, np.full(2, h), extra=columns.values)
    choices = validated_choices(**{**CHOICES, "n_boot": n_boot, "seed": seed, "level": level})
    found = infer(design, fit, choices)
    rows = functional_rows(wanted, columns, fit, side_draws(found), quantiles=design.quantiles, level=level)
    return {row.name: row for row in rows}


def inferred_draws(seed, names, draws_of, *, n=200, h=0.8, n_boot=199):
    """The R3dInference behind `inferred_rows`, with a studentized band."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, n)
    design = units(x, draws_of(rng, x), quantiles=9)
    columns = functional_columns(parsed_functionals(names), design)
    fit = fit_curves(design, np.full(2, h), extra=columns.values)
    return infer(design, fit, validated_choices(**{**CHOICES, "band": "studentized", "n_boot": n_boot, "seed": seed}))


def lognormal_draws(shift=0.0, wider=0.0, k=50):
    """Lognormal draws whose median and spread differ between units, with jumps of both at zero."""

    def draws(rng, x):
        centre = 0.3 * rng.standard_normal(x.size) + 0.2 * x + shift * (x >= 0.0)
        spread = 0.5 + wider * (x >= 0.0) + 0.1 * rng.uniform(-1.0, 1.0, x.size)
        return np.exp(centre[:, None] + spread[:, None] * rng.standard_normal((x.size, k)))

    return draws


def lopsided_draws(right, left):
    """Draws of one lognormal everywhere, ``right`` of them per unit on one side of zero and ``left`` on the other."""

    def draws(rng, x):
        z = np.exp(rng.standard_normal((x.size, max(right, left))))
        taken = np.where(x >= 0.0, right, left)
        return np.where(np.arange(z.shape[1]) < taken[:, None], z, np.nan)

    return draws


def shifted_draws(shift, k=50):
    """Normal draws whose location jumps by ``shift`` at zero: W2 is |shift| whatever the number of draws."""

    def draws(rng, x):
        centre = rng.standard_normal(x.size) + x + x**2 + shift * (x >= 0.0)
        spread = 1.0 + 0.3 * rng.uniform(-1.0, 1.0, x.size)
        return centre[:, None] + spread[:, None] * rng.standard_normal((x.size, k))

    return draws


def widening_draws(below, above, k=1000):
    """Lognormal draws of units that are all alike on a side: the average distribution is that of every unit."""

    def draws(rng, x):
        sigma = np.where(x >= 0.0, above, below)
        return np.exp(sigma[:, None] * rng.standard_normal((x.size, k)))

    return draws


def widening_truth(below, above):
    """Jumps of mean, variance, sd, gini, share_top(.1) and w2 between the two lognormal distributions."""
    from scipy import stats

    def of(sigma):
        mean, square = np.exp(sigma**2 / 2), np.exp(2 * sigma**2)
        tail = stats.norm.cdf(sigma - stats.norm.ppf(0.9))
        gini = 2 * stats.norm.cdf(sigma / np.sqrt(2)) - 1
        return np.array([mean, square - mean**2, np.sqrt(square - mean**2), gini, tail])

    cross = np.exp((below + above) ** 2 / 2)
    w2 = np.sqrt(np.exp(2 * below**2) + np.exp(2 * above**2) - 2 * cross)
    return dict(zip(("mean", "variance", "sd", "gini", "share_top(0.1)", "w2"), [*(of(above) - of(below)), w2]))
