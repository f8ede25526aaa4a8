"""Regression discontinuities run again: at placebo cutoffs, other bandwidths, before treatment, with other blocks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import CausalsatError, DataError
from causalsat.inference.joint import adjusted_p_values

LEVEL = 0.05
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
_WIDER = 1.25
_MOVES = 1.0
_EXPECTED = ("after", "before")


@dataclass(frozen=True, eq=False)
class Refit:
    """What one run says.

    Attributes
    ----------
    statistic, p_value : float
        Sup statistic of no effect at any quantile, and its p-value.
    mean, std_error : float
        Mean effect over quantiles.
    n_effective : np.ndarray
        (2,) units of equal weight, right and left.
    h : np.ndarray
        (2,) bandwidths right and left.
    tau, tau_error : np.ndarray
        (M,) effects on quantiles and their standard errors.
    """

    statistic: float
    p_value: float
    mean: float
    std_error: float
    n_effective: np.ndarray
    h: np.ndarray
    tau: np.ndarray = field(default_factory=lambda: np.zeros(0))
    tau_error: np.ndarray = field(default_factory=lambda: np.zeros(0))


def placebo_cutoffs(x: np.ndarray, right: np.ndarray) -> list[tuple[str, float, np.ndarray]]:
    """Side, cutoff and units (n,) bool of the placebo runs: the median of each side, with that side's units only."""
    x, right = np.asarray(x, dtype=np.float64), np.asarray(right, dtype=bool)
    return [(name, float(np.median(x[own])), own) for name, own in (("right", right), ("left", ~right))]


def placebo_check(x: np.ndarray, right: np.ndarray, run: Callable[[np.ndarray, float], Refit]) -> CheckResult:
    """Check "placebo_cutoffs": no effect where there is no cutoff.

    Parameters
    ----------
    x, right : np.ndarray
        (n,) running variable less cutoff, and its side.
    run : callable
        ``run(rows, cutoff)`` fits the units ``rows`` (n,) bool at another cutoff (on the scale of ``x``).

    Returns
    -------
    CheckResult
        ``statistic``: the smallest p-value of no effect at any quantile, adjusted for two runs (Holm). Passes when it
        is at least .05; None when no run was possible.
    """
    table: dict[str, list[Any]] = {name: [] for name in ("side", "cutoff", *_COLUMNS, "reason")}
    for side, cutoff, rows in placebo_cutoffs(x, right):
        _append(table, {"side": side, "cutoff": cutoff}, run, rows, cutoff)
    p = _with_adjusted(table)
    if np.isnan(p).all():
        return CheckResult("placebo_cutoffs", None, math.nan, f"No placebo run: {table['reason'][0]}", table)
    worst = int(np.nanargmin(p))
    passed = bool(p[worst] >= LEVEL)
    text = (
        f"At the median of each side, with that side's units only: the smallest adjusted p-value of no effect at any "
        f"quantile is {p[worst]:.4f} ({table['side'][worst]} of the cutoff)."
    )
    if not passed:
        text += " There is an effect where nothing happened: the polynomial is too stiff, or other borders run there."
    return CheckResult("placebo_cutoffs", passed, float(p[worst]), text, table)


def bandwidth_check(
    run: Callable[[float, str, int], Refit],
    *,
    kernel: str,
    order: int,
    kernels: Sequence[str] = ("triangular", "epanechnikov", "uniform"),
    orders: Sequence[int] = (1, 2),
    factors: Sequence[float] = FACTORS,
    note: str = "",
) -> CheckResult:
    """Check "bandwidth": the effect does not hang on the window, the kernel or the order.

    Parameters
    ----------
    run : callable
        ``run(factor, kernel, order)`` fits at ``factor`` times the bandwidth in use.
    kernel, order
        Of the estimate itself.
    kernels, orders, factors : sequence
        The grid.
    note : str
        What is to be said of the bandwidth in use: that it was widened.

    Returns
    -------
    CheckResult
        ``statistic``: the largest distance of the mean effect from the estimate's, in standard errors (the larger of
        the two); passes up to 1.96. ``table``: one row per run.
    """
    table: dict[str, list[Any]] = {name: [] for name in ("factor", "kernel", "order", *_COLUMNS, "reason")}
    for name in kernels:
        for degree in orders:
            for factor in factors:
                own = {"factor": float(factor), "kernel": name, "order": int(degree)}
                _append(table, own, run, float(factor), name, int(degree))
    try:
        base = run(1.0, kernel, order)
    except CausalsatError as error:
        return CheckResult("bandwidth", None, math.nan, f"The estimate itself cannot be run again: {error}", table)
    mean, se = np.array(table["mean"]), np.array(table["std_error"])
    distance = np.abs(mean - base.mean) / np.fmax(se, base.std_error)
    if np.isnan(distance).all():
        return CheckResult("bandwidth", None, math.nan, "No run has a standard error.", table)
    worst = int(np.nanargmax(distance))
    passed = bool(distance[worst] <= 1.96)
    significant = int((np.array(table["p_value"]) < LEVEL).sum())
    text = (
        f"Over {int(np.isfinite(mean).sum())} runs the mean effect lies between {np.nanmin(mean):.4g} and "
        f"{np.nanmax(mean):.4g} (estimate {base.mean:.4g}); {significant} of them find an effect at some "
        f"quantile (p < {LEVEL:g}). The furthest is {table['factor'][worst]:g} h, "
        f"{table['kernel'][worst]}, order {table['order'][worst]}: {distance[worst]:.2f} standard errors away."
    )
    if not passed:
        text += " The estimate depends on the window: plot it against h before quoting it."
    if note:
        text += f" As to the bandwidth itself: {note}."
    return CheckResult("bandwidth", passed, float(distance[worst]), text, table)


