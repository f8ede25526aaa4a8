"""Local polynomials of one side of a cutoff as a bandwidth selector needs them, and population constants of kernels."""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from causalsat.errors import NumericalError, OptionError, SingularWindowError, count, one_of

SIDES = ("right", "left")
_PRELIMINARY = {"triangular": 2.576, "epanechnikov": 2.34, "uniform": 1.843}
_RCOND = 1e-13
_FREE = 1e-8
_CELLS = 400_000
MARGIN = 3
# Twice what a fit refuses.
_WORKABLE = 2e-10


@dataclass(frozen=True, eq=False)
class Coefficient:
    """A coefficient in u = x / h of M local polynomials that share their weights.

    Attributes
    ----------
    value : np.ndarray
        (M,) the coefficient of u^nu.
    variance : np.ndarray
        (M,) sum over groups of squared contributions.
    next_power : float
        Sum of the coefficient's weights times u^(order + 1): what a term of the next order adds to it.
    """

    value: np.ndarray
    variance: np.ndarray
    next_power: float


@dataclass(frozen=True, eq=False)
class Side:
    """Units on one side of a cutoff.

    Attributes
    ----------
    name : str
        "right" or "left".
    x : np.ndarray
        (m,) running variable minus cutoff.
    columns : np.ndarray
        (m, M) outcomes.
    omega : np.ndarray
        (m,) positive unit weights.
    groups : np.ndarray or None
        (m,) cluster codes.
    kernel, residuals : str
        Kernel, and the residual factor hc0, hc1, hc2 or hc3.
    covariates : np.ndarray or None
        (m, c), whose slopes can be taken out of the columns.
    """

    name: str
    x: np.ndarray
    columns: np.ndarray
    omega: np.ndarray
    groups: np.ndarray | None
    kernel: str
    residuals: str
    covariates: np.ndarray | None = None
    distinct: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        # Sorted by distance, a window is a leading block of rows: no copies.
        nearest = np.argsort(np.abs(self.x), kind="stable")
        for name in ("x", "columns", "omega"):
            object.__setattr__(self, name, getattr(self, name)[nearest])
        for name in ("groups", "covariates"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, getattr(self, name)[nearest])
        object.__setattr__(self, "distinct", np.unique(np.abs(self.x)))

    @property
    def reach(self) -> float:
        """Largest |x|."""
        return float(self.distinct[-1]) if self.distinct.size else 0.0

    def held(self, h: float) -> int:
        """How many distinct values of x have positive weight at bandwidth ``h``."""
        return int(np.searchsorted(self.distinct, h, side="right" if self.kernel == "uniform" else "left"))

    def least(self, need: int, user: str = "pilot regressions") -> float:
        """Bandwidth whose window holds ``need`` distinct values with weights that are not nearly zero."""
        if self.distinct.size < need:
            raise SingularWindowError(
                f"no bandwidth can be chosen: {self.name} of the cutoff there are {self.distinct.size} distinct values "
                f"of the running variable, and the {user} need {need}. Give the bandwidth as a number."
            )
        if self.distinct.size > need:
            return float(self.distinct[need])
        return float(self.distinct[-1]) * (1.0 + 1.0 / need)

    def carries(self, h: float, order: int) -> bool:
        """Whether the window at ``h`` holds ``order`` + 3 distinct values, or all, that are not nearly tied."""
        if self.held(h) < min(order + MARGIN, self.distinct.size):
            return False
        u, weights = self.window(h)
        columns = np.vander(u, order + 1, increasing=True)
        values = np.linalg.eigvalsh(columns.T @ (columns * weights[:, None]))
        return bool(values[0] > _WORKABLE * values[-1])

    def least_for(self, order: int) -> float:
        """Least bandwidth, among the values of |x|, whose window carries a polynomial of ``order``."""
        self.least(order + 2, f"polynomials of order {order}")
        need = min(order + MARGIN, self.distinct.size)
        first = self.least(need)
        if self.carries(first, order):
            return first
        # Windows beyond the first hold more and only more: halving finds where they begin to do.
        wider = [*self.distinct[need + 1 :].tolist(), self.reach * (1.0 + 1.0 / need)]
        at = bisect.bisect_left(wider, True, key=lambda h: self.carries(h, order))
        return float(wider[min(at, len(wider) - 1)])

    def reach_quantile(self, level: float) -> float:
        """Quantile of |x|."""
        return float(np.quantile(np.abs(self.x), level))

    def size(self, h: float, order: int) -> tuple[int, float]:
        """Units with positive weight at ``h``, and 1 / sum of squared weights of the limit (0 where it has none)."""
        u, weights = self.window(h)
        if self.held(h) <= order:
            return u.size, 0.0
        rows, _, root = _linear_maps(u, weights, order, self.name, h)
        return u.size, 1.0 / float(np.sum((rows[0] * root) ** 2))

    def coefficient(self, h: float, order: int, nu: int, chosen: np.ndarray | None = None) -> Coefficient:
        """Coefficient ``nu`` of the local polynomial of ``order`` at bandwidth ``h`` in the ``chosen`` columns."""
        u, weights = self.window(h)
        rows, basis, root = _linear_maps(u, weights, order, self.name, h)
        maps = rows * root[None, :]
        codes = None if self.groups is None else np.unique(self.groups[: u.size], return_inverse=True)[1]
        own = root * corrected(rows[nu], basis, self.residuals, codes)
        outcome = self.columns[: u.size]
        if chosen is not None and chosen.size < outcome.shape[1]:
            outcome = outcome[:, chosen]
        beta = maps @ outcome
        design = np.vander(u, order + 1, increasing=True)
        variance = _squares(outcome, design, beta, own, codes)
        return Coefficient(beta[nu], variance, float(maps[nu] @ u ** (order + 1)))

    def independent_in(self, h: float) -> int:
        """Units in the window, or groups of them where there are any."""
        size = self.window(h)[0].size
        return size if self.groups is None else int(np.unique(self.groups[:size]).size)

    def net_of_covariates(self, h: float, order: int) -> "Side":
        """The side with columns less covariates times their slopes in the local polynomial of ``order`` at ``h``.

        Covariates that polynomial and other covariates determine in the window add nothing.
        """
        if self.covariates is None:
            return self
        u, weights = self.window(h)
        _, basis, root = _linear_maps(u, weights, order, self.name, h)
        own = root[:, None] * self.covariates[: u.size]
        length = np.sqrt((own**2).sum(axis=0))
        own = own / np.where(length > 0.0, length, 1.0)[None, :]
        own = own - basis @ (basis.T @ own)
        outcome = root[:, None] * self.columns[: u.size]
        slopes = np.linalg.pinv(own.T @ own, rcond=_FREE, hermitian=True) @ (own.T @ outcome)
        slopes = slopes / np.where(length > 0.0, length, 1.0)[:, None]
        return replace(self, columns=self.columns - self.covariates @ slopes)

    def window(self, h: float) -> tuple[np.ndarray, np.ndarray]:
        """Scaled x / h and the weights of the units of positive weight, which come first."""
        size = int(np.searchsorted(np.abs(self.x), h, side="right" if self.kernel == "uniform" else "left"))
        u = self.x[:size] / h
        weights = self.omega[:size] * kernel_weights(u, self.kernel)
        return u, weights


