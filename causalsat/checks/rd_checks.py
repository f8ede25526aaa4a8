"""What every regression discontinuity should show first: covariates, thin windows, mass points, atoms."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.inference.joint import adjusted_p_values, wald

LEVEL = 0.05
LEAST_UNITS = 20
LEAST_DF = 4.0
_TIED = 0.2
_AT_CUTOFF = 0.05
_AGREE = 0.5
_SIDES = ("right", "left")


def covariates_check(
    names: Sequence[str], jumps: np.ndarray, covariance: np.ndarray, *, df: float = math.inf
) -> CheckResult:
    """Check "covariates": nothing predetermined jumps at the cutoff.

    Each covariate, and the logarithm of the units' number of draws where it varies, is put through the estimate's own
    window, weights and order. Under continuity each jump is zero; together they are judged by W/k against F(k, df),
    with W the Wald statistic.

    Parameters
    ----------
    names : sequence of str
        k columns.
    jumps : np.ndarray
        (k,) discontinuities.
    covariance : np.ndarray
        (k, k) their covariance.
    df : float
        Degrees of freedom of one jump; inf judges by chi-squared.

    Returns
    -------
    CheckResult
        ``statistic``: the joint p-value. ``table``: one row per column with its jump, standard error, p-value and
        Holm-adjusted p-value. None when there is nothing to compare.
    """
    from scipy import stats

    jumps, covariance = np.asarray(jumps, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    if not len(names):
        text = "There are no covariates and all units have equally many draws: nothing to compare at the cutoff."
        return CheckResult("covariates", None, math.nan, text)
    se = np.sqrt(np.diag(covariance))
    live = se > 0.0
    law = stats.t(df) if math.isfinite(df) else stats.norm()
    p = np.where(live, 2.0 * law.sf(np.abs(jumps) / np.where(live, se, 1.0)), np.nan)
    table: dict[str, list[Any]] = {
        "column": list(names), "jump": jumps.tolist(), "std_error": se.tolist(), "p_value": p.tolist(),
        "p_holm": adjusted_p_values("holm", jumps, np.where(live, se, np.nan), p).tolist(),
    }  # fmt: skip
    if not live.any():
        text = "No covariate varies around its fit: their jumps have no standard error."
        return CheckResult("covariates", None, math.nan, text, table)
    chi2, rank, p_joint = wald(jumps[live], covariance[np.ix_(live, live)])
    if math.isfinite(df):
        p_joint = float(stats.f.sf(chi2 / rank, rank, df))
    worst = int(np.nanargmin(p))
    text = (
        f"Jumps of {len(names)} covariate{'s' * (len(names) > 1)} at the cutoff: Wald {chi2:.3f} on {rank} degrees of "
        f"freedom, p = {p_joint:.4f}; the most marked is {names[worst]} with {jumps[worst]:.4g} (p = {p[worst]:.4f})."
    )
    passed = p_joint >= LEVEL
    if not passed:
        text += " Units differ across the cutoff in more than treatment: sorting, a compound border, or missing draws."
    return CheckResult("covariates", passed, p_joint, text, table)


def effective_n_check(
    n_window: np.ndarray, n_effective: np.ndarray, largest: np.ndarray, df: float, *, h: np.ndarray
) -> CheckResult:
    """Check "effective_n": enough units carry the estimate.

    Parameters
    ----------
    n_window, n_effective, largest : np.ndarray
        (2,) right and left: units with weight, 1 / sum of squared weights, largest absolute weight of a unit.
    df : float
        Effective degrees of freedom of the t law.
    h : np.ndarray
        (2,) bandwidths.

    Returns
    -------
    CheckResult
        ``statistic``: the smaller effective number. Fails under 20 units on a side or 4 degrees of freedom.
    """
    n_window, n_effective = np.asarray(n_window), np.asarray(n_effective, dtype=np.float64)
    table: dict[str, list[Any]] = {
        "side": list(_SIDES),
        "h": [float(v) for v in h],
        "n_window": [int(v) for v in n_window],
        "n_effective": n_effective.tolist(),
        "largest_weight": [float(v) for v in largest],
    }
    passed = bool((n_window >= LEAST_UNITS).all() and df >= LEAST_DF)
    text = (
        f"{n_window[0]} units right and {n_window[1]} left of the cutoff lie in the window; they are worth "
        f"{n_effective[0]:.1f} and {n_effective[1]:.1f} of equal weight ({df:.1f} degrees of freedom), and no unit "
        f"weighs more than {float(np.max(largest)):.2f}."
    )
    if not passed:
        text += (
            f" That is thin (fewer than {LEAST_UNITS} on a side, or fewer than {LEAST_DF:g} degrees of freedom): "
            "intervals lean on normal errors. Widen the window, or lower the order."
        )
    return CheckResult("effective_n", passed, float(n_effective.min()), text, table)


def mass_points_check(x: np.ndarray, right: np.ndarray, inside: np.ndarray | None = None) -> CheckResult:
    """Check "mass_points": the running variable is continuous near the cutoff.

    Parameters
    ----------
    x : np.ndarray
        (n,) running variable less cutoff.
    right : np.ndarray
        (n,) bool, units that count as right of the cutoff.
    inside : np.ndarray, optional
        (n,) bool, units of the window; None takes all.

    Returns
    -------
    CheckResult
        ``statistic``: the share of units in the window that repeat a value. Fails from 20 % on, or when more than 5 %
        of them stand exactly at the cutoff.
    """
    x, right = np.asarray(x, dtype=np.float64), np.asarray(right, dtype=bool)
    inside = np.ones(x.size, dtype=bool) if inside is None else np.asarray(inside, dtype=bool)
    table: dict[str, list[Any]] = {"side": list(_SIDES), "units": [], "distinct": [], "largest_mass": []}
    for own in (right, ~right):
        _, counts = np.unique(x[own & inside], return_counts=True)
        table["units"].append(int(counts.sum()))
        table["distinct"].append(int(counts.size))
        table["largest_mass"].append(int(counts.max(initial=0)))
    n, distinct = sum(table["units"]), sum(table["distinct"])
    repeated = 1.0 - distinct / max(n, 1)
    at_cutoff = float((x[inside] == 0.0).mean()) if n else 0.0
    passed = repeated < _TIED and at_cutoff <= _AT_CUTOFF
    text = (
        f"{n} units of the window take {distinct} distinct values of the running variable ({repeated:.0%} repeat one); "
        f"{at_cutoff:.1%} stand exactly at the cutoff."
    )
    if repeated >= _TIED:
        text += (
            " A coarse running variable extrapolates from its nearest values: use few orders, cluster on its values, "
            "and read the density check with care."
        )
    if at_cutoff > _AT_CUTOFF:
        text += ' Units at the cutoff count by the tie rule: compare tie="drop".'
    return CheckResult("mass_points", passed, repeated, text, table)


def atoms_check(Q: np.ndarray, quantiles: np.ndarray, inside: np.ndarray | None = None) -> CheckResult:
    """Check "atoms": units do not agree on a quantile, as at zero light or at a saturated sensor.

    Where most units share a value the average quantile function is flat, and the theory of its monotone version, which
    needs a positive slope, does not hold there.

    Parameters
    ----------
    Q : np.ndarray
        (n, M) quantiles of the units.
    quantiles : np.ndarray
        (M,) levels.
    inside : np.ndarray, optional
        (n,) bool, units of the window; None takes all.

    Returns
    -------
    CheckResult
        ``statistic``: the largest share of units in the window that agree at a level. Fails above one half.
        ``table``: per level the shares at the outcome's minimum, at its maximum, and at the commonest value.
    """
    values, quantiles = np.asarray(Q, dtype=np.float64), np.asarray(quantiles, dtype=np.float64)
    values = values if inside is None else values[np.asarray(inside, dtype=bool)]
    low, high = (values == values.min()).mean(axis=0), (values == values.max()).mean(axis=0)
    commonest = _commonest(values)
    table: dict[str, list[Any]] = {
        "quantile": quantiles.tolist(), "at_minimum": low.tolist(), "at_maximum": high.tolist(),
        "commonest": commonest.tolist(),
    }  # fmt: skip
    worst = int(np.argmax(commonest))
    flat = commonest > _AGREE
    passed = not bool(flat.any())
    text = (
        f"At most {commonest[worst]:.0%} of the units in the window share a value at one quantile "
        f"(q = {quantiles[worst]:.4g}); at the outcome's minimum {low.max():.0%}, at its maximum {high.max():.0%}."
    )
    if not passed:
        text += (
            f" More than half agree at {int(flat.sum())} of {quantiles.size} levels, from q = {quantiles[flat][0]:.4g} "
            f"to {quantiles[flat][-1]:.4g}: leave them out (test_range), or report the share beyond the atom "
            "(unit:exceed)."
        )
    return CheckResult("atoms", passed, float(commonest[worst]), text, table)


def _commonest(Q: np.ndarray) -> np.ndarray:
    """(M,) share of the commonest value in each column."""
    ranked = np.sort(Q, axis=0)
    same = np.concatenate([np.zeros((1, Q.shape[1]), dtype=bool), ranked[1:] == ranked[:-1]])
    longest = np.zeros(Q.shape[1], dtype=np.int64)
    run = np.zeros(Q.shape[1], dtype=np.int64)
    for row in same:
        run = np.where(row, run + 1, 1)
        longest = np.maximum(longest, run)
    return np.asarray(longest / max(len(Q), 1))
