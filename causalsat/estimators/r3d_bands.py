"""Order statistics of sups of draws, and intervals and bands of many numbers with one law of draws."""

import math
from dataclasses import dataclass

import numpy as np

MAX_FAILED = 0.1


@dataclass(frozen=True, eq=False)
class CurveInference:
    """Uncertainty of K numbers with one law of draws.

    Attributes
    ----------
    estimate, se, df : np.ndarray
        (K,) estimates, analytic standard errors (NaN where zero), effective degrees of freedom.
    conf_low, conf_high, p_value : np.ndarray
        (K,) pointwise intervals and p-values against zero, from t with ``df`` (critical="normal": the normal law).
    band_low, band_high : np.ndarray
        (K,) uniform band; NaN without one (band=None, or columns that are no curve).
    critical : float
        c of the band: in standard errors (studentized) or in units of the outcome (constant); NaN without a band.
    draws : np.ndarray
        (B, K) draws centred at zero, before the factor of the t law; NaN rows failed.
    factors : np.ndarray
        (B, 1) or (B, K) by which sups and quantiles of |draws| are multiplied: sqrt(df / chi2_df), ones for the
        normal law; for Bayesian weights times what the draws' spread lacks.
    unavailable : dict
        Column to the reason why it has no standard error.
    """

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    conf_low: np.ndarray
    conf_high: np.ndarray
    p_value: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    critical: float
    draws: np.ndarray
    factors: np.ndarray
    unavailable: dict[int, str]

    def scaled(self) -> np.ndarray:
        """(B, K) draws times factors: draws whose law is that of the studentized estimate times its standard error."""
        return np.asarray(self.draws * self.factors)


def order_statistic(sups: np.ndarray, level: float) -> float:
    """The ceil(level (B + 1))-th smallest of B sups; failed draws (NaN) are left out, NaN where too many failed."""
    fine = sups[np.isfinite(sups)]
    place = math.ceil(level * (fine.size + 1) - 1e-9)
    if fine.size < (1.0 - MAX_FAILED) * sups.size or place > fine.size:
        return math.nan
    return float(np.partition(fine, place - 1)[place - 1])


def shortfall(draws: np.ndarray, se: np.ndarray) -> np.ndarray:
    """(K,) standard errors over standard deviations of the draws (B, K) that did not fail.

    Columns without either take the median of the others.
    """
    fine = draws[np.isfinite(draws).all(axis=1)]
    spread = fine.std(axis=0) if len(fine) > 1 else np.zeros(se.size)
    known = (spread > 0.0) & (se > 0.0)
    ratio = se[known] / spread[known]
    out = np.full(se.size, np.median(ratio) if known.any() else 1.0)
    out[known] = ratio
    return out


def sups_of(draws: np.ndarray, scale: np.ndarray, factors: np.ndarray, *, one_sided: bool = False) -> np.ndarray:
    """(B,) largest |draw| / scale over the columns, times the factors; largest negative part when ``one_sided``."""
    z = draws * (1.0 / scale)[None, :]
    if factors.shape[1] > 1:
        z *= factors
    low = -z.min(axis=1)
    sups = np.maximum(low, 0.0) if one_sided else np.maximum(low, z.max(axis=1))
    return np.asarray(sups * factors[:, 0] if factors.shape[1] == 1 else sups)


def reach_of(df: np.ndarray, level: float, critical: str) -> np.ndarray:
    """Two-sided pointwise critical values of t with ``df``, or of the normal law."""
    from scipy import special

    upper = 0.5 * (1.0 + level)
    return np.asarray(special.stdtrit(df, upper) if critical == "t" else np.full(df.shape, special.ndtri(upper)))


def share_above(sups: np.ndarray, statistic: float) -> float:
    """(1 + #{T_b >= T}) / (B + 1) over the draws that did not fail; NaN where too many failed."""
    fine = sups[np.isfinite(sups)]
    if not np.isfinite(statistic) or fine.size < (1.0 - MAX_FAILED) * sups.size:
        return math.nan
    return float((1.0 + (fine >= statistic).sum()) / (fine.size + 1.0))


def curve_inference(
    estimate: np.ndarray,
    se: np.ndarray,
    df: np.ndarray,
    draws: np.ndarray,
    factors: np.ndarray,
    *,
    level: float,
    critical: str,
    band: str | None,
    live: np.ndarray,
    reason: str,
) -> CurveInference:
    """Intervals from t (or the normal law) and a sup band over the columns where ``live`` holds.

    The studentized band is estimate +- c se with c the order statistic of max |G_b| / se over the curve; the constant
    band estimate +- c with c that of max |G_b|.

    Parameters
    ----------
    estimate, se, df : np.ndarray
        (K,) estimates, analytic standard errors, degrees of freedom.
    draws : np.ndarray
        (B, K) centred at zero.
    factors : np.ndarray
        (B, 1) or (B, K) factors of the t law.
    level : float
        Confidence level.
    critical : str
        "t" or "normal": law of the pointwise intervals.
    band : str or None
        "studentized", "constant" or None.
    live : np.ndarray
        (K,) whether a column has any error; the others get NaN and ``reason``.
    reason : str
        Why a column has no standard error.
    """
    from scipy import special

    se = np.where(live, se, np.nan)
    reach = reach_of(df, level, critical) * se
    z = -np.abs(estimate) / se
    p_value = 2.0 * (special.stdtr(df, z) if critical == "t" else special.ndtr(z))
    blank = np.full(estimate.size, np.nan)
    c, low, high = math.nan, blank, blank
    if band is not None and live.any():
        scale = se[live] if band == "studentized" else np.ones(int(live.sum()))
        own = factors if factors.shape[1] == 1 else factors[:, live]
        c = order_statistic(sups_of(draws if live.all() else draws[:, live], scale, own), level)
        width = np.where(live, c * (se if band == "studentized" else 1.0), np.nan)
        low, high = estimate - width, estimate + width
    unavailable = {int(j): reason for j in np.flatnonzero(~live)}
    return CurveInference(
        estimate, se, df, estimate - reach, estimate + reach, p_value, low, high, c, draws, factors, unavailable
    )
