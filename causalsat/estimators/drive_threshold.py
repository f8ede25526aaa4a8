"""Up to which radius DRIVE tends to the effect: thresholds at an estimate, uniform bounds, and their bias."""

from dataclasses import dataclass

import numpy as np

from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.iv_covariance import iv_covariance
from causalsat.inference.options import Sandwich

_NULL = 1e-12


@dataclass(frozen=True)
class Thresholds:
    """Bounds on the radius.

    Attributes
    ----------
    lambda_min : float
        Uniform bound: smallest eigenvalue of A, or for the target "ols" smallest root of the pencil (A, Sigma_vv).
    lambda_min_corrected : float
        The same with A net of its bias (may be negative).
    lambda_min_at_b : float
        The sharper lambda_min (1 + 1/||b||^2), or for "ols" the root over the R^2 of residuals on the first stage's.
    rho_hat, rho_hat_corrected : float
        1/(c'A^{-1}c) at the TSLS estimate; infinite where the penalty is flat there.
    rho_ols : float
        Radius from which the target "ols" gives least squares; NaN for "zero".
    """

    lambda_min: float
    lambda_min_corrected: float
    lambda_min_at_b: float
    rho_hat: float
    rho_hat_corrected: float
    rho_ols: float


def thresholds(problem: DriveProblem, sandwich: Sandwich, *, many_instruments: bool = True) -> Thresholds:
    """All bounds of a problem.

    For a radius below 1/(c'A^{-1}c), c the gradient of the penalty at the effect, the limit of DRIVE is the effect
    (valid, relevant instruments); ``lambda_min`` bounds that from below whatever the effect.

    Parameters
    ----------
    problem : DriveProblem
        Moments and target.
    sandwich : Sandwich
        Covariance behind the correction for many weak instruments.
    many_instruments : bool
        False leaves A uncorrected.
    """
    b = problem.b_tsls
    c = problem.gradient(b)
    corrected = corrected_strength(problem, sandwich) if many_instruments else problem.A
    spread = problem.V * first_stage_factor(problem) if problem.shrink_to == "ols" else np.eye(problem.rows.p)
    smallest = smallest_root(problem.A, spread) if problem.rows.q >= problem.rows.p else 0.0
    size = float(c @ np.linalg.pinv(spread) @ c)
    return Thresholds(
        lambda_min=smallest,
        lambda_min_corrected=smallest_root(corrected, spread),
        lambda_min_at_b=smallest / size if size > 0.0 else np.inf,
        rho_hat=threshold(problem.A, c),
        rho_hat_corrected=threshold(corrected, c),
        rho_ols=ols_radius(problem) if problem.shrink_to == "ols" else float("nan"),
    )


def threshold(A: np.ndarray, c: np.ndarray) -> float:
    """1/(c'A^{-1}c) for A (p, p) and c (p,); infinite at c = 0, zero where A is not positive definite.

    The limit problem minimises sqrt((b - b0)'A(b - b0)) + sqrt(rho) penalty(b), and b0 is its solution exactly when
    sqrt(rho) c lies in {A^{1/2}u : ||u|| <= 1}.

    Parameters
    ----------
    A : np.ndarray
        (p, p) strength of the first stage.
    c : np.ndarray
        (p,) gradient of the penalty.

    Examples
    --------
    >>> round(threshold(np.array([[0.5]]), np.array([1.0]) / np.sqrt(2.0)), 12)  # A (1 + 1/b^2) at b = 1
    1.0
    """
    if not c.any():
        return np.inf
    if not (np.diag(A) > 0.0).all():
        return 0.0
    unit = np.sqrt(np.diag(A))
    values, vectors = np.linalg.eigh(A / np.outer(unit, unit))
    if values[0] <= _NULL:
        return 0.0
    return float(1.0 / np.sum((vectors.T @ (c / unit)) ** 2 / values))


