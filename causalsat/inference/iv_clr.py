"""The conditional likelihood ratio and Lagrange multiplier tests of one effect, as functions of Q_S alone."""

import math
from functools import cache

import numpy as np

_PANELS, _NODES = 16, 40


def clr_p_value(statistic: float, tau: float, q: int) -> float:
    """P(LR > statistic | Q_T = tau) under the null.

    P(LR <= x | tau) = E[F((tau + x)/(1 + tau S^2/x))], F the chi-squared law with q degrees of freedom and
    S^2 ~ Beta(1/2, (q - 1)/2); with S = sin(phi) the weight is cos(phi)^(q - 2) and the integral a sum over
    16 panels of 40 Gauss-Legendre nodes (Moreira 2003, "A conditional likelihood ratio test for structural models").

    Parameters
    ----------
    statistic : float
        Likelihood ratio statistic x, not negative.
    tau : float
        Conditioning statistic Q_T, not negative; infinite is strong identification (chi-squared with one degree).
    q : int
        Instruments.

    Returns
    -------
    float
        p-value; chi-squared with one degree of freedom when q is 1, with q when tau is 0.

    Examples
    --------
    >>> round(clr_p_value(3.841459, 1e12, 4), 4)
    0.05
    """
    from scipy import special

    x = max(float(statistic), 0.0)
    if q == 1 or math.isinf(tau):
        return float(special.chdtrc(1, x))
    if x == 0.0 or math.isinf(x):
        return 1.0 if x == 0.0 else 0.0
    tau = max(float(tau), 0.0)
    squared_sine, weights = _quadrature(q)
    point = x * (tau + x) / (x + tau * squared_sine)
    return float(weights @ special.chdtrc(q, point))


@cache
def _quadrature(q: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes S^2 and weights, summing to one, of the Beta(1/2, (q - 1)/2) law."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # The integrand turns at S near sqrt(x/q), within a share of it: panels that double keep that share resolved.
    edges = 0.5 * math.pi * np.concatenate([[0.0], 2.0 ** np.arange(1.0 - _PANELS, 1.0)])
    half = 0.5 * np.diff(edges)[:, None]
    angle = (edges[:-1, None] + half * (nodes[None, :] + 1.0)).reshape(-1)
    weights = (half * weights[None, :]).reshape(-1) * np.cos(angle) ** (q - 2)
    return np.sin(angle) ** 2, weights / weights.sum()


def clr_level(mu_min: float, mu_max: float, q: int, alpha: float) -> float:
    """The Q_S up to which the conditional likelihood ratio test does not reject.

    LR = Q_S - mu_min and Q_T = mu_min + mu_max - Q_S depend on the effect through Q_S alone, and the p-value falls in
    Q_S, so that the set is the one of an Anderson-Rubin test at this level (Mikusheva 2010, "Robust confidence sets in
    the presence of weak instruments").

    Parameters
    ----------
    mu_min, mu_max : float
        Eigenvalues of Omega^{-1} G; ``mu_max`` may be infinite.
    q : int
        Instruments.
    alpha : float
        Size of the test.

    Returns
    -------
    float
        Level in (mu_min, mu_max], or infinite when no effect is rejected.
    """
    from scipy import optimize, special

    if math.isinf(mu_max):
        return mu_min + float(special.chdtri(1, alpha))

    def excess(x: float) -> float:
        return clr_p_value(x, mu_max - x, q) - alpha

    # The critical value lies between the quantiles of one and of q degrees of freedom.
    high = min(mu_max - mu_min, 1.0 + float(special.chdtri(q, alpha)))
    if high == mu_max - mu_min and excess(high) >= 0.0:
        return math.inf
    return mu_min + float(optimize.brentq(excess, 0.0, high, xtol=1e-12, rtol=1e-14))


def lm_levels(mu_min: float, mu_max: float, critical: float) -> tuple[float, float]:
    """The Q_S up to which, and from which on, the Lagrange multiplier test does not reject.

    LM = Q_ST^2/Q_T = (Q_S - mu_min)(mu_max - Q_S)/(mu_min + mu_max - Q_S), at most c where
    Q_S^2 - (t + c) Q_S + mu_min mu_max + c t >= 0 with t = mu_min + mu_max: a quartic in the effect (Kleibergen 2002,
    "Pivotal statistics for testing structural parameters in instrumental variables regression").

    Parameters
    ----------
    mu_min, mu_max : float
        Eigenvalues of Omega^{-1} G; ``mu_max`` may be infinite.
    critical : float
        c, a chi-squared quantile with one degree of freedom.

    Returns
    -------
    tuple of float
        (lower, upper); both infinite when no effect is rejected. The part from ``upper`` on surrounds the minimum of
        the likelihood and may be spurious.
    """
    if math.isinf(mu_max):
        return mu_min + critical, math.inf
    total, product = mu_min + mu_max, mu_min * mu_max
    discriminant = (total - critical) ** 2 - 4.0 * product
    if discriminant <= 0.0 or critical >= mu_max - mu_min:
        return math.inf, math.inf
    upper = 0.5 * (total + critical + math.sqrt(discriminant))
    return (product + critical * total) / upper, upper
