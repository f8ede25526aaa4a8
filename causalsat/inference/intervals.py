"""Confidence intervals and the p-values that invert them (Efron 1987; Davison & Hinkley 1997, chapter 5).

Every interval takes an estimate (k,), its standard error (k,) and, beyond the normal one, bootstrap draws (b, k).
A number that cannot be given is NaN and its reason stands in ``unavailable``.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from causalsat.errors import DataError, OptionError, number, one_of

INTERVALS = ("normal", "percentile", "basic", "bca", "studentized")
MAX_FAILED = 0.10
_WHOLE = 1e-9


@dataclass(frozen=True)
class Interval:
    """Confidence limits and p-values of k effects.

    Attributes
    ----------
    low, high : np.ndarray
        (k,) float64 limits in the unit of the estimate, NaN where unavailable.
    p_value : np.ndarray
        (k,) float64: the smallest one minus level whose interval of the same kind leaves the null out.
    unavailable : dict of int to str
        Position of an effect -> why its interval is NaN.
    """

    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray
    unavailable: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """One effect as the interval rules see it: sorted finite draws and scalars."""

    estimate: float
    std_error: float
    draws: np.ndarray
    alpha: float
    null: float
    acceleration: float = 0.0
    studentized: np.ndarray | None = None


def draws_needed(level: float) -> int:
    """Smallest number of draws b with (b + 1)(1 - level)/2 >= 1.

    Examples
    --------
    >>> draws_needed(0.95)
    39
    """
    return math.ceil(2.0 / (1.0 - level) - 1.0 - _WHOLE)


def tail_rank(b: int, tail: float) -> int:
    """Rank, counted from the outside, of the order statistic that cuts off ``tail``: floor((b + 1) tail).

    The inverse of the empirical distribution on (b + 1) points, read from the nearer end, so that mirrored draws
    give mirrored limits and the limit is exactly the inversion of the p-value. b = 999 and a tail of 0.025 give 25,
    that is order statistics 25 and 975.
    """
    return math.floor((b + 1) * tail + _WHOLE)


def acceleration(influence: np.ndarray, cluster: np.ndarray | None = None) -> np.ndarray:
    """Acceleration a = sum L^3 / (6 (sum L^2)^{3/2}) of the BCa interval (Efron 1987, equation 4.4).

    Parameters
    ----------
    influence : np.ndarray
        (n, k) influence values phi; L are their sums by cluster.
    cluster : np.ndarray, optional
        (n,) integer codes; None takes every row as its own cluster.

    Returns
    -------
    np.ndarray
        (k,) float64; NaN where every value is zero.
    """
    values = np.asarray(influence, dtype=np.float64)
    if values.ndim != 2:
        raise DataError(f"influence has shape {values.shape}; an (n, k) matrix is needed.")
    if cluster is not None:
        codes = np.unique(np.asarray(cluster), return_inverse=True)[1].reshape(-1)
        sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
        np.add.at(sums, codes, values)
        values = sums
    scale = np.abs(values).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = values / scale
        return np.where(scale > 0.0, (unit**3).sum(axis=0) / (6.0 * (unit**2).sum(axis=0) ** 1.5), np.nan)


def interval(
    kind: str,
    estimate: np.ndarray,
    std_error: np.ndarray,
    *,
    level: float,
    draws: np.ndarray | None = None,
    df: float | np.ndarray = math.inf,
    acceleration: np.ndarray | None = None,
    draw_std_error: np.ndarray | None = None,
    null: float | np.ndarray = 0.0,
) -> Interval:
    """Confidence interval of one kind for k effects, with the p-value that inverts it.

    Parameters
    ----------
    kind : str
        "normal" theta +- q se with q from the normal or t(df) law; "percentile" the quantiles of the draws; "basic"
        2 theta minus them; "bca" bias corrected and accelerated; "studentized" theta - q(t*) se.
    estimate, std_error : np.ndarray
        (k,) float64. The standard error is used by "normal" and "studentized" only.
    level : float
        Coverage aimed at, inside (0, 1).
    draws : np.ndarray, optional
        (b, k) bootstrap estimates; a failed draw is a row of NaN.
    df : float or np.ndarray
        Degrees of freedom of the t law of "normal"; infinite means the normal law.
    acceleration : np.ndarray, optional
        (k,) acceleration, needed by "bca" (see :func:`acceleration`).
    draw_std_error : np.ndarray, optional
        (b, k) standard error inside each draw, needed by "studentized".
    null : float or np.ndarray
        Value that the p-value tests, scalar or (k,).

    Returns
    -------
    Interval
        More than 10% failed draws withhold the limits of an effect, with the reason.

    Raises
    ------
    OptionError
        Unknown kind; a level for which b draws are too few (the message names the b needed); a missing input.

    Notes
    -----
    Quantiles are order statistics (see :func:`tail_rank`); scipy interpolates between them, the only difference from
    ``scipy.stats.bootstrap`` on the same draws.

    Examples
    --------
    >>> import numpy as np
    >>> out = interval("normal", np.array([1.0]), np.array([0.5]), level=0.95)
    >>> out.low.round(3), out.high.round(3)
    (array([0.02]), array([1.98]))
    """
    one_of("interval", kind, INTERVALS)
    level = number("level", level, 0.0, 1.0)
    theta = np.asarray(estimate, dtype=np.float64).reshape(-1)
    k = theta.size
    se = _vector("std_error", std_error, k)
    zero = _vector("null", null, k)
    if kind == "normal":
        return _normal(theta, se, _vector("df", df, k), level, zero)
    values = _draws(kind, draws, k, level)
    accel = _acceleration(kind, acceleration, k)
    studentized = _studentized(kind, values, theta, draw_std_error)
    rule = {"percentile": _percentile, "basic": _basic, "bca": _bca, "studentized": _student}[kind]
    low, high, p_value = np.full(k, np.nan), np.full(k, np.nan), np.full(k, np.nan)
    unavailable: dict[int, str] = {}
    for j in range(k):
        t_star = None if studentized is None else studentized[:, j]
        row, reason = _row(theta[j], se[j], values[:, j], 1.0 - level, zero[j], accel[j], t_star)
        if row is None:
            unavailable[j] = reason
            continue
        limits = rule(row)
        if isinstance(limits, str):
            unavailable[j] = limits
        else:
            low[j], high[j], p_value[j] = limits
    return Interval(low, high, p_value, unavailable)


def _vector(name: str, value: float | np.ndarray, k: int) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return np.full(k, float(array))
    if array.shape != (k,):
        raise DataError(f"{name} has shape {array.shape}; the estimate has {k} effects.")
    return array


def _draws(kind: str, draws: np.ndarray | None, k: int, level: float) -> np.ndarray:
    if draws is None:
        raise OptionError(f'interval="{kind}" needs bootstrap draws; ask for a Bootstrap, or use interval="normal".')
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != k:
        raise DataError(f"draws have shape {values.shape}; (b, {k}) is needed.")
    if tail_rank(values.shape[0], (1.0 - level) / 2.0) < 1:
        raise OptionError(
            f'interval="{kind}" at level={level:g} needs at least {draws_needed(level)} bootstrap draws, '
            f"there are {values.shape[0]}; raise Bootstrap.n or lower the level."
        )
    return values


def _acceleration(kind: str, value: np.ndarray | None, k: int) -> np.ndarray:
    if kind != "bca":
        return np.zeros(k)
    if value is None:
        raise OptionError('interval="bca" needs the acceleration; this estimate stores no influence values.')
    return _vector("acceleration", value, k)


def _studentized(
    kind: str, values: np.ndarray, theta: np.ndarray, draw_std_error: np.ndarray | None
) -> np.ndarray | None:
    if kind != "studentized":
        return None
    if draw_std_error is None:
        raise OptionError('interval="studentized" needs a standard error inside each draw; none is stored.')
    inner = np.asarray(draw_std_error, dtype=np.float64)
    if inner.shape != values.shape:
        raise DataError(f"draw_std_error has shape {inner.shape}; the draws have {values.shape}.")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inner > 0.0, (values - theta) / inner, np.nan)


def _row(
    estimate: float,
    std_error: float,
    draws: np.ndarray,
    alpha: float,
    null: float,
    accel: float,
    t_star: np.ndarray | None,
) -> tuple[_Row | None, str]:
    """One effect ready for a rule, or the reason why it has no bootstrap interval."""
    if not math.isfinite(estimate):
        return None, "the estimate is not available"
    fine = np.isfinite(draws) if t_star is None else np.isfinite(t_star)
    failed, b = int(draws.size - fine.sum()), int(fine.sum())
    if b == 0:
        return None, (
            f"none of the {draws.size} bootstrap draws holds a number for this row: it was computed without draws, or "
            "all of them failed"
        )
    if failed > MAX_FAILED * draws.size:
        return None, f"{failed} of {draws.size} bootstrap draws failed (more than 10%)"
    if tail_rank(b, alpha / 2.0) < 1:
        return None, f"only {b} bootstrap draws succeeded; {draws_needed(1.0 - alpha)} are needed"
    sorted_t = None if t_star is None else np.sort(t_star[fine])
    return _Row(estimate, std_error, np.sort(draws[fine]), alpha, null, accel, sorted_t), ""


def _normal(theta: np.ndarray, se: np.ndarray, df: np.ndarray, level: float, null: np.ndarray) -> Interval:
    from scipy import stats

    unavailable: dict[int, str] = {}
    for j in range(theta.size):
        if not math.isfinite(theta[j]):
            unavailable[j] = "the estimate is not available"
        elif not math.isfinite(se[j]):
            unavailable[j] = "the standard error is not available"
        elif se[j] <= 0.0:
            unavailable[j] = "the standard error is zero"
        elif not df[j] > 0.0:
            unavailable[j] = "no degrees of freedom are left"
    fine = np.array([j not in unavailable for j in range(theta.size)], dtype=bool)
    safe_df = np.where(fine, df, math.inf)
    quantile = stats.t.ppf(0.5 + level / 2.0, safe_df)
    spread = np.where(fine, se, np.nan)
    p_value = 2.0 * stats.t.sf(np.abs(theta - null) / spread, safe_df)
    low, high = theta - quantile * spread, theta + quantile * spread
    return Interval(low, high, np.where(fine, p_value, np.nan), unavailable)


def _tails(draws: np.ndarray, null: float) -> tuple[float, float]:
    """(#{draw <= null} + 1)/(b + 1) and (#{draw >= null} + 1)/(b + 1) of sorted draws."""
    b = draws.size
    below = int(np.searchsorted(draws, null, side="right"))
    above = b - int(np.searchsorted(draws, null, side="left"))
    return (below + 1) / (b + 1), (above + 1) / (b + 1)


def _two_sided(draws: np.ndarray, null: float) -> float:
    return min(1.0, 2.0 * min(_tails(draws, null)))


def _central(draws: np.ndarray, alpha: float) -> tuple[float, float]:
    rank = tail_rank(draws.size, alpha / 2.0)
    return float(draws[rank - 1]), float(draws[draws.size - rank])


def _percentile(row: _Row) -> tuple[float, float, float]:
    low, high = _central(row.draws, row.alpha)
    return low, high, _two_sided(row.draws, row.null)


def _basic(row: _Row) -> tuple[float, float, float]:
    low, high = _central(row.draws, row.alpha)
    mirror = 2.0 * row.estimate
    return mirror - high, mirror - low, _two_sided(row.draws, mirror - row.null)


def _student(row: _Row) -> tuple[float, float, float] | str:
    if not (math.isfinite(row.std_error) and row.std_error > 0.0):
        return "the standard error is zero or not available"
    if row.studentized is None:
        return "no studentized draws"
    low, high = _central(row.studentized, row.alpha)
    p_value = _two_sided(row.studentized, (row.estimate - row.null) / row.std_error)
    return row.estimate - high * row.std_error, row.estimate - low * row.std_error, p_value


def _bca(row: _Row) -> tuple[float, float, float] | str:
    """BCa limits at levels Phi(z0 + (z0 + z)/(1 - a(z0 + z))) (Efron 1987, equation 2.3)."""
    from scipy.special import ndtr, ndtri

    b, a = row.draws.size, row.acceleration
    left = int(np.searchsorted(row.draws, row.estimate, side="left"))
    right = int(np.searchsorted(row.draws, row.estimate, side="right"))
    z0 = float(ndtri((left + 0.5 * (right - left)) / b))
    if not math.isfinite(z0):
        return "every draw lies on one side of the estimate, so the bias correction is infinite"
    if not math.isfinite(a):
        return "the acceleration is not available (all influence values are zero)"
    z = float(ndtri(row.alpha / 2.0))
    if min(1.0 - a * (z0 + z), 1.0 - a * (z0 - z)) <= 0.0:
        return f"the acceleration {a:.3g} is too large for a BCa interval at this level"
    low_tail = float(ndtr(z0 + (z0 + z) / (1.0 - a * (z0 + z))))
    high_tail = float(ndtr(-(z0 + (z0 - z) / (1.0 - a * (z0 - z)))))
    ranks = tail_rank(b, low_tail), tail_rank(b, high_tail)
    if min(ranks) < 1 or max(ranks) > b:
        return f"the BCa levels {low_tail:.2g} and {1.0 - high_tail:.4g} need more than {b} draws"
    return float(row.draws[ranks[0] - 1]), float(row.draws[b - ranks[1]]), _bca_p_value(row, z0)


def _bca_p_value(row: _Row, z0: float) -> float:
    """Solve tail(alpha) = observed tail for alpha on either side: z = v/(1 + a v) - z0, v = Phi^{-1}(u) - z0."""
    from scipy.special import ndtr, ndtri

    below, above = _tails(row.draws, row.null)
    tails = []
    for sign, u in ((1.0, below), (-1.0, above)):
        v = sign * float(ndtri(min(u, 1.0 - 1e-16))) - z0
        slope = 1.0 + row.acceleration * v
        z = v / slope - z0 if slope > 0.0 else math.copysign(math.inf, v)
        tails.append(float(ndtr(sign * z)))
    return min(1.0, 2.0 * min(tails))