def corrected_strength(problem: DriveProblem, sandwich: Sandwich) -> np.ndarray:
    """(p, p) A net of what the noise of the first stage adds to it: E[A_hat] = A + sum_k Var(B_k), B_k rows of B.

    Homoskedastic: A - (q/n) X'M_Z X/(n - q - m). Otherwise the variances of the rows of B come from the covariance of
    the study (Sandwich "classical" with unequal weights is read as "hc1"). With one treatment this is A(1 - 1/F), F
    the effective F of the same covariance (homoskedastic: the partial F). It may have negative eigenvalues.

    Parameters
    ----------
    problem : DriveProblem
        Moments and metric.
    sandwich : Sandwich
        "classical", "hc0", "hc1", "cluster", "twoway" or "conley".
    """
    rows = problem.rows
    if sandwich.kind == "classical" and np.ptp(rows.weights) > _NULL:
        sandwich = Sandwich("hc1")
    if sandwich.kind == "classical":
        turn = problem.root @ rows.moments.L
        return np.asarray(problem.A - np.sum(turn**2) / rows.n * problem.V * first_stage_factor(problem))
    turned, spread = rows.Z @ problem.root.T, rows.moments.MX
    if sandwich.kind in ("hc0", "hc1"):
        # Summed over instruments, z_k^2 v v' needs only the length of z.
        scores = (rows.weights * np.sqrt(np.sum(turned**2, axis=1)))[:, None] * spread
        noise = _covariance(problem, scores, sandwich)
    else:
        scores = (rows.weights[:, None, None] * turned[:, :, None] * spread[:, None, :]).reshape(rows.n, -1)
        blocks = _covariance(problem, scores, sandwich).reshape(rows.q, rows.p, rows.q, rows.p)
        noise = np.einsum("kikj->ij", blocks)
    return np.asarray(problem.A - noise)


def smallest_root(A: np.ndarray, spread: np.ndarray) -> float:
    """Smallest d'A d / d'S d over directions d; S = ``spread`` (p, p) may be singular where A is positive.

    Parameters
    ----------
    A, spread : np.ndarray
        (p, p) symmetric; ``spread`` positive semi-definite.

    Examples
    --------
    >>> round(smallest_root(np.diag([2.0, 3.0]), np.diag([4.0, 0.0])), 12)
    0.5
    """
    import scipy.linalg

    unit = np.sqrt(np.abs(np.diag(A)) + np.diag(spread))
    unit = np.where(unit > 0.0, unit, 1.0)
    A, spread = A / np.outer(unit, unit), spread / np.outer(unit, unit)
    values, vectors = np.linalg.eigh(spread)
    live = values > _NULL
    if not live.any():
        return np.inf
    A = vectors.T @ A @ vectors
    inner = A[np.ix_(live, live)]
    if not live.all():
        across = A[np.ix_(live, ~live)]
        inner = inner - across @ np.linalg.pinv(A[np.ix_(~live, ~live)]) @ across.T
    return float(scipy.linalg.eigh(inner, np.diag(values[live]), eigvals_only=True)[0])


def ols_radius(problem: DriveProblem) -> float:
    """(m/s)^2 at least squares: from this radius on the target "ols" is reached."""
    moments = problem.rows.moments
    b = np.linalg.lstsq(problem.A + problem.V, problem.B.T @ problem.w + moments.XMy, rcond=None)[0]
    left = problem.w - problem.B @ b
    inside = float(left @ left)
    outside = float(moments.yMy - 2.0 * moments.XMy @ b + b @ moments.XMX @ b)
    return max(outside, 0.0) / inside if inside > 0.0 else np.inf


def first_stage_factor(problem: DriveProblem) -> float:
    """From n to the degrees of freedom of the first stage."""
    rows = problem.rows
    return rows.n / (rows.d1 if rows.dof == "small" else rows.n)


def _covariance(problem: DriveProblem, scores: np.ndarray, sandwich: Sandwich) -> np.ndarray:
    """Covariance of the mean of scores; a variance that does not exist counts as zero."""
    rows = problem.rows
    return np.asarray(np.nan_to_num(iv_covariance(rows, scores, sandwich, columns=rows.q).matrix, nan=0.0))