def kernel_weights(u: np.ndarray, kernel: str) -> np.ndarray:
    """K(u), zero outside |u| <= 1."""
    size = np.abs(u)
    if kernel == "triangular":
        return np.asarray(np.maximum(1.0 - size, 0.0))
    if kernel == "epanechnikov":
        return np.asarray(0.75 * np.maximum(1.0 - size**2, 0.0))
    return np.where(size <= 1.0, 0.5, 0.0)


def corrected(row: np.ndarray, basis: np.ndarray, residuals: str, codes: np.ndarray | None) -> np.ndarray:
    """(m,) a linear map of weighted residuals with the small-sample correction of its variance folded in.

    With H = q q' the symmetric hat matrix, groups g contribute row_g' (I - H_gg)^(-1/2) e_g for "hc2" (CR2 of Bell and
    McCaffrey 2002) and row_g' (I - H_gg)^(-1) e_g for "hc3" (CR3); units on their own give HC2 and HC3. "hc1" scales
    by degrees of freedom. H_gg has rank p + 1, so only (p + 1) x (p + 1) matrices are taken apart. A unit that its
    polynomial must pass through has residual zero and keeps a finite factor.

    Parameters
    ----------
    row : np.ndarray
        (m,) the map, before the roots of the kernel weights.
    basis : np.ndarray
        (m, p + 1) orthonormal columns q.
    residuals : str
        "hc0", "hc1", "hc2" or "hc3".
    codes : np.ndarray or None
        (m,) group codes 0..G-1, ascending groups each present.
    """
    m, k = basis.shape
    if residuals == "hc0":
        return row
    if residuals == "hc1":
        free, groups = max(m - k, 1), m if codes is None else int(codes.max()) + 1
        return np.asarray(row * math.sqrt(m / free if codes is None else (m - 1) / free * groups / max(groups - 1, 1)))
    power = -0.5 if residuals == "hc2" else -1.0
    if codes is None:
        return np.asarray(row * np.maximum(1.0 - np.einsum("ij,ij->i", basis, basis), _FREE) ** power)
    ordered, starts = _blocks(codes)
    q, own = basis[ordered], row[ordered]
    gram = np.add.reduceat(q[:, :, None] * q[:, None, :], starts, axis=0)
    cross = np.add.reduceat(q * own[:, None], starts, axis=0)
    values, vectors = np.linalg.eigh(gram)
    gain = np.maximum(1.0 - values, _FREE) ** power - 1.0
    gain = np.where(values > 1e-9, gain / np.where(values > 1e-9, values, 1.0), -power)
    step = np.einsum("gij,gj,gkj,gk->gi", vectors, gain, vectors, cross, optimize=True)
    return np.asarray(row + np.einsum("ij,ij->i", basis, step[codes]))