def pre_period_check(found: Refit, outcome: str) -> CheckResult:
    """Check "pre_period": the same run on the outcome before treatment finds nothing.

    Parameters
    ----------
    found : Refit
        The run on the earlier outcome.
    outcome : str
        Its name.

    Returns
    -------
    CheckResult
        ``statistic``: p-value of no effect at any quantile; passes from .05 on.
    """
    table: dict[str, list[Any]] = {name: [value] for name, value in _numbers(found).items()}
    passed = None if math.isnan(found.p_value) else found.p_value >= LEVEL
    text = (
        f"Before treatment ({outcome}) the mean effect is {found.mean:.4g} (s.e. {found.std_error:.4g}); no effect at "
        f"any quantile: p = {found.p_value:.4f}."
    )
    if passed is False:
        text += " The sides differed before treatment: difference the outcomes, or look for another border."
    return CheckResult("pre_period", passed, found.p_value, text, table)


def blocks_check(block_km: Sequence[float], errors: np.ndarray, base: np.ndarray) -> CheckResult:
    """Check "blocks": standard errors do not grow when neighbours may be dependent.

    Parameters
    ----------
    block_km : sequence of float
        Sizes of the blocks.
    errors : np.ndarray
        (b, M) standard errors of the effects with each size; a row of NaN could not be had.
    base : np.ndarray
        (M,) standard errors of the estimate.

    Returns
    -------
    CheckResult
        ``statistic``: the largest ratio (median over quantiles) to the estimate's standard errors; passes up to 1.25.
    """
    errors, base = np.asarray(errors, dtype=np.float64), np.asarray(base, dtype=np.float64)
    live = base > 0.0
    ratio = np.array([_median(row[live] / base[live]) for row in errors])
    table: dict[str, list[Any]] = {
        "block_km": [float(v) for v in block_km],
        "std_error": [_median(row[live]) for row in errors],
        "ratio": ratio.tolist(),
    }
    if not np.isfinite(ratio).any():
        return CheckResult("blocks", None, math.nan, "No block size gave standard errors.", table)
    worst = int(np.nanargmax(ratio))
    passed = bool(ratio[worst] <= _WIDER)
    text = (
        f"With blocks of {table['block_km'][worst]:g} km the standard errors are {ratio[worst]:.2f} times those of the "
        "estimate (median over quantiles), the most of the sizes tried."
    )
    if not passed:
        text += ' Neighbours are dependent: use inference=Bootstrap(scheme="block", block_km=...) of about that size.'
    return CheckResult("blocks", passed, float(ratio[worst]), text, table)


def small_units_check(runs: Mapping[str, Refit], base: str, quantiles: np.ndarray) -> CheckResult:
    """Check "small_units": effects do not hang on how the quantiles of small units are taken.

    Parameters
    ----------
    runs : mapping of str to Refit
        "type7", "type9", "half" -> run with that rule.
    base : str
        The rule in use.
    quantiles : np.ndarray
        (M,) levels.

    Returns
    -------
    CheckResult
        ``statistic``: the largest distance of an effect from the one in use, in its standard errors; passes up to 1.
        ``table``: one row per rule and level.

    Raises
    ------
    DataError
        ``base`` is not among ``runs``.
    """
    if base not in runs:
        raise DataError(f'small_units compares with "{base}", which was not run: {", ".join(runs)}.')
    own = runs[base]
    table: dict[str, list[Any]] = {"rule": [], "quantile": [], "estimate": [], "std_error": []}
    worst, where = 0.0, ("", math.nan)
    for rule, run in runs.items():
        table["rule"] += [rule] * run.tau.size
        table["quantile"] += np.asarray(quantiles).tolist()
        table["estimate"] += run.tau.tolist()
        table["std_error"] += run.tau_error.tolist()
        live = own.tau_error > 0.0
        distance = np.where(live, np.abs(run.tau - own.tau) / np.where(live, own.tau_error, 1.0), 0.0)
        if distance.size and distance.max() > worst:
            worst, where = float(distance.max()), (rule, float(quantiles[int(np.argmax(distance))]))
    passed = worst <= _MOVES
    text = f"Quantile rules {', '.join(runs)}: effects move by at most {worst:.2f} standard errors"
    text += f" ({where[0]}, q = {where[1]:.4g})." if where[0] else "."
    if not passed:
        text += ' Units are too small for this rule: quote quantile_rule="type9" or small_sample="half".'
    return CheckResult("small_units", passed, worst, text, table)


