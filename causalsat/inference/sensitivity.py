"""How strong would omitted variables have to be? Bounds, robustness values, contours, benchmarks.

Chernozhukov, Cinelli, Newey, Sharma and Syrgkanis (2022), "Long story short: omitted variable bias in causal machine
learning": the bias of an estimate that is a mean of a linear functional is at most

    B = |rho| sqrt(cf_y cf_d / (1 - cf_d)) sqrt(sigma2 nu2),

cf_y the share of residual outcome variation that the omitted variables explain, cf_d the share of the variation of
the long Riesz representer that they add, rho the correlation of what they do to both.
"""

import math
from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, NumericalError, number, one_of
from causalsat.inference.covariance import influence_covariance
from causalsat.inference.options import Sandwich
from causalsat.inference.sampling import Sampling

SIDES = ("one-sided", "two-sided")
_HC0 = Sandwich("hc0")


@dataclass(frozen=True)
class Elements:
    """What the bounds of one estimate are made of.

    Attributes
    ----------
    theta : float
        The estimate, in units of the outcome (per unit of treatment).
    phi : np.ndarray
        (n,) float64 influence values of theta.
    sigma2, nu2 : float
        Mean squared outcome residual, and mean squared Riesz representer (its debiased estimate).
    psi_sigma, psi_nu : np.ndarray
        (n,) float64 their influence values, mean zero.
    """

    theta: float
    phi: np.ndarray
    sigma2: float
    nu2: float
    psi_sigma: np.ndarray
    psi_nu: np.ndarray

    @property
    def scale(self) -> float:
        """sqrt(sigma2 nu2): the bias per unit of confounding strength."""
        return math.sqrt(self.sigma2 * self.nu2)

    @property
    def psi_scale(self) -> np.ndarray:
        """(n,) influence values of ``scale``: (sigma2 psi_nu + nu2 psi_sigma) / (2 scale)."""
        return (self.sigma2 * self.psi_nu + self.nu2 * self.psi_sigma) / (2.0 * self.scale)


def plr_elements(u: np.ndarray, v: np.ndarray, weights: np.ndarray | None = None) -> Elements:
    """Partially linear model: theta = sum uv / sum v^2 for residuals u (outcome) and v (treatment), (n,) float64.

    sigma2 = mean (u - theta v)^2; nu2 = 1 / mean v^2 with score nu2 - v^2 nu2^2.

    Raises
    ------
    NumericalError
        The treatment has no residual variation.

    Examples
    --------
    >>> plr_elements(np.array([1.0, -1.0, 3.0]), np.array([1.0, 0.0, 1.0])).theta
    2.0
    """
    u, v = np.asarray(u, dtype=np.float64), np.asarray(v, dtype=np.float64)
    w = _weights(weights, u.size)
    mean_v2 = float(np.mean(w * v**2))
    if not mean_v2 > 0.0:
        raise NumericalError("the treatment has no variation left after the adjustment; no bound exists.")
    theta = float(np.mean(w * u * v)) / mean_v2
    residual = u - theta * v
    nu2 = 1.0 / mean_v2
    return _elements(theta, w * v * residual / mean_v2, residual, nu2, w * (nu2 - v**2 * nu2**2), w)


def ate_elements(
    theta: float,
    phi: np.ndarray,
    y: np.ndarray,
    d: np.ndarray,
    g0: np.ndarray,
    g1: np.ndarray,
    m: np.ndarray,
    weights: np.ndarray | None = None,
) -> Elements:
    """Average effect: sigma2 = mean (y - g_d)^2; nu2 = mean of 2 [1/m + 1/(1-m)] - alpha^2, alpha = d/m - (1-d)/(1-m).

    Arrays are (n,) float64; ``theta, phi`` are the AIPW estimate and its influence values.

    Raises
    ------
    NumericalError
        nu2 is not positive: the propensity does not fit the treatment.
    """
    y, d, g0, g1, m = (np.asarray(x, dtype=np.float64) for x in (y, d, g0, g1, m))
    w = _weights(weights, y.size)
    alpha = d / m - (1.0 - d) / (1.0 - m)
    q = 2.0 * (1.0 / m + 1.0 / (1.0 - m)) - alpha**2
    nu2 = float(np.mean(w * q))
    return _elements(theta, phi, y - d * g1 - (1.0 - d) * g0, nu2, w * (q - nu2), w)


