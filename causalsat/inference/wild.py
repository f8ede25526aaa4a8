"""The wild (cluster) bootstrap of least squares, with the null imposed, from cluster sums."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, NumericalError, OptionError, number
from causalsat.inference.intervals import MAX_FAILED, Interval, draws_needed, tail_rank
from causalsat.inference.options import Bootstrap
from causalsat.inference.resampling import request, unit_weights
from causalsat.inference.sampling import Sampling
from causalsat.inference.schemes import make_plan
from causalsat.inference.seam import Draws, unit_sums

_BISECTIONS = 60
_DOUBLINGS = 14  # 16,000 standard errors; farther out rounding decides ties


@dataclass(frozen=True)
class _Coefficient:
    """One coefficient after partialling out the others: cluster sums that make every draw at every null cheap."""

    estimate: float
    curvature: float  # x~'x~
    score_y: np.ndarray  # (g,) x~_c'y~_c, y~ residual of y on the other columns
    score_x: np.ndarray  # (g,) x~_c'x~_c
    shift_y: np.ndarray  # (g, p) X_c'y~_c
    shift_x: np.ndarray  # (g, p) X_c'x~_c
    loading: np.ndarray  # (g, p) x~_c'X_c (X'X)^{-1}


@dataclass(frozen=True)
class WildTest:
    """Wild bootstrap of k coefficients.

    Attributes
    ----------
    draws : Draws
        ``values`` (b, k): estimate + (beta*_b - the null that was imposed); ``std_error`` (b, k) the draws' own
        cluster standard errors, so that ``interval("studentized", ...)`` gives the p-value at the imposed null.
    estimate, std_error : np.ndarray
        (k,) least squares and its cluster standard error without a small-sample factor (the factor cancels in t).
    p_value : np.ndarray
        (k,) symmetric p-values (1 + #{|t*| >= |t|})/(b + 1), or #/b when all sign vectors are enumerated.
    """

    draws: Draws
    estimate: np.ndarray
    std_error: np.ndarray
    p_value: np.ndarray


def wild_draws(
    X: np.ndarray,
    y: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    *,
    seed: int,
    coefficients: Sequence[int] | None = None,
    null: float | np.ndarray = 0.0,
    impose_null: bool = True,
    weights: np.ndarray | None = None,
) -> WildTest:
    """Wild bootstrap of least-squares coefficients: y* = fitted + residual x xi_c, refitted in each draw.

    With the null imposed (the default) the residuals are those of the fit restricted to beta_j = null, for each
    coefficient on its own, with one set of multipliers (Cameron, Gelbach & Miller 2008; Roodman, MacKinnon, Nielsen &
    Webb 2019). Assumes errors independent across clusters (rows without clusters) and X strictly exogenous; it holds
    its level with few clusters better than the resampling of clusters does. Memory is b times the number of clusters
    (of rows without clusters).

    Parameters
    ----------
    X, y : np.ndarray
        (n, p) and (n,) float64.
    bootstrap : Bootstrap
        Scheme "wild"; law webb under 12 clusters, else rademacher; rademacher under 12 clusters is enumerated.
    sampling : Sampling
        Clusters of the rows.
    seed : int
        Key of the multipliers.
    coefficients : sequence of int, optional
        Positions of the coefficients; all by default.
    null : float or np.ndarray
        Null value, scalar or one per coefficient.
    impose_null : bool
        False uses the unrestricted residuals.
    weights : np.ndarray, optional
        (n,) least-squares weights.

    Raises
    ------
    OptionError
        Another scheme.
    NumericalError
        Collinear columns.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 40)
    >>> X, cluster = np.column_stack([np.ones(40), x]), np.arange(40)
    >>> boot, sampling = Bootstrap(scheme="wild", n=199), Sampling(40, cluster=cluster)
    >>> out = wild_draws(X, 2 * x + np.sin(40 * x), boot, sampling, seed=0)
    >>> bool(out.p_value[1] < 0.05)
    True
    """
    parts, plan, multipliers = _prepare(X, y, bootstrap, sampling, seed, coefficients, weights)
    nulls = np.broadcast_to(np.asarray(null, dtype=np.float64), (len(parts),))
    shifts, errors, p_values, observed = [], [], [], []
    for part, value in zip(parts, nulls):
        base = float(value) if impose_null else part.estimate
        shift, error = _replicates(part, multipliers, base)
        se = _cluster_error(part)
        shifts.append(shift)
        errors.append(error)
        observed.append(se)
        p_values.append(_p_value(shift, error, (part.estimate - float(value)) / se, plan.n_distinct is not None))
    estimate = np.array([part.estimate for part in parts])
    status = np.zeros(multipliers.shape[0], dtype=np.int32)
    notes = {"null_imposed": impose_null} | ({} if plan.n_distinct is None else {"enumerated": plan.n_distinct})
    draws = Draws(
        estimate[None, :] + np.column_stack(shifts),
        status,
        {},
        "wild",
        plan.law,
        True,
        plan.n_clusters,
        np.column_stack(errors),
        0,
        int(seed),
        notes,
    )
    return WildTest(draws, estimate, np.array(observed), np.array(p_values))


def wild_interval(
    X: np.ndarray,
    y: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    *,
    seed: int,
    level: float,
    coefficients: Sequence[int] | None = None,
    null: float = 0.0,
    weights: np.ndarray | None = None,
) -> Interval:
    """Confidence interval of all nulls that the wild bootstrap with the null imposed does not reject.

    The limits solve p(r) = 1 - level on either side of the estimate by bisection with the same multipliers at every r
    (Roodman, MacKinnon, Nielsen & Webb 2019, section 3.5); p is symmetric in |t|. Parameters as in :func:`wild_draws`.

    Returns
    -------
    Interval
        An end that no finite null rejects is NaN with its reason (too few clusters for the level).

    Raises
    ------
    OptionError
        Too few draws for the level.
    """
    level = number("level", level, 0.0, 1.0)
    parts, plan, multipliers = _prepare(X, y, bootstrap, sampling, seed, coefficients, weights)
    enumerated = plan.n_distinct is not None
    if not enumerated and tail_rank(multipliers.shape[0], 1.0 - level) < 1:
        raise OptionError(f"level={level:g} needs at least {draws_needed(level) // 2} wild draws; raise Bootstrap.n.")
    low, high, p_value = (np.full(len(parts), np.nan) for _ in range(3))
    unavailable: dict[int, str] = {}
    for j, part in enumerate(parts):

        def p_at(r: float, part: _Coefficient = part) -> float:
            shift, error = _replicates(part, multipliers, r)
            return _p_value(shift, error, (part.estimate - r) / _cluster_error(part), enumerated)

        p_value[j] = p_at(null)
        step = _cluster_error(part)
        ends = [_end(p_at, part.estimate, side * step, 1.0 - level) for side in (-1.0, 1.0)]
        if None in ends:
            unavailable[j] = f"no null is rejected at level {level:g}: too few clusters for the wild bootstrap"
        else:
            low[j], high[j] = (math.nan if e is None else e for e in ends)
    return Interval(low, high, p_value, unavailable)


def _prepare(
    X: np.ndarray,
    y: np.ndarray,
    bootstrap: Bootstrap,
    sampling: Sampling,
    seed: int,
    coefficients: Sequence[int] | None,
    weights: np.ndarray | None,
) -> tuple[list[_Coefficient], Any, np.ndarray]:
    if bootstrap.scheme != "wild":
        raise OptionError(f'wild_draws needs Bootstrap(scheme="wild"); received scheme="{bootstrap.scheme}".')
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if X.ndim != 2 or X.shape[0] != sampling.n or y.shape != (sampling.n,):
        raise DataError(f"X has shape {X.shape} and y {y.shape}; ({sampling.n}, p) and ({sampling.n},) are needed.")
    if weights is not None:
        root = np.sqrt(np.asarray(weights, dtype=np.float64))
        X, y = X * root[:, None], y * root
    plan = make_plan(bootstrap, sampling)
    first, count = request(bootstrap, plan, 0, None)
    multipliers = unit_weights(plan, seed=seed, first=first, number=count)
    r = np.asarray(np.linalg.qr(X, mode="r"))
    if np.abs(np.diag(r)).min() < 1e-10 * np.sqrt((X**2).sum(axis=0)).max():
        raise NumericalError("the columns of X are collinear; drop the redundant ones before a wild bootstrap.")
    chosen = range(X.shape[1]) if coefficients is None else coefficients
    return [_coefficient(X, y, r, j, plan) for j in chosen], plan, multipliers


def _coefficient(X: np.ndarray, y: np.ndarray, r: np.ndarray, j: int, plan: Any) -> _Coefficient:
    others = np.delete(X, j, axis=1)
    targets = np.column_stack([X[:, j], y])
    if others.shape[1]:
        q, _ = np.linalg.qr(others)
        targets = targets - q @ (q.T @ targets)
    x, ty = targets[:, 0], targets[:, 1]
    rows = np.column_stack([x * ty, x * x, X * ty[:, None], X * x[:, None]])
    sums, p = unit_sums(rows, plan), X.shape[1]
    curvature = float(x @ x)
    inverse = np.linalg.inv(r)
    loading = sums[:, 2 + p :] @ (inverse @ inverse.T)
    shift_y, shift_x = sums[:, 2 : 2 + p], sums[:, 2 + p :]
    return _Coefficient(float(x @ ty) / curvature, curvature, sums[:, 0], sums[:, 1], shift_y, shift_x, loading)


def _replicates(part: _Coefficient, multipliers: np.ndarray, base: float) -> tuple[np.ndarray, np.ndarray]:
    """beta*_b - base and its own standard error for residuals y~ - base x~ times the multipliers."""
    import jax.numpy as jnp

    from causalsat.kernels.precision import float64
    from causalsat.kernels.replicates import wild_tile

    scores, shifts = part.score_y - base * part.score_x, part.shift_y - base * part.shift_x
    with float64():
        arrays = (jnp.asarray(a, jnp.float64) for a in (multipliers, scores, shifts, part.loading, part.curvature))
        shift, error = wild_tile(*arrays)
        return np.asarray(shift), np.asarray(error)


def _cluster_error(part: _Coefficient) -> float:
    return math.sqrt(float(((part.score_y - part.estimate * part.score_x) ** 2).sum())) / part.curvature


def _p_value(shift: np.ndarray, error: np.ndarray, t: float, enumerated: bool) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        t_star = np.abs(shift / error)
    fine = np.isfinite(t_star)
    if (~fine).sum() > MAX_FAILED * fine.size or not math.isfinite(t):
        return math.nan
    # The identity draw reproduces |t| only to rounding; it must count as a tie.
    extreme = int((t_star[fine] >= abs(t) * (1.0 - 1e-10)).sum())
    return extreme / int(fine.sum()) if enumerated else (extreme + 1) / (int(fine.sum()) + 1)


def _end(p_at: Any, estimate: float, step: float, alpha: float) -> float | None:
    """Bisect between the estimate (p = 1) and the first rejected null outwards; None where none is rejected."""
    inside, outside = estimate, estimate + 2.0 * step
    for _ in range(_DOUBLINGS):
        if p_at(outside) <= alpha:
            break
        inside, step = outside, 2.0 * step
        outside = estimate + 2.0 * step
    else:
        return None
    for _ in range(_BISECTIONS):
        middle = 0.5 * (inside + outside)
        if p_at(middle) <= alpha:
            outside = middle
        else:
            inside = middle
    return 0.5 * (inside + outside)
