"""Comparators of DRIVE on the same rows: the k-class, anchor regression and ridge-penalised TSLS."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import NumericalError, OptionError, one_of
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.covariance import Covariance
from causalsat.inference.iv_covariance import iv_covariance
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich

METHODS = ("ols", "tsls", "liml", "fuller", "kclass", "anchor", "ridge_tsls")
NEAR_ONE = ("tsls", "liml", "fuller")
_SINGULAR = 1e-14
NO_WALD = (
    "ridge-penalised TSLS is biased towards zero by the order of a standard error or more, so an interval centred at "
    "it has no known coverage; read the interval of tsls or of drive"
)


@dataclass(frozen=True, eq=False)
class Estimate:
    """One comparator.

    Attributes
    ----------
    method : str
        One of :data:`METHODS`.
    b : np.ndarray
        (p,) float64 in units of the outcome per unit of each treatment.
    kappa : float
        The k-class parameter; NaN for ridge_tsls.
    influence : np.ndarray
        (n, p) float64, weights included: estimate - limit ~ mean(influence); NaN for ridge_tsls.
    covariance : Covariance or None
        Of ``b``; None where no Wald interval is given.
    df : float
        Degrees of freedom of the t law: clusters - 1, else infinite (normal quantiles).
    unavailable : str or None
        Why there is no covariance.
    notes : dict
        What defines the estimate: "fuller", "gamma", "theta", "penalty".
    """

    method: str
    b: np.ndarray
    kappa: float
    influence: np.ndarray
    covariance: Covariance | None
    df: float
    unavailable: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def comparator(
    method: str,
    rows: IvRows,
    sandwich: Sandwich,
    *,
    fuller: float = 1.0,
    kappa: float | None = None,
    gamma: float = 5.0,
    ridge: tuple[float, DriveProblem] | None = None,
    estimated_first_stage: bool = False,
) -> Estimate:
    """Fit one comparator with its covariance.

    The k-class solves X'(I - kappa M_Z)(y - Xb) = 0: kappa = 0 is OLS, 1 TSLS; LIML has kappa = 1/(1 - theta), theta
    the smallest eigenvalue of (Y'P_Z Y, Y'Y), Y = [y X]; Fuller subtracts fuller/(n - q - m); anchor regression with
    the instruments as anchors has (gamma - 1)/gamma. tsls, liml and fuller estimate b0 under relevance, exclusion and
    exogeneity of the instruments; a kappa fixed below 1 has another limit unless the treatments are exogenous.

    Covariance: bread (X'(I - kappa M_Z)X/n)^{-1}; scores P_Z X e for tsls, liml and fuller, whose kappa tends to 1, and
    (I - kappa M_Z)X e for a fixed kappa. The latter takes the first stage as known; where 0 < kappa < 1 is far from
    both ends and the limit is not the effect, estimating it counts to first order, and the standard error is too small
    when A = X'P_Z X/n is below (1 - kappa)(2 - kappa)/2 times X'M_Z X/n (one treatment, homoskedastic errors) and too
    large above. ``estimated_first_stage=True`` adds the missing term kappa M_Z X (P_Z e).

    Parameters
    ----------
    method : str
        "ols", "tsls", "liml", "fuller", "kclass", "anchor" or "ridge_tsls".
    rows : IvRows
        The study, raw units.
    sandwich : Sandwich
        Covariance of the Wald row.
    fuller : float
        Constant of "fuller"; 1 is the nearly unbiased choice.
    kappa : float, optional
        Parameter of "kclass".
    gamma : float
        Penalty of "anchor", > 0.
    ridge : tuple of float and DriveProblem, optional
        Penalty of "ridge_tsls" and the problem whose scale and metric it refers to.
    estimated_first_stage : bool
        Count the noise of the first stage in the influence values of a fixed kappa ("kclass", "anchor"); the classical
        covariance does not change.

    Returns
    -------
    Estimate

    Raises
    ------
    OptionError
        An unknown method, or a method without its parameter.
    NumericalError
        X'(I - kappa M_Z)X is singular.

    References
    ----------
    Fuller (1977), "Some properties of a modification of the limited information estimator"; Rothenhausler,
    Meinshausen, Buhlmann & Peters (2021), "Anchor regression: heterogeneous data meet causality".

    Examples
    --------
    >>> from causalsat.inference.sampling import Sampling
    >>> draw = np.random.default_rng(0)
    >>> z = draw.normal(size=(500, 1))
    >>> x = z + draw.normal(size=(500, 1))
    >>> y = 2.0 * x[:, 0] + draw.normal(size=500)
    >>> rows = IvRows(y, x, z, np.ones(500), np.empty((500, 0)), 0, 0, Sampling(500))
    >>> comparator("liml", rows, Sandwich("hc1")).kappa
    1.0
    """
    one_of("method", method, METHODS)
    if method == "ridge_tsls":
        return _ridge(rows, ridge)
    used, notes = _kappa(method, rows, fuller=fuller, kappa=kappa, gamma=gamma)
    bread = _bread(method, rows, used)
    b = _point(rows, used)
    influence, homoskedastic = _influence(rows, b, bread, used, near_one=method in NEAR_ONE)
    if estimated_first_stage and method in ("kclass", "anchor"):
        influence = influence + _first_stage_noise(rows, b, used) @ bread.T
    covariance = iv_covariance(rows, influence, sandwich, columns=rows.p, classical=homoskedastic)
    clusters = covariance.n_clusters
    df = np.inf if clusters is None else float(clusters - 1)
    return Estimate(method, b, used, influence, covariance, df, None, notes)


def _kappa(
    method: str, rows: IvRows, *, fuller: float, kappa: float | None, gamma: float
) -> tuple[float, dict[str, Any]]:
    """kappa of a method and the numbers that define it."""
    if method in ("ols", "tsls"):
        return (0.0 if method == "ols" else 1.0), {}
    if method == "kclass":
        if kappa is None or not np.isfinite(kappa):
            raise OptionError(f'method="kclass" needs a finite kappa and got {kappa!r}: 0 is OLS, 1 is TSLS.')
        return float(kappa), {}
    if method == "anchor":
        if not gamma > 0.0:
            raise OptionError(f'gamma={gamma!r} of method="anchor" must be positive: 1 is OLS, infinity is TSLS.')
        return 1.0 - 1.0 / float(gamma), {"gamma": float(gamma)}
    liml = _liml(rows)
    notes: dict[str, Any] = {"theta": 1.0 - 1.0 / liml}
    if method == "liml":
        return liml, notes
    if rows.d1 <= 0:
        raise OptionError(f'method="fuller" needs n - q - m > 0 and has {rows.n} - {rows.q} - {rows.m}.')
    return liml - fuller / rows.d1, notes | {"fuller": float(fuller), "kappa_liml": liml}


def _liml(rows: IvRows) -> float:
    import jax.numpy as jnp

    from causalsat.kernels.k_class import liml_kappa
    from causalsat.kernels.precision import float64

    moments = rows.moments
    projected = np.asarray(moments.projected, dtype=np.float64)
    with float64():
        pair = jnp.asarray(projected, jnp.float64), jnp.asarray(projected + moments.orthogonal, jnp.float64)
        found = float(liml_kappa(*pair, rows.q == rows.p))
    if not np.isfinite(found):
        raise NumericalError(
            "LIML has no kappa: the outcome is an exact linear function of the treatments, or outcome and treatments "
            "all lie in the span of the instruments and covariates, so that its variance ratio is 0/0. Use tsls."
        )
    return found


def _point(rows: IvRows, kappa: float) -> np.ndarray:
    import jax.numpy as jnp

    from causalsat.kernels.k_class import k_class_point
    from causalsat.kernels.precision import float64

    moments = rows.moments
    if kappa == 1.0:
        return moments.b_tsls
    with float64():
        given = (moments.XPX, moments.XPy, moments.XX, moments.Xy, kappa)
        return np.asarray(k_class_point(*(jnp.asarray(a, jnp.float64) for a in given)), dtype=np.float64)


def _bread(method: str, rows: IvRows, kappa: float) -> np.ndarray:
    """(p, p) inverse of X'(I - kappa M_Z)X/n, inverted without the units of the treatments."""
    matrix = kappa * rows.moments.XPX + (1.0 - kappa) * rows.moments.XX
    scale = np.sqrt(np.abs(np.diag(matrix)))
    if np.all(scale > 0.0):
        across = np.outer(scale, scale)
        size = np.abs(np.linalg.eigvalsh(matrix / across))
        if size.min() > _SINGULAR * size.max():
            return np.asarray(np.linalg.inv(matrix / across) / across)
    raise NumericalError(
        f'method="{method}" has no solution: X\'(I - kappa M_Z)X is singular at kappa={kappa:.10g}. Drop a treatment '
        "that is a combination of the others, add an instrument, or choose another kappa."
    )


def _influence(
    rows: IvRows, b: np.ndarray, bread: np.ndarray, kappa: float, *, near_one: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Influence values (n, p) and homoskedastic covariance (p, p) of the estimate."""
    moments = rows.moments
    residuals = rows.residuals(b)
    regressors = rows.X - (1.0 if near_one else kappa) * moments.MX
    scores = (rows.weights * residuals)[:, None] * regressors
    freedom = rows.d2 if rows.dof == "small" else rows.n
    spread = float(rows.weights @ residuals**2) / freedom
    middle = bread @ (regressors.T @ (rows.weights[:, None] * regressors) / rows.n) @ bread
    return scores @ bread.T, spread / rows.n * (bread if near_one else middle)


def _first_stage_noise(rows: IvRows, b: np.ndarray, kappa: float) -> np.ndarray:
    """(n, p) scores kappa M_Z X (P_Z e): what estimating X'P_Z adds when the residuals correlate with Z."""
    moments = rows.moments
    fitted = rows.residuals(b) - (moments.My - moments.MX @ b)
    return np.asarray(kappa * (rows.weights * fitted)[:, None] * moments.MX)


def _ridge(rows: IvRows, ridge: tuple[float, DriveProblem] | None) -> Estimate:
    import jax.numpy as jnp

    from causalsat.kernels.k_class import ridge_tsls_point
    from causalsat.kernels.precision import float64

    if ridge is None:
        raise OptionError('method="ridge_tsls" needs ridge=(penalty, problem), the penalty on the scale of a problem.')
    penalty, problem = float(ridge[0]), ridge[1]
    if not (np.isfinite(penalty) and penalty >= 0.0):
        raise OptionError(f'the penalty {penalty!r} of method="ridge_tsls" must be finite and not negative.')
    with float64():
        given = (jnp.asarray(a, jnp.float64) for a in (problem.B, problem.w, penalty))
        solved = np.asarray(ridge_tsls_point(*given), dtype=np.float64)
    nothing = np.full((rows.n, rows.p), np.nan)
    b = problem.to_raw(solved)
    return Estimate("ridge_tsls", b, np.nan, nothing, None, np.inf, NO_WALD, {"penalty": penalty})
