"""Designs of units with simulated draws, and a plain multiplier bootstrap to go with a fit."""

import numpy as np
import pandas as pd

from causalsat.estimators.r3d_design import open_design
from causalsat.estimators.r3d_fit import fit_curves
from causalsat.estimators.r3d_functional_columns import functional_columns
from causalsat.estimators.r3d_functional_names import parsed_functionals
from causalsat.estimators.r3d_functionals import SideDraws, functional_rows


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
