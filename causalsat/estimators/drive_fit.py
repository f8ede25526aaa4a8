"""One fit of DRIVE, or its whole path over the radius, from a problem or from raw arrays."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.estimators.drive_problem import DriveProblem

GRID_POINTS = 121
_ROWS = 2000  # rows of a product whose columns stay in a core's cache


@dataclass(frozen=True, eq=False)
class DriveFit:
    """A solution on the solver's scale.

    Attributes
    ----------
    rho : float
        Squared radius.
    b : np.ndarray
        (p,) float64 coefficients on the solver's scale (``problem.to_raw`` brings them back).
    lam : float
        Implicit ridge penalty: ``b = (A + lam I)^{-1} A b_tsls``; for shrink_to="ols" the weight 1 - kappa.
    s, t : float
        Root of the loss at b, and sqrt(1 + ||b||^2) (or the root of the residual variance orthogonal to Z).
    kappa : float
        The k-class parameter for shrink_to="ols", else NaN.
    clipped : bool
        rho lies above the one that gives least squares (shrink_to="ols" only).
    status : int
        0 when b is finite, 1 when the moments are singular.
    """

    rho: float
    b: np.ndarray
    lam: float
    s: float
    t: float
    kappa: float
    clipped: bool
    status: int

    @property
    def objective(self) -> float:
        """The worst-case root mean square that b minimises."""
        return float(self.s + np.sqrt(self.rho) * self.t)


@dataclass(frozen=True, eq=False)
class DrivePath:
    """Solutions at r radii: ``rho``, ``lam``, ``s``, ``t``, ``clipped``, ``status`` are (r,), ``b`` is (r, p)."""

    rho: np.ndarray
    b: np.ndarray
    lam: np.ndarray
    s: np.ndarray
    t: np.ndarray
    clipped: np.ndarray
    status: np.ndarray


def solve_drive(problem: DriveProblem, rho: float) -> DriveFit:
    """The minimiser of ||w - B b|| + sqrt(rho) penalty(b) (Qu and Kwon 2024).

    Consistent for the effect when instruments are relevant and valid and rho stays below the threshold
    1/(c'A^{-1}c), c the gradient of the penalty; TSLS at rho = 0.

    Parameters
    ----------
    problem : DriveProblem
        Moments and target.
    rho : float
        Squared radius on the problem's scale, not negative.
    """
    path = solve_path(problem, np.array([rho], dtype=np.float64))
    lam = float(path.lam[0])
    kappa = 1.0 - lam if problem.shrink_to == "ols" else float("nan")
    return DriveFit(
        rho=float(rho),
        b=path.b[0],
        lam=lam,
        s=float(path.s[0]),
        t=float(path.t[0]),
        kappa=kappa,
        clipped=bool(path.clipped[0]),
        status=int(path.status[0]),
    )


def solve_path(problem: DriveProblem, rhos: np.ndarray) -> DrivePath:
    """Solutions at every radius (r,) from one decomposition.

    Parameters
    ----------
    problem : DriveProblem
        Moments and target.
    rhos : np.ndarray
        (r,) float64 squared radii, not negative.
    """
    from causalsat.kernels.drive_root import CLIPPED
    from causalsat.kernels.precision import float64

    rhos = np.atleast_1d(np.asarray(rhos, dtype=np.float64))
    with float64():
        if problem.shrink_to == "ols":
            moments = problem.rows.moments
            parts = (problem.B, problem.w, moments.XMX, moments.XMy, np.float64(moments.yMy))
            root = _ols_path(problem.just_identified)(*parts, rhos)
        else:
            root = _zero_path(problem.just_identified)(problem.B, problem.w, rhos)
        b, lam, s, t, status = (np.asarray(part) for part in root)
    clipped = status == CLIPPED
    return DrivePath(rhos, b, lam, s, t, clipped, np.where(clipped, 0, status))


def default_grid(problem: DriveProblem, lambda_min: float, rho_hat: float) -> np.ndarray:
    """(122,) radii: 0, then 121 log-spaced from 1e-4 lambda_min to 10 rho_hat.

    Parameters
    ----------
    problem : DriveProblem
        Gives the scale where a bound is zero or infinite.
    lambda_min : float
        Smallest eigenvalue of A.
    rho_hat : float
        Plug-in threshold.
    """
    largest = float(np.linalg.eigvalsh(problem.A)[-1]) or 1.0
    top = 10.0 * (rho_hat if 0.0 < rho_hat < np.inf else largest)
    low = 1e-4 * (lambda_min if 0.0 < lambda_min < top else 1e-8 * top)
    return np.concatenate([[0.0], np.geomspace(low, top, GRID_POINTS)])


def fast_fit(
    y: np.ndarray, X: np.ndarray, Z: np.ndarray, rho: float, C: np.ndarray | None = None, scale: str = "unit"
) -> np.ndarray:
    """Coefficients (p,) in raw units from raw arrays with the least work: moments, then one Cholesky factor.

    Forming the Gram matrix squares the condition number; :func:`solve_drive` works from a QR decomposition instead.

    Parameters
    ----------
    y, X, Z : np.ndarray
        (n,), (n, p), (n, q) float64, q >= p.
    rho : float
        Squared radius on the scale named by ``scale``.
    C : np.ndarray, optional
        (n, m) covariates, linearly independent, to partial out (the constant is not added).
    scale : str
        "unit" or "raw".
    """
    from causalsat.kernels.precision import float64

    m, q, p = (0 if C is None else C.shape[1]), Z.shape[1], X.shape[1]
    total = _products([*([] if C is None else [C]), Z, X, y[:, None]], m + q)
    squares = np.append(np.einsum("ij,ij->j", X, X), y @ y) if scale == "unit" else np.ones(p + 1)
    sums = (total[:, : m + q], total[:, m + q :], squares)
    with float64():
        return np.asarray(_from_sums(m, q, p, scale == "unit")(*sums, np.float64(y.shape[0]), np.float64(rho)))


def _products(blocks: list[np.ndarray], first: int) -> np.ndarray:
    """(first, k) products of the first columns of the blocks with all k, a cache's worth of rows at a time."""
    n, k = blocks[0].shape[0], sum(block.shape[1] for block in blocks)
    columns, total = np.empty((k, min(n, _ROWS))), np.zeros((first, k))
    for start in range(0, n, _ROWS):
        part = columns[:, : min(_ROWS, n - start)]
        at = 0
        for block in blocks:
            part[at : at + block.shape[1]] = block[start : start + _ROWS].T
            at += block.shape[1]
        total += part[:first] @ part.T
    return total


@functools.cache
def _zero_path(just_identified: bool) -> Callable[..., Any]:
    import jax

    from causalsat.kernels.drive_root import drive_root, reduced

    def path(B: Any, w: Any, rhos: Any) -> Any:
        red = reduced(B, w, just_identified)
        return jax.vmap(lambda rho: drive_root(red, rho))(rhos)

    return jax.jit(path)


@functools.cache
def _ols_path(just_identified: bool) -> Callable[..., Any]:
    import jax

    from causalsat.kernels.drive_root import ols_root

    def path(B: Any, w: Any, V: Any, v: Any, u: Any, rhos: Any) -> Any:
        return jax.vmap(lambda rho: ols_root(B, w, V, v, u, rho, just_identified))(rhos)

    return jax.jit(path)


@functools.cache
def _from_sums(m: int, q: int, p: int, unit: bool) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    from causalsat.kernels.drive_root import drive_root, reduced

    def fit(fixed: Any, across: Any, squares: Any, n: Any, rho: Any) -> Any:
        lower = jnp.linalg.cholesky(fixed / n)
        half = jax.scipy.linalg.solve_triangular(lower, across / n, lower=True)
        sd = jnp.ones(p + 1, fixed.dtype)
        if unit:
            sd = jnp.sqrt(squares / n - jnp.sum(half[:m] ** 2, axis=0))
        inside = half[m:] / sd[None, :]
        root = drive_root(reduced(inside[:, :p], inside[:, p], q == p), rho)
        return root.b * sd[p] / sd[:p]

    return jax.jit(fit)
