"""Up to which radius DRIVE tends to the effect: thresholds at an estimate, uniform bounds, and their bias."""

from dataclasses import dataclass

import numpy as np

from causalsat.estimators.drive_problem import DriveProblem
from causalsat.inference.covariance import positive_part
from causalsat.inference.iv_covariance import moment_variance, tested_sandwich
from causalsat.inference.options import Sandwich

_NULL, _NOTHING = 1e-12, 1e-8
_NAMES = {"twoway": "two-way", "conley": "Conley"}
_ABSENT = (
    "variance of the first stage is negative, zero or not finite in some direction, so the radius was corrected for "
    "many weak instruments with"
)


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
    flags : tuple of str
        What a reader must know about the correction.
    """

    lambda_min: float
    lambda_min_corrected: float
    lambda_min_at_b: float
    rho_hat: float
    rho_hat_corrected: float
    rho_ols: float
    flags: tuple[str, ...] = ()


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
    corrected, flags = _corrected(problem, sandwich) if many_instruments else (problem.A, ())
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
        flags=flags,
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
    the effective F of the same covariance (homoskedastic: the partial F). It may have negative eigenvalues. Where
    the covariance gives the first stage no positive variance (Conley, two-way, clusters that cancel), the larger of its
    positive part and of "hc1" is taken.

    Parameters
    ----------
    problem : DriveProblem
        Moments and metric.
    sandwich : Sandwich
        "classical", "hc0", "hc1", "cluster", "twoway" or "conley".
    """
    return _corrected(problem, sandwich)[0]


def _corrected(problem: DriveProblem, sandwich: Sandwich) -> tuple[np.ndarray, tuple[str, ...]]:
    """A net of its bias, and a sentence where the covariance has no variance for it.

    A part of the first-stage variance that is not finite, zero or negative would count as no noise and enlarge the
    radius: then the larger of its positive part and of the variance of independent rows is taken.
    """
    used = tested_sandwich(sandwich, problem.rows)
    if used.kind in ("classical", "hc0", "hc1"):
        return np.asarray(problem.A - _noise(problem, used)), ()
    rows, plain = problem.rows, _noise(problem, Sandwich("hc1"))
    turned = rows.Z @ problem.root.T
    scores = (rows.weights[:, None, None] * turned[:, :, None] * rows.moments.MX[:, None, :]).reshape(rows.n, -1)
    variance, name = moment_variance(rows, scores, used, columns=rows.q) / rows.n, _NAMES.get(used.kind, used.kind)
    if not np.isfinite(variance).all():
        return np.asarray(problem.A - plain), (f"the {name} {_ABSENT} hc1",)
    positive, lost = positive_part(variance)
    noise = _over_instruments(positive if lost else variance, rows.q, rows.p)
    live = np.diag(plain) > 0.0
    share = np.mean(np.diag(noise)[live] / np.diag(plain)[live]) if live.any() else 1.0
    if not lost and share > _NOTHING:
        return np.asarray(problem.A - noise), ()
    if share < 1.0:
        return np.asarray(problem.A - plain), (f"the {name} {_ABSENT} hc1",)
    return np.asarray(problem.A - noise), (f"the {name} {_ABSENT} its positive part",)


def _over_instruments(variance: np.ndarray, q: int, p: int) -> np.ndarray:
    """(p, p) sum of the diagonal blocks of the variance (q p, q p) of B, the treatments of each instrument together."""
    return np.asarray(np.einsum("kikj->ij", variance.reshape(q, p, q, p)))


def _noise(problem: DriveProblem, sandwich: Sandwich) -> np.ndarray:
    """(p, p) sum of the variances of the rows of B, rows independent."""
    rows = problem.rows
    if sandwich.kind == "classical":
        turn = problem.root @ rows.moments.L
        return np.asarray(np.sum(turn**2) / rows.n * problem.V * first_stage_factor(problem))
    # Summed over instruments, z_k^2 v v' needs only the length of z.
    length = np.sqrt(np.sum((rows.Z @ problem.root.T) ** 2, axis=1))
    scores = (rows.weights * length)[:, None] * rows.moments.MX
    return moment_variance(rows, scores, sandwich, columns=rows.q) / rows.n


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