def dates_check(
    dates: Mapping[str, np.ndarray], treated_on: np.ndarray, right: np.ndarray, expected: Mapping[str, str]
) -> CheckResult:
    """Check "dates": imagery of the outcome is newer than treatment, imagery of covariates older, alike on both sides.

    Parameters
    ----------
    dates : mapping of str to np.ndarray
        Column -> (n,) datetime64 of the imagery behind it, NaT unknown.
    treated_on : np.ndarray
        (n,) or scalar datetime64, when treatment began.
    right : np.ndarray
        (n,) bool, side of the cutoff.
    expected : mapping of str to str
        Column -> "after" or "before".

    Returns
    -------
    CheckResult
        ``statistic``: the share of dated units on the wrong side of treatment, over all columns. Fails when any is;
        None when nothing is dated.

    Raises
    ------
    DataError
        A column without an expectation.
    """
    right = np.asarray(right, dtype=bool)
    start = np.broadcast_to(np.asarray(treated_on, dtype="datetime64[D]"), right.shape)
    names = ("column", "expected", "older", "newer", "undated", "days_between_sides")
    table: dict[str, list[Any]] = {name: [] for name in names}
    wrong = dated = 0
    for column, when in dates.items():
        if expected.get(column) not in _EXPECTED:
            raise DataError(f'dates: say whether "{column}" is "before" or "after" treatment.')
        day = np.asarray(when, dtype="datetime64[D]")
        known = ~(np.isnat(day) | np.isnat(start))
        older = int((day[known] < start[known]).sum())
        newer = int(known.sum()) - older
        dated, wrong = dated + older + newer, wrong + (older if expected[column] == "after" else newer)
        gap = _median(day[known & right].astype(float)) - _median(day[known & ~right].astype(float))
        for name, value in zip(
            names, (column, expected[column], older, newer, int((~known).sum()), gap), strict=True
        ):  # fmt: skip
            table[name].append(value)
    if not dated:
        return CheckResult("dates", None, math.nan, "No image is dated: nothing can be said about timing.", table)
    undated = sum(table["undated"])
    text = f"{wrong} of {dated} dated images stand on the wrong side of treatment; {undated} are undated."
    gaps = np.abs(np.array(table["days_between_sides"], dtype=np.float64))
    if np.isfinite(gaps).any():
        text += f" Median dates differ by at most {np.nanmax(gaps):.0f} days between the sides."
    if wrong:
        text += " Leave those units out, or choose imagery by date."
    return CheckResult("dates", wrong == 0, wrong / dated, text, table)


_COLUMNS = ("h_right", "h_left", "n_effective", "mean", "std_error", "statistic", "p_value")


def _numbers(found: Refit) -> dict[str, float]:
    return {
        "h_right": float(found.h[0]), "h_left": float(found.h[1]), "n_effective": float(np.min(found.n_effective)),
        "mean": found.mean, "std_error": found.std_error, "statistic": found.statistic, "p_value": found.p_value,
    }  # fmt: skip


def _append(table: dict[str, list[Any]], own: dict[str, Any], run: Callable[..., Refit], *arguments: Any) -> None:
    """One row of a table of runs; a run that is not possible leaves its reason."""
    try:
        row: dict[str, Any] = {**own, **_numbers(run(*arguments)), "reason": ""}
    except CausalsatError as error:
        row = {**own, **dict.fromkeys(_COLUMNS, math.nan), "reason": str(error)}
    for name, value in row.items():
        table[name].append(value)


def _with_adjusted(table: dict[str, list[Any]]) -> np.ndarray:
    """Holm's p-values of the runs, added to the table as ``p_holm``."""
    p = np.array(table["p_value"], dtype=np.float64)
    statistic = np.array(table["statistic"], dtype=np.float64)
    adjusted = adjusted_p_values("holm", statistic, np.where(np.isfinite(p), 1.0, np.nan), p)
    table["p_holm"] = adjusted.tolist()
    return adjusted


def _median(values: np.ndarray) -> float:
    fine = values[np.isfinite(values)]
    return float(np.median(fine)) if fine.size else math.nan
