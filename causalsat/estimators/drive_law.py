"""What DRIVE tends to: its law below the threshold by simulation, its moments in closed form, its limit above."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, number
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_threshold import threshold
from causalsat.inference.iv_covariance import AS_PRECISIONS, INDEFINITE, moment_variance
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.resampling import counter_based, run_key

LAW_STREAM, SCORE_STREAM, T_STREAM = 2_000_000_011, 2_000_000_033, 2_000_000_057
DRAW_T_STREAM = 2_000_000_083
_CLIP = 1e-12
_NO_VARIANCE = "the variance of the moments does not exist under this covariance"


@dataclass(frozen=True, eq=False)
class LimitLaw:
    """Draws from the estimated law of sqrt(n)(b_hat - b0) on the solver's scale.

    Attributes
    ----------
    draws : np.ndarray
        (n_law, p) float64 T - ||r|| v; NaN where the law does not exist.
    v : np.ndarray
        (p,) direction and size of the shrinkage per unit of ||r||.
    valid : bool
        The radius is below the threshold at the TSLS estimate and the moments have a variance.
    notes : dict
        "reason" where not valid; "clipped_eigenvalues" of the variance of the moments, where there are any; "df" of
        the t law, with clusters.
    sd : np.ndarray
        (p,) standard deviation of the draws before they were made draws of a t law.
    flags : tuple of str
        What a reader must know, in sentences.
    """

    draws: np.ndarray
    v: np.ndarray
    valid: bool
    notes: dict[str, Any] = field(default_factory=dict)
    sd: np.ndarray = field(default_factory=lambda: np.full(1, np.nan))
    flags: tuple[str, ...] = ()


def limit_law(problem: DriveProblem, rho: float, sandwich: Sandwich, *, n_law: int, seed: int) -> LimitLaw:
    """Simulate the limit law of DRIVE at a fixed radius below the threshold (Qu and Kwon 2024).

    With W ~ N(0, Omega) the limit of sqrt(n) R Z'e/n, T = A^{-1}B'W the limit of TSLS and r = W - B T,
    ``sqrt(n)(b_hat - b0) => T - ||r|| v`` with ``v = sqrt(rho) A^{-1}c / sqrt(1 - rho c'A^{-1}c)``. Assumes strong,
    valid instruments; it is the law of TSLS where q = p, rho = 0 or c = 0. With g clusters, whose Wald intervals take
    t(g - 1), each draw is multiplied by sqrt((g - 1)/chi2_{g - 1}), the error of an Omega from so few clusters.

    Parameters
    ----------
    problem : DriveProblem
        Moments, whose A, B and c at b_tsls stand for the truth's.
    rho : float
        Squared radius.
    sandwich : Sandwich
        Covariance of the moments.
    n_law : int
        Draws; a longer run starts with the bits of a shorter one.
    seed : int
        Non-negative whole number.

    Returns
    -------
    LimitLaw
    """
    rows = problem.rows
    v, reason = shrinkage(problem, rho)
    nothing = np.full((n_law, rows.p), np.nan)
    if reason:
        return LimitLaw(nothing, v, False, {"reason": reason})
    variance = variance_of_moments(problem, sandwich)
    root, notes = variance_root(variance)
    if "reason" in notes or (sandwich.kind in INDEFINITE and _no_variance(problem, variance)):
        return LimitLaw(nothing, v, False, {"reason": _NO_VARIANCE} | notes)
    normals = law_normals(n_law, rows.q, seed, LAW_STREAM)
    left, sigma, right = np.linalg.svd(problem.B, full_matrices=True)
    turned = _times(normals, root @ left)
    draws = _times(turned[:, : rows.p], right / sigma[:, None])
    if not problem.just_identified:
        distance = np.sqrt(np.sum(turned[:, rows.p :] ** 2, axis=1))
        draws = draws - distance[:, None] * v[None, :]
    sd, df = np.std(draws, axis=0, ddof=1), _degrees_of_freedom(rows, sandwich)
    if np.isfinite(df):
        draws, notes = draws * t_factors(n_law, df, seed)[:, None], notes | {"df": df}
    return LimitLaw(draws, v, True, notes, sd, _flags(rows, sandwich, notes))


def _no_variance(problem: DriveProblem, variance: np.ndarray) -> bool:
    """Whether TSLS itself has no positive variance under an indefinite one: clipped it would look precise."""
    bread = np.linalg.pinv(problem.B)
    own, scale = np.diag(bread @ variance @ bread.T), np.diag(bread @ bread.T) * float(np.trace(np.abs(variance)))
    return bool((own <= _CLIP * scale).any())


def _degrees_of_freedom(rows: IvRows, sandwich: Sandwich) -> float:
    """g - 1 where Wald rows take t(g - 1), with the fewer clusters of two ways; else infinite."""
    ways = {"cluster": (rows.sampling.cluster,), "twoway": (rows.sampling.cluster, rows.sampling.second)}
    counts = [np.unique(codes).size for codes in ways.get(sandwich.kind, ()) if codes is not None]
    return float(min(counts) - 1) if counts else math.inf


def _flags(rows: IvRows, sandwich: Sandwich, notes: dict[str, Any]) -> tuple[str, ...]:
    """Sentences on the variance behind the draws."""
    found = []
    if "clipped_eigenvalues" in notes:
        lost, name = notes["clipped_eigenvalues"], "two-way" if sandwich.kind == "twoway" else "Conley"
        found.append(
            f"{lost} of {rows.q} eigenvalues of the {name} variance of the moments are negative and were set to zero "
            "for the limit law, whose interval may be too short"
        )
    if sandwich.kind == "classical" and rows.unequal:
        found.append(f"the limit law uses the classical variance: {AS_PRECISIONS}")
    return tuple(found)


def homoskedastic_moments(problem: DriveProblem, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p,) and covariance (p, p) of sqrt(n)(b_hat - b0) on the solver's scale under homoskedastic errors.

    Mean -s v E[chi], covariance s^2 [A^{-1} + v v'((q - p) - E[chi]^2)], with E[chi] = sqrt(2) Gamma((k + 1)/2) /
    Gamma(k/2) for k = q - p and s^2 the variance of the residuals at TSLS (for metric="gmm" they hold whatever the
    variance, since the metric makes the moments spherical).

    Parameters
    ----------
    problem : DriveProblem
        Moments and target.
    rho : float
        Squared radius below the threshold at the TSLS estimate.

    Raises
    ------
    DataError
        ``rho`` is not below the threshold, or the problem is not identified.
    """
    v, reason = shrinkage(problem, rho)
    if reason:
        raise DataError(f"the limit law does not exist at rho={rho:.6g}: {reason}.")
    spare = problem.rows.q - problem.rows.p
    mean = expected_chi(spare)
    s2 = residual_variance(problem)
    covariance = np.linalg.inv(problem.A) + np.outer(v, v) * (spare - mean**2)
    return np.asarray(-np.sqrt(s2) * mean * v), np.asarray(s2 * covariance)


def pseudo_true_limit(A: np.ndarray, b0: np.ndarray, rho: float) -> np.ndarray:
    """(p,) minimiser of sqrt((b - b0)'A(b - b0)) + sqrt(rho (1 + ||b||^2)): where DRIVE tends with valid instruments.

    It is b0 up to rho* = (1 + ||b0||^2)/(b0'A^{-1}b0); above, with one treatment, sign(b0) sqrt(A/(rho - A)), which no
    longer depends on the size of b0.

    Parameters
    ----------
    A : np.ndarray
        (p, p) positive definite.
    b0 : np.ndarray
        (p,) the effect on the same scale.
    rho : float
        Squared radius.

    Examples
    --------
    >>> pseudo_true_limit(np.eye(1), np.array([-3.0]), 5.0).round(6).tolist()
    [-0.5]
    """
    import jax.numpy as jnp

    from causalsat.kernels.drive_root import drive_root, reduced
    from causalsat.kernels.precision import float64

    A, b0 = np.atleast_2d(np.asarray(A, dtype=np.float64)), np.atleast_1d(np.asarray(b0, dtype=np.float64))
    rho = number("rho", rho, 0.0, math.inf, open_ends=False)
    if rho <= threshold(A, b0 / np.sqrt(1.0 + b0 @ b0)):
        return b0.copy()
    if b0.size == 1:
        return np.asarray(np.sign(b0) * np.sqrt(A[0, 0] / (rho - A[0, 0])))
    root = np.linalg.cholesky(A).T
    with float64():
        found = drive_root(reduced(jnp.asarray(root), jnp.asarray(root @ b0), True), jnp.asarray(rho, jnp.float64))
        return np.asarray(found.b)


def shrinkage(problem: DriveProblem, rho: float) -> tuple[np.ndarray, str]:
    """v (p,) at the TSLS estimate, and why it does not exist ("" where it does)."""
    p = problem.rows.p
    if problem.rows.q < p:
        return np.full(p, np.nan), "fewer instruments than treatments identify nothing"
    c = problem.gradient(problem.b_tsls)
    limit = threshold(problem.A, c)
    if rho >= limit:
        return np.full(p, np.nan), f"rho is not below {limit:.6g}, the threshold at the TSLS estimate"
    return np.sqrt(rho / (1.0 - rho / limit)) * np.linalg.solve(problem.A, c), ""


def expected_chi(k: int) -> float:
    """E[chi_k]; 0 at k = 0.

    Examples
    --------
    >>> round(expected_chi(2) ** 2 * 2 / math.pi, 12)
    1.0
    """
    if k == 0:
        return 0.0
    return math.sqrt(2.0) * math.exp(math.lgamma((k + 1) / 2.0) - math.lgamma(k / 2.0))


def residual_variance(problem: DriveProblem) -> float:
    """Weighted mean square of the residuals at TSLS, over the degrees of freedom of the second stage."""
    rows = problem.rows
    squares = float(np.mean(rows.weights * rows.residuals(problem.b_tsls) ** 2))
    return squares * rows.n / rows.d2 if rows.dof == "small" else squares


def variance_of_moments(problem: DriveProblem, sandwich: Sandwich, *, centred: bool = False) -> np.ndarray:
    """(q, q) variance of sqrt(n) R Z'e/n with residuals at TSLS, its scores less their mean where ``centred``."""
    rows = problem.rows
    residuals = rows.residuals(problem.b_tsls)
    scores = (rows.weights * residuals)[:, None] * (rows.Z @ problem.root.T)
    if centred:
        scores = scores - scores.mean(axis=0)[None, :]
    turn = problem.root @ rows.moments.L
    classical = residual_variance(problem) * turn @ turn.T
    return moment_variance(rows, scores, sandwich, columns=rows.p, classical=classical)


def variance_root(variance: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Symmetric root (q, q); negative eigenvalues (Conley, two-way) are set to zero and counted."""
    if not np.isfinite(variance).all():
        return variance, {"reason": _NO_VARIANCE}
    values, vectors = np.linalg.eigh(variance)
    negative = values < -_CLIP * max(float(values[-1]), 0.0)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))[None, :]) @ vectors.T
    return root, {"clipped_eigenvalues": int(negative.sum())} if negative.any() else {}


def law_normals(draws: int, q: int, seed: int, stream: int) -> np.ndarray:
    """(draws, q) standard normal; a longer request starts with the bits of a shorter one."""
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.precision import float64

    with float64(), counter_based():
        key = jax.random.fold_in(run_key(seed), stream)
        return np.asarray(jax.random.normal(key, (draws, q), jnp.float64))


def t_factors(draws: int, df: float, seed: int, stream: int = T_STREAM) -> np.ndarray:
    """(draws,) factors sqrt(df/chi2_df), one uniform each: what turns normal draws into draws of t(df).

    A longer request starts with the bits of a shorter one.
    """
    import jax
    import jax.numpy as jnp
    from scipy import special

    from causalsat.kernels.precision import float64

    with float64(), counter_based():
        key = jax.random.fold_in(run_key(seed), stream)
        levels = np.asarray(jax.random.uniform(key, (draws,), jnp.float64)) + 2.0**-54
    return np.asarray(np.sqrt(0.5 * df / special.gammaincinv(0.5 * df, levels)))


def _times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``rows @ matrix`` added in one order, so that the number of rows changes no bit."""
    total = np.zeros((rows.shape[0], matrix.shape[1]))
    for k in range(matrix.shape[0]):
        total += rows[:, k, None] * matrix[k][None, :]
    return total