def att_elements(
    theta: float,
    phi: np.ndarray,
    y: np.ndarray,
    d: np.ndarray,
    g0: np.ndarray,
    g1: np.ndarray,
    m: np.ndarray,
    weights: np.ndarray | None = None,
) -> Elements:
    """Effect on the treated: q = 2 (d/P)(m/P)[1/m + 1/(1-m)] - alpha^2, alpha = (m/P)[d/m - (1-d)/(1-m)], P = mean d.

    The estimate never needs g1, sigma2 does. Arrays and errors as :func:`ate_elements`.
    """
    y, d, g0, g1, m = (np.asarray(x, dtype=np.float64) for x in (y, d, g0, g1, m))
    w = _weights(weights, y.size)
    p = float(np.mean(w * d))
    alpha = (m / p) * (d / m - (1.0 - d) / (1.0 - m))
    q = 2.0 * (d / p) * (m / p) * (1.0 / m + 1.0 / (1.0 - m)) - alpha**2
    nu2 = float(np.mean(w * q))
    return _elements(theta, phi, y - d * g1 - (1.0 - d) * g0, nu2, w * (q - nu2), w)


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    return np.asarray(w / w.mean())


def _elements(
    theta: float, phi: np.ndarray, residual: np.ndarray, nu2: float, psi_nu: np.ndarray, w: np.ndarray
) -> Elements:
    sigma2 = float(np.mean(w * residual**2))
    if not (nu2 > 0.0 and sigma2 > 0.0):
        raise NumericalError(
            f"no sensitivity bound exists: sigma2={sigma2:.4g} and nu2={nu2:.4g} must be positive. A negative nu2 "
            "means extreme propensities or ones that do not fit the treatment (raise clip=, use fewer components)."
        )
    return Elements(float(theta), np.asarray(phi, dtype=np.float64), sigma2, nu2, w * (residual**2 - sigma2), psi_nu)


@dataclass(frozen=True)
class Sensitivity:
    """An estimate with the joint covariance of itself and of its bias scale: every bound follows in closed form.

    Attributes
    ----------
    theta, scale : float
        Estimate, and sqrt(sigma2 nu2).
    covariance : np.ndarray
        (2, 2) float64 covariance of (theta, scale).
    df : float
        Degrees of freedom of the reference law; infinite means normal.
    level : float
        Confidence level.
    sides : str
        "one-sided": each limit holds at ``level`` alone; "two-sided": the limits of the usual interval.
    """

    theta: float
    scale: float
    covariance: np.ndarray
    df: float
    level: float
    sides: str


@dataclass(frozen=True)
class Bounds:
    """Bounds of the estimate under omitted variables of a stated strength, with standard errors and limits.

    Attributes
    ----------
    low, high : float
        theta - B and theta + B.
    std_error_low, std_error_high : float
        Standard errors of the two bounds.
    conf_low, conf_high : float
        Confidence limit below ``low`` and above ``high``.
    """

    low: float
    high: float
    std_error_low: float
    std_error_high: float
    conf_low: float
    conf_high: float


