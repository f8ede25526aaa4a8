"""Trimming by the propensity: where to cut, who is left, and how those who go differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, number


def crump_threshold(m: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The cut a of Crump, Hotz, Imbens and Mitnik: keep a <= m <= 1-a.

    The smallest a with 1/(a(1-a)) <= 2 mean[1/(m(1-m)) | kept]; it minimises the variance bound of the average effect
    among those kept when the outcome noise is homoskedastic. 0 when nobody need go.

    Parameters
    ----------
    m : np.ndarray
        (n,) float64 propensities inside (0, 1).
    weights : np.ndarray, optional
        (n,) float64 row weights.

    Returns
    -------
    float
        a in [0, 0.5).

    Raises
    ------
    DataError
        A propensity that is not inside (0, 1).

    References
    ----------
    Crump, Hotz, Imbens and Mitnik (2009), "Dealing with limited overlap in estimation of average treatment effects".

    Examples
    --------
    >>> round(crump_threshold(np.array([0.001, 0.3, 0.4, 0.5, 0.6])), 4)
    0.1353
    """
    m = np.asarray(m, dtype=np.float64)
    outside = ~((m > 0.0) & (m < 1.0))
    if outside.any() or m.size == 0:
        raise DataError(f"{int(outside.sum())} of {m.size} propensities are not inside (0, 1); clip them first.")
    w = np.ones_like(m) if weights is None else np.asarray(weights, dtype=np.float64)
    k = 1.0 / (m * (1.0 - m))
    order = np.argsort(k)
    k, w = k[order], w[order]
    # With the j smallest k kept the cut may be anything in [k_j, k_{j+1}); the largest feasible j fixes the cut.
    means = np.cumsum(w * k) / np.maximum(np.cumsum(w), np.finfo(np.float64).tiny)
    last = int(np.flatnonzero(k <= 2.0 * means)[-1])
    if last == k.size - 1:
        return 0.0
    return float(0.5 - np.sqrt(0.25 - 1.0 / (2.0 * means[last])))


def trim_mask(m: np.ndarray, cut: float) -> np.ndarray:
    """(n,) bool: a <= m <= 1-a. ``cut=0`` keeps every row.

    Examples
    --------
    >>> trim_mask(np.array([0.05, 0.5]), 0.1)
    array([False,  True])
    """
    cut = number("trim", cut, 0.0, 0.5, open_ends=False)
    m = np.asarray(m, dtype=np.float64)
    return (m >= cut) & (m <= 1.0 - cut)


def trimming_check(
    label: str, d: np.ndarray, m: np.ndarray, cut: float, columns: Mapping[str, np.ndarray] | None = None
) -> CheckResult:
    """Who a trim drops: rows lost per arm, and means of the columns among those kept and dropped.

    Trimming changes the estimand to the average effect among rows with cut <= m <= 1-cut. Passes when at most 5% go.

    Parameters
    ----------
    label : str
        "treatment, set".
    d : np.ndarray
        (n,) float64 treatment, 0 or 1.
    m : np.ndarray
        (n,) float64 propensity.
    cut : float
        The a of ``trim_mask``.
    columns : mapping of str to np.ndarray, optional
        (n,) float64 columns for the profile (covariates, longitude, latitude); missing values are left out.
    """
    keep = trim_mask(m, cut)
    d = np.asarray(d, dtype=np.float64)
    lost1, lost0 = int((~keep & (d == 1.0)).sum()), int((~keep & (d == 0.0)).sum())
    share = float((~keep).mean())
    table: dict[str, list[Any]] = {"column": [], "mean_kept": [], "mean_dropped": []}
    for name, values in (columns or {}).items():
        table["column"].append(name)
        table["mean_kept"].append(_mean(values[keep]))
        table["mean_dropped"].append(_mean(values[~keep]))
    text = (
        f"Keeping {cut:.4g} <= m <= {1.0 - cut:.4g} drops {lost1} treated and {lost0} controls ({share:.1%} of rows); "
        "the estimand is the average effect among those kept."
    )
    if share > 0.05:
        text += ' More than 5% would go: estimand="ato" answers a similar question with every row.'
    return CheckResult(f"trimming[{label}]", share <= 0.05, share, text, table)


def _mean(values: np.ndarray) -> float:
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")
