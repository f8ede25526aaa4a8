"""What DRIVE tends to: its law below the threshold by simulation, its moments in closed form, its limit above."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, number
from causalsat.estimators.drive_problem import DriveProblem
from causalsat.estimators.drive_threshold import threshold
from causalsat.inference.iv_covariance import moment_variance
from causalsat.inference.options import Sandwich
from causalsat.inference.resampling import counter_based, run_key

LAW_STREAM, SCORE_STREAM = 2_000_000_011, 2_000_000_033
_CLIP = 1e-12


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
        "reason" where not valid; "clipped_eigenvalues" of the variance of the moments, where there are any.
    """

    draws: np.ndarray
    v: np.ndarray
    valid: bool
    notes: dict[str, Any] = field(default_factory=dict)


def limit_law(problem: DriveProblem, rho: float, sandwich: Sandwich, *, n_law: int, seed: int) -> LimitLaw:
    """Simulate the limit law of DRIVE at a fixed radius below the threshold (Qu and Kwon 2024).

    With W ~ N(0, Omega) the limit of sqrt(n) R Z'e/n, T = A^{-1}B'W the limit of TSLS and r = W - B T,
    ``sqrt(n)(b_hat - b0) => T - ||r|| v`` with ``v = sqrt(rho) A^{-1}c / sqrt(1 - rho c'A^{-1}c)``. Assumes strong,
    valid instruments; it is the law of TSLS where q = p, rho = 0 or c = 0.

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
    root, notes = variance_root(variance_of_moments(problem, sandwich))
    if "reason" in notes:
        return LimitLaw(nothing, v, False, notes)
    normals = law_normals(n_law, rows.q, seed, LAW_STREAM)
    left, sigma, right = np.linalg.svd(problem.B, full_matrices=True)
    turned = _times(normals, root @ left)
    draws = _times(turned[:, : rows.p], right / sigma[:, None])
    if not problem.just_identified:
        distance = np.sqrt(np.sum(turned[:, rows.p :] ** 2, axis=1))
        draws = draws - distance[:, None] * v[None, :]
    return LimitLaw(draws, v, True, notes)


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
        return variance, {"reason": "the variance of the moments does not exist under this covariance"}
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


def _times(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """``rows @ matrix`` added in one order, so that the number of rows changes no bit."""
    total = np.zeros((rows.shape[0], matrix.shape[1]))
    for k in range(matrix.shape[0]):
        total += rows[:, k, None] * matrix[k][None, :]
    return total