def preliminary_bandwidth(x: np.ndarray, kernel: str) -> float:
    """Rule-of-thumb bandwidth C_K min(sd, IQR / 1.349) n_d^(-1/5), n_d distinct x: Silverman's 1.06 for the kernel.

    Parameters
    ----------
    x : np.ndarray
        (n,) running variable minus cutoff, in its own units.
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    """
    sd = float(np.std(x, ddof=1)) if x.size > 1 else 0.0
    low, high = np.quantile(x, [0.25, 0.75])
    spread = float(high - low) / 1.349
    spread = min(sd, spread) if spread > 0.0 else sd
    return float(_PRELIMINARY[kernel] * spread * np.unique(x).size ** -0.2)


def kernel_constants(kernel: str, order: int) -> tuple[float, float]:
    """Bias and variance constants of a one-sided local polynomial at its boundary.

    With Gamma, Psi and Lambda the integrals over [0, 1] of K r r', K^2 r r' and u^(s+1) K r, r = (1, u, ..., u^s):
    cb = e0' Gamma^-1 Lambda and cv = e0' Gamma^-1 Psi Gamma^-1 e0. The limit from the right has bias
    h^(s+1) cb m^(s+1) / (s+1)! and variance cv Var / (n h f).

    Parameters
    ----------
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    order : int
        Degree s of the polynomial, 0 to 8.

    Returns
    -------
    tuple of float
        cb and cv.

    Examples
    --------
    >>> cb, cv = kernel_constants("triangular", 1)
    >>> round(cb, 10), round(cv, 10)
    (-0.1, 4.8)
    """
    one_of("kernel", kernel, tuple(_PRELIMINARY))
    s = count("order", order, maximum=8)
    j = np.arange(2 * s + 2, dtype=np.float64)
    if kernel == "triangular":
        first, second = 1.0 / ((j + 1) * (j + 2)), 2.0 / ((j + 1) * (j + 2) * (j + 3))
    elif kernel == "epanechnikov":
        first = 0.75 * (1.0 / (j + 1) - 1.0 / (j + 3))
        second = 0.5625 * (1.0 / (j + 1) - 2.0 / (j + 3) + 1.0 / (j + 5))
    else:
        first, second = 0.5 / (j + 1), 0.25 / (j + 1)
    at = np.add.outer(np.arange(s + 1), np.arange(s + 1))
    row = np.linalg.solve(first[at], np.eye(s + 1)[0])
    return float(row @ first[s + 1 : 2 * s + 2]), float(row @ second[at] @ row)