def sensitivity(
    elements: Elements,
    *,
    sandwich: Sandwich = _HC0,
    sampling: Sampling | None = None,
    level: float = 0.95,
    sides: str = "one-sided",
) -> Sensitivity:
    """Joint covariance of the estimate and its bias scale, by any covariance of influence values.

    Parameters
    ----------
    elements : Elements
        From :func:`plr_elements`, :func:`ate_elements` or :func:`att_elements`.
    sandwich, sampling : Sandwich, Sampling
        How rows depend; default: independent rows.
    level : float
        Confidence level in (0, 1).
    sides : str
        "one-sided" or "two-sided".

    Raises
    ------
    OptionError
        An unknown ``sides`` or a level outside (0, 1).
    """
    level = number("level", level, 0.0, 1.0)
    sides = one_of("bounds", sides, SIDES)
    influence = np.column_stack([elements.phi, elements.psi_scale])
    rows = Sampling(elements.phi.size) if sampling is None else sampling
    found = influence_covariance(influence, sandwich, rows)
    return Sensitivity(elements.theta, elements.scale, found.matrix, found.df, level, sides)


def strength(cf_y: float, cf_d: float, rho: float = 1.0) -> float:
    """|rho| sqrt(cf_y cf_d / (1 - cf_d)), the factor of ``scale`` in the bound.

    Examples
    --------
    >>> strength(0.1, 0.5)
    0.31622776601683794
    """
    cf_y = number("cf_y", cf_y, 0.0, 1.0, open_ends=False)
    if number("cf_d", cf_d, 0.0, 1.0, open_ends=False) == 1.0:
        return math.inf if cf_y > 0.0 and rho != 0.0 else 0.0
    return abs(number("rho", rho, -1.0, 1.0, open_ends=False)) * math.sqrt(cf_y * cf_d / (1.0 - cf_d))


def critical_value(fit: Sensitivity) -> float:
    """Quantile of the normal or t law for the level and the sides of ``fit``."""
    from scipy import stats

    share = fit.level if fit.sides == "one-sided" else 0.5 + fit.level / 2.0
    return float(stats.norm.ppf(share)) if math.isinf(fit.df) else float(stats.t.ppf(share, fit.df))


def bounds(fit: Sensitivity, cf_y: float, cf_d: float, rho: float = 1.0) -> Bounds:
    """Bounds theta -+ B; their influence values are phi -+ c psi_scale with c the confounding strength.

    Examples
    --------
    >>> fit = Sensitivity(1.0, 2.0, np.diag([0.04, 0.01]), math.inf, 0.95, "one-sided")
    >>> round(bounds(fit, 0.1, 0.1).low, 4)
    0.7892
    """
    c = strength(cf_y, cf_d, rho)
    z = critical_value(fit)
    low, high = fit.theta - c * fit.scale, fit.theta + c * fit.scale
    se_low, se_high = _std_error(fit, -c), _std_error(fit, c)
    return Bounds(low, high, se_low, se_high, low - z * se_low, high + z * se_high)


def _std_error(fit: Sensitivity, signed: float) -> float:
    v = fit.covariance
    variance = v[0, 0] + 2.0 * signed * v[0, 1] + signed**2 * v[1, 1]
    return math.sqrt(variance) if variance >= 0.0 else math.nan


def robustness_value(fit: Sensitivity, null: float = 0.0) -> tuple[float, float]:
    """(RV, RVa): the common cf_y = cf_d at which, with rho = 1, the bound and the confidence limit reach ``null``.

    RV = (sqrt(f^4 + 4 f^2) - f^2) / 2 with f = |theta - null| / scale. RVa by root search on [0, RV]; 0 when the limit
    is past the null without any confounding, NaN without a standard error.

    Examples
    --------
    >>> fit = Sensitivity(1.0, 2.0, np.diag([0.04, 0.01]), math.inf, 0.95, "one-sided")
    >>> round(robustness_value(fit)[0], 4)
    0.3904
    """
    from scipy import optimize

    f2 = ((fit.theta - null) / fit.scale) ** 2
    value = (math.sqrt(f2**2 + 4.0 * f2) - f2) / 2.0

    def beyond(cf: float) -> float:
        return _limit(fit, strength(cf, cf), null)

    start, end = beyond(0.0), beyond(min(value, 1.0))
    if not (math.isfinite(start) and math.isfinite(end)):
        return value, math.nan
    if start <= 0.0:
        return value, 0.0
    if end >= 0.0:
        return value, value
    return value, float(optimize.brentq(beyond, 0.0, value, xtol=1e-14))


