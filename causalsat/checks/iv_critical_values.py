"""Critical values for weak instruments: the simplified effective-F values and the Stock-Yogo criteria."""

import math
from dataclasses import dataclass

import numpy as np

SHARES = (5, 10, 20, 30)
SIZES = (10, 15, 20, 25)

_SIZE_TABLE: dict[tuple[int, int], tuple[float, float, float, float]] = {
    (1, 1): (16.38, 8.96, 6.66, 5.53),
    (1, 2): (19.93, 11.59, 8.75, 7.25),
    (1, 3): (22.30, 12.83, 9.54, 7.80),
    (1, 4): (24.58, 13.96, 10.26, 8.31),
    (1, 5): (26.87, 15.09, 10.98, 8.84),
    (1, 6): (29.18, 16.23, 11.72, 9.38),
    (1, 7): (31.50, 17.38, 12.48, 9.93),
    (1, 8): (33.84, 18.54, 13.24, 10.50),
    (1, 9): (36.19, 19.71, 14.01, 11.07),
    (1, 10): (38.54, 20.88, 14.78, 11.65),
    (2, 2): (7.03, 4.58, 3.95, 3.63),
    (2, 3): (13.43, 8.18, 6.40, 5.45),
    (2, 4): (16.87, 9.93, 7.54, 6.28),
    (2, 5): (19.45, 11.22, 8.38, 6.89),
}


@dataclass(frozen=True)
class CriticalValues:
    """Critical values by per cent, with the reason where there are none.

    Attributes
    ----------
    values : dict of int to float
        Per cent (share of the worst-case bias, or size of a nominal 5 % Wald test) -> critical value; NaN without one.
    reason : str
        Why values are missing; "" when they are all there.
    degrees : dict of int to float
        Per cent -> effective degrees of freedom K (effective F only).
    """

    values: dict[int, float]
    reason: str = ""
    degrees: dict[int, float] | None = None


def effective_critical_values(variance: np.ndarray, shares: tuple[int, ...] = SHARES) -> CriticalValues:
    """Simplified critical values of the effective F of Montiel Olea and Pflueger (2013).

    With x = 1/tau, K = tr(W)^2 (1 + 2x)/(tr(W^2) + 2x tr(W) lambda_max(W)); the value is the 0.95 quantile of a
    chi-squared with K degrees of freedom and noncentrality x K, divided by K. An effective F above it rejects, at the
    5 % level, that the Nagar bias of TSLS exceeds the share tau of its worst case.

    Parameters
    ----------
    variance : np.ndarray
        (q, q) float64 W, variance of sqrt(n) times the first-stage coefficients on orthonormal instruments.
    shares : tuple of int
        tau in per cent.

    Returns
    -------
    CriticalValues

    References
    ----------
    Montiel Olea & Pflueger (2013), "A robust test for weak instruments".

    Examples
    --------
    >>> round(effective_critical_values(np.eye(1)).values[10], 2)
    23.11
    """
    missing = dict.fromkeys(shares, math.nan)
    if not np.isfinite(variance).all():
        return CriticalValues(missing, "the first-stage covariance is not finite", dict(missing))
    from scipy.stats import ncx2

    roots = np.linalg.eigvalsh(variance)
    trace, squares, largest = float(roots.sum()), float((roots**2).sum()), float(roots[-1])
    if trace <= 0.0:
        return CriticalValues(missing, "the first-stage covariance has no positive variance", dict(missing))
    values, degrees = {}, {}
    for share in shares:
        x = 100.0 / share
        k = trace**2 * (1.0 + 2.0 * x) / (squares + 2.0 * x * trace * largest)
        values[share], degrees[share] = float(ncx2.ppf(0.95, k, x * k) / k), float(k)
    return CriticalValues(values, "", degrees)


def relative_bias(concentration: float, q: int) -> float:
    """Bias of TSLS as a share of the bias of OLS, one treatment, weak-instrument limit.

    1 - mu^2 E[1/(q + 2N)], N Poisson with mean mu^2/2 (mu^2 the concentration).

    Examples
    --------
    >>> round(relative_bias(10.0, 2), 6) == round(float(np.exp(-5.0)), 6)
    True
    """
    from scipy.stats import poisson

    half = 0.5 * concentration
    top = int(half + 12.0 * math.sqrt(half) + 60.0)
    counts = np.arange(max(0, int(half - 12.0 * math.sqrt(half))), top)
    return float(1.0 - concentration * (poisson.pmf(counts, half) / (q + 2.0 * counts)).sum())


def bias_critical_values(p: int, q: int, shares: tuple[int, ...] = SHARES) -> CriticalValues:
    """Stock-Yogo bias criterion for the classical F, computed instead of looked up.

    The concentration mu^2 at which TSLS has the share tau of the bias of OLS is solved for; the value is the 0.95
    quantile of a chi-squared with q degrees of freedom and noncentrality mu^2, divided by q. The published values come
    from a simulation and differ by about one per cent.

    Parameters
    ----------
    p, q : int
        Treatments and instruments.
    shares : tuple of int
        tau in per cent.

    Returns
    -------
    CriticalValues
        NaN with the reason for q = p, where TSLS has no mean, and for several treatments.

    References
    ----------
    Stock & Yogo (2005), "Testing for weak instruments in linear IV regression".

    Examples
    --------
    >>> {k: round(v, 2) for k, v in bias_critical_values(1, 3).values.items()}
    {5: 13.76, 10: 9.18, 20: 6.6, 30: 5.49}
    """
    missing = dict.fromkeys(shares, math.nan)
    if p > 1:
        return CriticalValues(missing, "the bias criterion is computed for one treatment")
    if q < 2:
        return CriticalValues(missing, "TSLS with one instrument has no mean, so there is no bias criterion")
    from scipy.optimize import brentq
    from scipy.stats import ncx2

    values = {}
    for share in shares:
        mu2 = float(brentq(_excess, 1e-9, 1e3 * q, args=(q, share / 100.0), xtol=1e-10))
        values[share] = float(ncx2.ppf(0.95, q, mu2) / q)
    return CriticalValues(values)


def _excess(concentration: float, q: int, share: float) -> float:
    return relative_bias(concentration, q) - share


def size_critical_values(p: int, q: int) -> CriticalValues:
    """Stock-Yogo size criterion: the 5 % Wald test of TSLS has at most 10, 15, 20 or 25 % size.

    Cells of table 5.2 of Stock and Yogo (2005); NaN with the reason for the others.

    Examples
    --------
    >>> size_critical_values(1, 1).values[10]
    16.38
    """
    if (p, q) in _SIZE_TABLE:
        return CriticalValues(dict(zip(SIZES, _SIZE_TABLE[p, q], strict=True)))
    reason = f"the size criterion is not stored for {p} treatments and {q} instruments"
    return CriticalValues(dict.fromkeys(SIZES, math.nan), reason)