def population_bandwidth(
    n: int,
    density: float,
    variance: np.ndarray,
    derivative: np.ndarray,
    cells: np.ndarray,
    *,
    kernel: str = "triangular",
    order: int = 1,
) -> float:
    """Bandwidth that minimises the integrated asymptotic MSE of the jump of a known design.

    h = [ (V+ + V-) / (2 (s+1) n (B+ - B-)^2) ]^(1/(2s+3)), numerator and squared bias integrated over q separately,
    with V = cv Var / f and B = cb m^(s+1) / (s+1)! times (-1)^(s+1) on the left.

    Parameters
    ----------
    n : int
        Units on both sides.
    density : float
        Density of the running variable at the cutoff, per unit of x.
    variance, derivative : np.ndarray
        (2, M) variance of the outcome and derivative s + 1 of its mean at the cutoff, right and left.
    cells : np.ndarray
        (M,) cell weights.
    kernel : str
        "triangular", "epanechnikov" or "uniform".
    order : int
        Degree s.

    Raises
    ------
    OptionError
        A density that is not positive, or biases that cancel at every quantile.
    """
    cb, cv = kernel_constants(kernel, order)
    sign = np.array([1.0, (-1.0) ** (order + 1)])
    bias = cb * sign[:, None] * derivative / math.factorial(order + 1)
    squared = float(cells @ (bias[0] - bias[1]) ** 2)
    if not (density > 0.0 and squared > 0.0):
        raise OptionError(
            f"no bandwidth minimises the mean squared error: density={density!r} must be positive and the biases of "
            f"the two sides must not cancel at every quantile (integrated squared bias {squared:.3g})."
        )
    noise = cv * float(cells @ variance.sum(axis=0)) / density
    return float((noise / (2 * (order + 1) * n * squared)) ** (1.0 / (2 * order + 3)))


def _linear_maps(
    u: np.ndarray, weights: np.ndarray, order: int, name: str, h: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # QR of the weighted columns at unit length: the Gram of u^0..u^7 on [0, 1] would lose ten digits.
    root = np.sqrt(weights)
    columns = np.vander(u, order + 1, increasing=True) * root[:, None]
    length = np.maximum(np.sqrt(np.einsum("ij,ij->j", columns, columns)), np.finfo(np.float64).tiny)
    q, r = np.linalg.qr(columns / length[None, :])
    if u.size <= order or not np.abs(np.diag(r)).min() > _RCOND:
        raise NumericalError(
            f"the pilot regression of order {order} {name} of the cutoff is singular at bandwidth {h:.6g} "
            f"({u.size} units): the running variable has nearly tied values. Give the bandwidth as a number."
        )
    return np.linalg.solve(r, q.T) / length[:, None], q, root


def _squares(
    outcome: np.ndarray, design: np.ndarray, beta: np.ndarray, own: np.ndarray, codes: np.ndarray | None
) -> np.ndarray:
    total = np.zeros(outcome.shape[1])
    if codes is None:
        for part in _parts(outcome.shape[0], outcome.shape[1]):
            residuals = outcome[part] - design[part] @ beta
            total += own[part] ** 2 @ residuals**2
        return total
    ordered, starts = _blocks(codes)
    for part in _parts(outcome.shape[1], own.size):
        terms = (outcome[:, part] - design @ beta[:, part]) * own[:, None]
        sums = np.add.reduceat(terms[ordered], starts, axis=0)
        total[part] = np.einsum("ij,ij->j", sums, sums)
    return total


def _blocks(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ordered = np.argsort(codes, kind="stable")
    return ordered, np.flatnonzero(np.r_[True, np.diff(codes[ordered]) != 0])


def _parts(length: int, other: int) -> Iterator[slice]:
    width = max(1, _CELLS // max(other, 1))
    for first in range(0, length, width):
        yield slice(first, min(first + width, length))