def _limit(fit: Sensitivity, c: float, null: float) -> float:
    """How far the confidence limit on the side of ``null`` still is from it (negative: past it)."""
    toward = -1.0 if fit.theta >= null else 1.0
    return abs(fit.theta - null) - c * fit.scale - critical_value(fit) * _std_error(fit, toward * c)


def contour(
    fit: Sensitivity,
    cf_y: np.ndarray,
    cf_d: np.ndarray,
    *,
    rho: float = 1.0,
    null: float = 0.0,
    of: str = "bound",
) -> np.ndarray:
    """(len(cf_y), len(cf_d)) grid of the bound (or confidence limit) on the side of ``null``.

    Parameters
    ----------
    fit : Sensitivity
        From :func:`sensitivity`.
    cf_y, cf_d : np.ndarray
        Strengths, each in [0, 1).
    of : str
        "bound" or "limit"."""
    one_of("of", of, ("bound", "limit"))
    rows = [[bounds(fit, float(a), float(b), rho) for b in np.asarray(cf_d)] for a in np.asarray(cf_y)]
    side = "low" if fit.theta >= null else "high"
    name = side if of == "bound" else f"conf_{side}"
    return np.array([[getattr(cell, name) for cell in row] for row in rows], dtype=np.float64)


@dataclass(frozen=True)
class Benchmark:
    """Strength that an omitted variable would have if it mattered as much as what was left out on purpose.

    Attributes
    ----------
    cf_y, cf_d, rho : float
        Strengths in [0, 1] and the correlation in [-1, 1] that reproduces the change of the estimate.
    change : float
        Estimate without the group minus estimate with it.
    """

    cf_y: float
    cf_d: float
    rho: float
    change: float


def benchmark(long: Elements, short: Elements, outcome_variance: float) -> Benchmark:
    """Compare the model with everything to the one without a covariate group, the embedding, or a block of it.

    cf_y = (R2_long - R2_short) / (1 - R2_long) with R2 = 1 - sigma2 / Var(y); cf_d = (1 - r) / r with r = nu2_short /
    nu2_long; |rho| = |theta_short - theta_long| / sqrt((sigma2_short - sigma2_long)(nu2_long - nu2_short)); all cut to
    their ranges, as an estimated gain can be negative.

    Parameters
    ----------
    long, short : Elements
        With and without the group, on the same rows.
    outcome_variance : float
        Variance of the outcome on these rows.
    """
    if long.phi.size != short.phi.size:
        raise DataError(f"a benchmark compares the same rows; received {long.phi.size} and {short.phi.size}.")
    r2_long, r2_short = 1.0 - long.sigma2 / outcome_variance, 1.0 - short.sigma2 / outcome_variance
    ratio = short.nu2 / long.nu2
    change = short.theta - long.theta
    room = (short.sigma2 - long.sigma2) * (long.nu2 - short.nu2)
    size = min(1.0, abs(change) / math.sqrt(room)) if room > 0.0 else 1.0
    cf_y = (r2_long - r2_short) / (1.0 - r2_long)
    return Benchmark(
        float(np.clip(cf_y, 0.0, 1.0)),
        float(np.clip((1.0 - ratio) / ratio, 0.0, 1.0)),
        math.copysign(size, change),
        change,
    )


def in_words(fit: Sensitivity, null: float = 0.0) -> str:
    """One paragraph that says what the robustness values mean."""
    rv, rva = robustness_value(fit, null)
    return (
        f"Omitted variables that explain {rv:.1%} of the residual variation of the outcome and add {rv:.1%} to the "
        f"variation of the treatment weights could move the estimate {fit.theta:.4g} to {null:g} (robustness value); "
        f"{rva:.1%} would make it indistinguishable from {null:g} at level {fit.level:g}, {fit.sides}."
    )
