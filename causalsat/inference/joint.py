"""Statements about several effects at once: simultaneous bands, adjusted p-values, Wald tests."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from causalsat.errors import DataError, NumericalError, OptionError, number, one_of
from causalsat.inference.intervals import MAX_FAILED, draws_needed, tail_rank

ADJUSTMENTS = ("romano_wolf", "holm", "bh", "by", "bonferroni")
_MULTIPLETESTS = {"holm": "holm", "bh": "fdr_bh", "by": "fdr_by", "bonferroni": "bonferroni"}
_SIMULATED, _CHUNK = 100_000, 10_000
_RANK_RTOL = 1e-10


@dataclass(frozen=True)
class Bands:
    """Simultaneous confidence bands over one family of effects.

    Attributes
    ----------
    low, high : np.ndarray
        (k,) float64 limits, NaN for effects outside the family.
    critical : float
        Critical value c of theta +- c se; NaN when no band could be given.
    n_family : int
        Effects in the family; the other k - n_family have no estimate or no positive standard error.
    source : str
        "draws" or "covariance": where the joint law comes from.
    n_failed : int
        Draws left out because an effect of the family is NaN in them.
    reason : str
        Why no band is given; empty otherwise.
    """

    low: np.ndarray
    high: np.ndarray
    critical: float
    n_family: int
    source: str = "draws"
    n_failed: int = 0
    reason: str = ""


class Wald(NamedTuple):
    """Wald statistic, its degrees of freedom (the rank of the covariance) and its p-value."""

    chi2: float
    df: int
    p_value: float


def sup_t(
    estimate: np.ndarray,
    std_error: np.ndarray,
    *,
    level: float,
    draws: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
    seed: int = 0,
    df: float = math.inf,
) -> Bands:
    """Sup-t bands theta_j +- c se_j that hold for all effects together with probability ``level``.

    c is the ``level`` quantile of max_j |theta*_j - theta_j| / se_j over the draws, or of max_j |Z_j| with Z normal
    (or t with ``df``) with the correlations of ``covariance`` (Montiel Olea & Plagborg-Moller 2019). Assumes that the
    draws, or the normal law, describe the joint sampling error of the family.

    Parameters
    ----------
    estimate, std_error : np.ndarray
        (k,) float64; rows without an estimate or a positive standard error leave the family.
    level : float
        Joint coverage aimed at.
    draws : np.ndarray, optional
        (b, k) bootstrap draws made with one set of weights; used when given.
    covariance : np.ndarray, optional
        (k, k) covariance of the estimates, used without draws: 100,000 simulated normal vectors.
    seed : int
        Key of the simulation; the same seed gives the same critical value.
    df : float
        Degrees of freedom of the t law used with ``covariance``.

    Raises
    ------
    OptionError
        Neither draws nor covariance; too few draws for the level.

    Examples
    --------
    >>> import numpy as np
    >>> bands = sup_t(np.zeros(2), np.ones(2), level=0.95, covariance=np.eye(2))
    >>> bool(2.2 < bands.critical < 2.27)
    True
    """
    level = number("level", level, 0.0, 1.0)
    theta, se = _pair(estimate, std_error)
    family = np.isfinite(theta) & np.isfinite(se) & (se > 0.0)
    n_failed, reason, source = 0, "", "covariance" if draws is None else "draws"
    if draws is None and covariance is None:
        raise OptionError("joint bands need bootstrap draws or the covariance of the family; neither is stored.")
    if not family.any():
        critical, reason = math.nan, "no effect of the family has an estimate and a standard error"
    elif draws is not None:
        spread = _max_deviation(theta, se, np.asarray(draws, dtype=np.float64), family)
        critical, n_failed, reason = _critical_from_draws(spread, level)
    else:
        critical = _critical_from_normal(np.asarray(covariance, dtype=np.float64), family, level, seed, df)
    width = np.where(family, critical * se, np.nan)
    return Bands(theta - width, theta + width, critical, int(family.sum()), source, n_failed, reason)


def _pair(estimate: np.ndarray, std_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    theta = np.asarray(estimate, dtype=np.float64).reshape(-1)
    se = np.asarray(std_error, dtype=np.float64).reshape(-1)
    if theta.shape != se.shape:
        raise DataError(f"estimate has {theta.size} effects and std_error {se.size}.")
    return theta, se


def _centred(theta: np.ndarray, se: np.ndarray, draws: np.ndarray, family: np.ndarray) -> np.ndarray:
    if draws.ndim != 2 or draws.shape[1] != theta.size:
        raise DataError(f"draws have shape {draws.shape}; (b, {theta.size}) is needed.")
    return np.asarray(np.abs(draws[:, family] - theta[family]) / se[family])


def _max_deviation(theta: np.ndarray, se: np.ndarray, draws: np.ndarray, family: np.ndarray) -> np.ndarray:
    return np.asarray(_centred(theta, se, draws, family).max(axis=1))


def _critical_from_draws(spread: np.ndarray, level: float) -> tuple[float, int, str]:
    if tail_rank(spread.size, 1.0 - level) < 1:
        raise OptionError(
            f"bands at level={level:g} need at least {(draws_needed(level) - 1) // 2} draws, there are {spread.size}."
        )
    fine = np.sort(spread[np.isfinite(spread)])
    failed = int(spread.size - fine.size)
    rank = tail_rank(fine.size, 1.0 - level)
    if failed > MAX_FAILED * spread.size or rank < 1:
        return math.nan, failed, f"{failed} of {spread.size} bootstrap draws failed in the family (more than 10%)"
    return float(fine[fine.size - rank]), failed, ""


def _critical_from_normal(covariance: np.ndarray, family: np.ndarray, level: float, seed: int, df: float) -> float:
    from scipy import stats

    if covariance.shape != (family.size, family.size):
        raise DataError(f"covariance has shape {covariance.shape}; ({family.size}, {family.size}) is needed.")
    inside = covariance[np.ix_(family, family)]
    scale = np.sqrt(np.diag(inside))
    if not np.all(np.isfinite(inside)) or not np.all(scale > 0.0):
        raise NumericalError("the covariance of the family is not finite with a positive diagonal.")
    if inside.shape[0] == 1:
        return float(stats.t.ppf(0.5 + level / 2.0, df))
    values, vectors = np.linalg.eigh(inside / (scale[:, None] * scale[None, :]))
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    root /= np.sqrt((root**2).sum(axis=1, keepdims=True))
    generator = np.random.Generator(np.random.Philox(seed))
    peaks = np.empty(_SIMULATED)
    for start in range(0, _SIMULATED, _CHUNK):
        z = np.abs(generator.standard_normal((_CHUNK, scale.size)) @ root.T).max(axis=1)
        if math.isfinite(df):
            z = z / np.sqrt(generator.chisquare(df, _CHUNK) / df)
        peaks[start : start + _CHUNK] = z
    rank = tail_rank(_SIMULATED, 1.0 - level)
    # Simulation error must not make the band narrower than the pointwise interval.
    return max(float(np.sort(peaks)[_SIMULATED - max(rank, 1)]), float(stats.t.ppf(0.5 + level / 2.0, df)))


def adjusted_p_values(
    kind: str,
    estimate: np.ndarray,
    std_error: np.ndarray,
    p_value: np.ndarray,
    draws: np.ndarray | None = None,
    *,
    null: float | np.ndarray = 0.0,
) -> np.ndarray:
    """p-values adjusted for testing a whole family of effects.

    Parameters
    ----------
    kind : str
        "romano_wolf" (step-down on centred draws, familywise error under any dependence; Romano & Wolf 2005, 2016),
        "holm", "bonferroni" (familywise error, from the p-values), "bh" (false discovery rate under positive
        dependence; Benjamini & Hochberg 1995) or "by" (any dependence; Benjamini & Yekutieli 2001).
    estimate, std_error, p_value : np.ndarray
        (k,) float64. Rows with NaN leave the family and stay NaN.
    draws : np.ndarray, optional
        (b, k) draws from one set of weights, needed by "romano_wolf".
    null : float or np.ndarray
        Hypothesised values, scalar or (k,).

    Returns
    -------
    np.ndarray
        (k,) float64 adjusted p-values; NaN for the whole family when more than 10% of the draws failed in it.

    Raises
    ------
    OptionError
        Unknown kind; Romano-Wolf without draws.

    Examples
    --------
    >>> import numpy as np
    >>> adjusted_p_values("bonferroni", np.ones(2), np.ones(2), np.array([0.01, 0.5]))
    array([0.02, 1.  ])
    """
    one_of("adjust", kind, ADJUSTMENTS)
    theta, se = _pair(estimate, std_error)
    if kind == "romano_wolf":
        if draws is None:
            raise OptionError('"romano_wolf" needs bootstrap draws; use "holm", or ask for a Bootstrap.')
        return _romano_wolf(theta - null, se, np.asarray(draws, dtype=np.float64) - null)
    raw = np.asarray(p_value, dtype=np.float64).reshape(-1)
    if raw.shape != theta.shape:
        raise DataError(f"p_value has {raw.size} values for {theta.size} effects.")
    family = np.isfinite(raw)
    adjusted = np.full(raw.size, np.nan)
    if family.any():
        from statsmodels.stats.multitest import multipletests

        adjusted[family] = multipletests(raw[family], method=_MULTIPLETESTS[kind])[1]
    return adjusted


def _romano_wolf(theta: np.ndarray, se: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """p_(j) = (1 + #{max_{l >= j} |t*_l| >= |t_(j)|}) / (b + 1), then the running maximum (Romano & Wolf 2016)."""
    family = np.isfinite(theta) & np.isfinite(se) & (se > 0.0)
    adjusted = np.full(theta.size, np.nan)
    if not family.any():
        return adjusted
    spread = _centred(theta, se, draws, family)
    fine = spread[np.isfinite(spread).all(axis=1)]
    if draws.shape[0] - fine.shape[0] > MAX_FAILED * draws.shape[0]:
        return adjusted
    observed = np.abs(theta[family]) / se[family]
    order = np.argsort(-observed, kind="stable")
    # Running maxima from the least significant upwards: column j holds max over l >= j.
    peaks = np.maximum.accumulate(fine[:, order][:, ::-1], axis=1)[:, ::-1]
    p = (1.0 + (peaks >= observed[order]).sum(axis=0)) / (fine.shape[0] + 1.0)
    stepped = np.empty(order.size)
    stepped[order] = np.maximum.accumulate(p)
    adjusted[family] = stepped
    return adjusted


def wald(estimate: np.ndarray, covariance: np.ndarray, R: np.ndarray | None = None) -> Wald:
    """Wald test of R theta = 0 with a pseudo-inverse covariance.

    chi2 = (R theta)' (R V R')^+ (R theta), degrees of freedom = rank of R V R' (after scaling it to a correlation
    matrix, so that units do not matter; eigenvalues below 1e-10 of the largest, negative ones too, count as zero).

    Parameters
    ----------
    estimate, covariance : np.ndarray
        (k,) and (k, k) float64.
    R : np.ndarray, optional
        (r, k) restrictions; None tests that every effect is zero.

    Returns
    -------
    Wald
        (chi2, df, p_value). A direction without sampling variance is outside the test.

    Raises
    ------
    NumericalError
        Values that are not finite, or a covariance without any positive variance.

    Examples
    --------
    >>> import numpy as np
    >>> wald(np.array([2.0]), np.eye(1)).chi2
    4.0
    """
    from scipy import stats

    theta = np.asarray(estimate, dtype=np.float64).reshape(-1)
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (theta.size, theta.size):
        raise DataError(f"covariance has shape {matrix.shape}; ({theta.size}, {theta.size}) is needed.")
    if R is not None:
        restrictions = np.atleast_2d(np.asarray(R, dtype=np.float64))
        theta, matrix = restrictions @ theta, restrictions @ matrix @ restrictions.T
    if not (np.all(np.isfinite(theta)) and np.all(np.isfinite(matrix))):
        raise NumericalError("a Wald test needs finite estimates and covariances; drop the effects that have none.")
    diagonal = np.diag(matrix)
    scale = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(matrix / (scale[:, None] * scale[None, :]))
    kept = values > _RANK_RTOL * max(float(values.max()), 0.0)
    if not kept.any():
        raise NumericalError("the covariance of the restrictions has no positive variance, so there is no Wald test.")
    z = vectors[:, kept].T @ (theta / scale)
    chi2, df = float((z**2 / values[kept]).sum()), int(kept.sum())
    return Wald(chi2, df, float(stats.chi2.sf(chi2, df)))
