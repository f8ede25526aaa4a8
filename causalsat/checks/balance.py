"""Are treated and controls alike, before and after weighting?"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import DataError

LIMIT = 0.1
_SE = 2.0
_LEVEL = 0.05
COMPONENTS = 20


def balance_check(
    label: str,
    columns: Mapping[str, np.ndarray],
    d: np.ndarray,
    w_treated: np.ndarray,
    w_control: np.ndarray,
    *,
    weights: np.ndarray | None = None,
) -> CheckResult:
    """Standardised mean differences (x1 - x0) / sqrt((s1^2 + s0^2)/2) before and after weighting.

    The denominator is the unweighted one in both columns, so that weighting cannot improve a difference by inflating
    the variance. A column passes when its absolute difference after weighting is below max(.1, 2 se), with
    se = sqrt(1/n1 + 1/n0) of the arms' effective sizes after weighting: what chance alone leaves under random
    assignment, rows being independent. The check fails when more columns exceed that limit than chance explains (the
    95% point of the binomial law of their number), or one exceeds it by far (Sidak's bound over the columns).

    Parameters
    ----------
    label : str
        "treatment, set".
    columns : mapping of str to np.ndarray
        (n,) float64 columns: covariates, embedding components, longitude, latitude. Missing values are left out.
    d : np.ndarray
        (n,) float64 treatment, 0 or 1.
    w_treated, w_control : np.ndarray
        (n,) float64 estimation weights; entries of the other arm are ignored.
    weights : np.ndarray, optional
        (n,) float64 row weights of both columns.

    Returns
    -------
    CheckResult
        ``statistic``: the largest absolute difference after weighting. ``table``: one row per column with the means,
        ``smd_before`` and ``smd_after`` (NaN for a column that does not vary): the data of a love plot; and
        ``se`` of the difference under random assignment.

    References
    ----------
    Austin (2009), "Balance diagnostics for comparing the distribution of baseline covariates between treatment
    groups in propensity-score matched samples", on the .1 rule and its sampling variation.
    """
    d = np.asarray(d, dtype=np.float64)
    if not ((d == 1.0).any() and (d == 0.0).any()):
        raise DataError(f"balance[{label}] compares two arms and one of them is empty.")
    base = np.ones_like(d) if weights is None else np.asarray(weights, dtype=np.float64)
    names = ("column", "mean_treated", "mean_control", "smd_before", "smd_after", "se")
    table: dict[str, list[Any]] = {name: [] for name in names}
    for column, values in columns.items():
        row = _difference(
            np.asarray(values, dtype=np.float64), d, base, base * np.where(d == 1.0, w_treated, w_control)
        )
        for name, value in zip(names, (column, *row)):
            table[name].append(value)
    after = np.abs(np.asarray(table["smd_after"], dtype=np.float64))
    if not np.isfinite(after).any():
        return CheckResult(f"balance[{label}]", None, float("nan"), "No column varies: nothing to balance.", table)
    worst = int(np.nanargmax(after))
    large = int((after >= LIMIT).sum())
    exceeding, by_chance, passed = _beyond_chance(after, np.asarray(table["se"], dtype=np.float64))
    text = (
        f"{large} of {after.size} columns differ by .1 standard deviations or more after weighting, {exceeding} of "
        f"them by more than two standard errors (chance alone explains up to {by_chance}); the largest is "
        f'"{table["column"][worst]}" with {table["smd_after"][worst]:.3f} ({table["smd_before"][worst]:.3f} before).'
    )
    return CheckResult(f"balance[{label}]", passed, float(after[worst]), text, table)


def _beyond_chance(after: np.ndarray, se: np.ndarray) -> tuple[int, int, bool]:
    """Columns above max(.1, 2 se), the number of them that chance explains, and whether the columns pass together."""
    from scipy.stats import binom, norm

    seen = np.isfinite(after)
    size, se = after[seen], se[seen]
    limit = np.maximum(LIMIT, _SE * se)
    exceeding = int((size >= limit).sum())
    by_chance = int(binom.ppf(1.0 - _LEVEL, size.size, float((2.0 * norm.sf(limit / se)).mean())))
    far = norm.isf((1.0 - (1.0 - _LEVEL) ** (1.0 / size.size)) / 2.0) * se
    return exceeding, by_chance, exceeding <= by_chance and not (size >= np.maximum(limit, far)).any()


def _difference(x: np.ndarray, d: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, ...]:
    seen = np.isfinite(x)
    arms = [seen & (d == arm) for arm in (1.0, 0.0)]
    if not all(before[arm].sum() > 0.0 and after[arm].sum() > 0.0 for arm in arms):
        return (float("nan"),) * 5
    first, second = (x[arm] for arm in arms)
    spread = np.sqrt((first.var() + second.var()) / 2.0)
    means = [float(np.average(x[arm], weights=before[arm])) for arm in arms]
    weighted = [float(np.average(x[arm], weights=after[arm])) for arm in arms]
    # A column that is constant up to rounding has no scale to measure a difference in.
    if spread <= 1e-12 * max(1.0, float(np.abs(x[seen]).max())):
        return means[0], means[1], float("nan"), float("nan"), float("nan")
    se = float(np.sqrt(sum((after[arm] ** 2).sum() / after[arm].sum() ** 2 for arm in arms)))
    return means[0], means[1], (means[0] - means[1]) / spread, (weighted[0] - weighted[1]) / spread, se


def embedding_components(matrix: np.ndarray, image: np.ndarray, n: int = COMPONENTS) -> dict[str, np.ndarray]:
    """The first principal components of the standardised embedding, fitted on distinct images, on the rows.

    Neither the outcome nor the treatment is used. Signs are fixed by the largest loading.

    Parameters
    ----------
    matrix : np.ndarray
        (J, d) float embedding of the distinct images in use, no missing values.
    image : np.ndarray
        (n,) int64 position of each row's image.
    n : int
        Number of components (fewer when the matrix has fewer).

    Returns
    -------
    dict of str to np.ndarray
        "image pc 1", ... -> (n,) float64.
    """
    values = np.asarray(matrix, dtype=np.float64)
    spread = values.std(axis=0)
    live = spread > 1e-12 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
    z = (values[:, live] - values[:, live].mean(axis=0)) / spread[live]
    if z.shape[1] == 0:
        return {}
    _, sizes, loadings = np.linalg.svd(z, full_matrices=False)
    kept = min(n, int((sizes > 1e-10 * max(sizes[0], 1e-300)).sum()))
    largest = np.argmax(np.abs(loadings[:kept]), axis=1)
    signs = np.sign(loadings[np.arange(kept), largest])
    scores = (z @ loadings[:kept].T) * signs[None, :]
    return {f"image pc {j + 1}": scores[image, j] for j in range(kept)}
