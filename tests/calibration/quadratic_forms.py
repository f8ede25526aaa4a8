"""Exact coverage of a linear estimate with Gaussian errors and a quadratic variance estimate.

With u ~ N(0, S), an error c'u of the estimate and a squared standard error u'Au, the interval covers the truth with
probability P(u'(cc' - q^2 A)u <= 0), a weighted sum of chi-square variables (Imhof 1961, equation 3.2, at zero). A
negative variance estimate counts as a miss on both sides of the equality. Nothing here uses the library.
"""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad

from tests.inference.conley_reference import haversine_km, kernel_weight


@dataclass(frozen=True)
class Form:
    """Error c (n,) and squared standard error A (n, n) of one coefficient, as functions of the errors."""

    c: np.ndarray
    A: np.ndarray


def coverage(form: Form, root: np.ndarray, q: float) -> float:
    """Probability that estimate +- q se covers the truth, errors being root @ standard normals."""
    middle = root.T @ (np.outer(form.c, form.c) - q**2 * form.A) @ root
    values = np.linalg.eigvalsh(0.5 * (middle + middle.T))
    values = values[np.abs(values) > 1e-10 * np.abs(values).max()]
    values = values / np.abs(values).max()

    def integrand(log_u: float) -> float:
        u = np.exp(log_u)
        angle = 0.5 * np.arctan(values * u).sum()
        # d(log u) takes the 1/u of the formula away.
        return float(np.sin(angle) * np.exp(-0.25 * np.log1p((values * u) ** 2).sum()))

    area = quad(integrand, -25.0, 25.0, limit=2000, epsabs=1e-9)[0]
    return 0.5 - area / np.pi


def variance_moments(form: Form, root: np.ndarray) -> tuple[float, float, float]:
    """Variance of the estimate; mean and standard deviation of the squared standard error."""
    spread = root.T @ form.A @ root
    error = root.T @ form.c
    return float(error @ error), float(np.trace(spread)), float(np.sqrt(2.0 * (spread * spread.T).sum()))


def pair_form(X: np.ndarray, j: int, K: np.ndarray, factor: float = 1.0, divide_leverage: bool = False) -> Form:
    """Sandwich with weights K (n, n) on pairs of scores: A = factor M (K * bb') M, b the j-th row of (X'X)^{-1}X'."""
    bread = np.linalg.inv(X.T @ X)
    c = (bread @ X.T)[j]
    hat = X @ bread @ X.T
    M = np.eye(X.shape[0]) - hat
    b = c / (1.0 - np.diag(hat)) if divide_leverage else c
    return Form(c, factor * M @ (K * np.outer(b, b)) @ M)


def classical_form(X: np.ndarray, j: int) -> Form:
    """s^2 (X'X)^{-1}."""
    n, k = X.shape
    bread = np.linalg.inv(X.T @ X)
    return Form((bread @ X.T)[j], bread[j, j] / (n - k) * (np.eye(n) - X @ bread @ X.T))


def jackknife_form(X: np.ndarray, j: int, codes: np.ndarray) -> Form:
    """(G - 1)/G sum of squared changes when each cluster is left out, each change by its own regression."""
    full = np.linalg.pinv(X)
    groups = np.unique(codes)
    changes = []
    for group in groups:
        kept = codes != group
        partial = np.zeros_like(full)
        partial[:, kept] = np.linalg.pinv(X[kept])
        changes.append((partial - full)[j])
    L = np.array(changes)
    return Form(full[j], (groups.size - 1) / groups.size * L.T @ L)


def same(codes: np.ndarray) -> np.ndarray:
    """(n, n) one where two rows share a code."""
    return (codes[:, None] == codes[None, :]).astype(float)


def near(lonlat: np.ndarray, cutoff: float, kernel: str, time: np.ndarray | None = None) -> np.ndarray:
    """(n, n) spatial weights, inside periods only if ``time`` is given."""
    weight = kernel_weight(kernel, haversine_km(lonlat), cutoff)
    return weight if time is None else weight * same(time)


def serial(unit: np.ndarray, time: np.ndarray, lag: int) -> np.ndarray:
    """(n, n) Bartlett weights between periods of one unit."""
    gap = np.abs(time[:, None] - time[None, :])
    return same(unit) * np.where((gap > 0) & (gap <= lag), 1.0 - gap / (lag + 1.0), 0.0)
