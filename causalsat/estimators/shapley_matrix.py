"""The fixed linear maps from the values of all coalitions to the contributions of the groups.

A coalition is a whole number below 2^m whose bit j says that group j is in it; letters: m groups, b draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from causalsat.errors import DataError

_RCOND = 1e-10
_CHUNK = 4096


@dataclass(frozen=True)
class LeastNorm:
    """Map of the least-squares contributions of least norm.

    Attributes
    ----------
    weights : np.ndarray
        (m, 2^m) float64 with phi = weights v; zero in the columns of missing coalitions.
    rank : int
        Rank of the kept rows inside the plane sum(phi) = g(all).
    unique : bool
        Whether the rank is m - 1, so that the fit alone determines phi.
    """

    weights: np.ndarray
    rank: int
    unique: bool


def membership(m: int) -> np.ndarray:
    """(m, 2^m) bool: whether group j is in coalition S."""
    return np.asarray(((np.arange(2**m)[None, :] >> np.arange(m)[:, None]) & 1).astype(bool))


def shapley_matrix(m: int) -> np.ndarray:
    """M with phi = M v (Shapley 1953).

    ``M[j, S] = (|S|-1)! (m-|S|)! / m!`` where j is in S and ``-|S|! (m-|S|-1)! / m!`` elsewhere. Rows sum to zero, so
    v and g = v - v(empty) give the same phi.

    Parameters
    ----------
    m : int
        Number of groups.

    Returns
    -------
    np.ndarray
        (m, 2^m) float64.

    Examples
    --------
    >>> shapley_matrix(2)
    array([[-0.5,  0.5, -0.5,  0.5],
           [-0.5, -0.5,  0.5,  0.5]])
    """
    inside = membership(m)
    size = inside.sum(axis=0)
    enters = np.array([0.0] + [1.0 / (s * comb(m, s)) for s in range(1, m + 1)])
    stays_out = np.array([1.0 / ((m - s) * comb(m, s)) for s in range(m)] + [0.0])
    return np.asarray(np.where(inside, enters[size][None, :], -stays_out[size][None, :]))


def with_total(weights: np.ndarray) -> np.ndarray:
    """The same map with a last row ``v(all) - v(empty)``; (m + 1, 2^m)."""
    total = np.zeros((1, weights.shape[1]))
    total[0, 0], total[0, -1] = -1.0, 1.0
    return np.concatenate([weights, total])


def kernel_weight(m: int, size: np.ndarray) -> np.ndarray:
    """``k(s) = (m-1) / (C(m,s) s (m-s))`` for sizes 0 < s < m (Charnes, Golany, Keane & Rousseau 1988)."""
    table = np.array([np.nan] + [(m - 1.0) / (comb(m, s) * s * (m - s)) for s in range(1, m)] + [np.nan])
    return np.asarray(table[size])


def least_norm(m: int, known: np.ndarray) -> LeastNorm:
    """Weighted least squares over the known coalitions, and among its solutions the one of least norm.

    minimise ``sum k(|S|) (g(S) - sum_{j in S} phi_j)^2`` over known S with 0 < |S| < m, subject to
    ``sum phi = g(all)``. With ``phi = g(all)/m + N u``, N an orthonormal basis of the plane sum(phi) = 0, the solution
    of least norm is the minimum-norm u, because ``|phi|^2 = g(all)^2/m + |u|^2``. With every coalition known it is
    Shapley's rule.

    Parameters
    ----------
    m : int
        Number of groups.
    known : np.ndarray
        (2^m,) bool.

    Raises
    ------
    DataError
        The value without any group, or with all of them, is unknown.
    """
    if not (known[0] and known[-1]):
        which = "no group swapped" if not known[0] else "all groups swapped"
        raise DataError(
            f'missing="min_norm" needs the values at both ends; the one with {which} is missing. '
            'Compute it, or use missing="bounds".'
        )
    inside = membership(m)
    size = inside.sum(axis=0)
    kept = np.flatnonzero(known & (size > 0) & (size < m))
    weights = np.zeros((m, 2**m))
    weights[:, -1], weights[:, 0] = 1.0 / m, -1.0 / m
    if m == 1 or kept.size == 0:
        return LeastNorm(weights, 0, m == 1)
    basis = _plane(m)
    rows = inside[:, kept].T.astype(np.float64) @ basis
    rank = int(np.linalg.matrix_rank(rows, rtol=_RCOND))
    root = np.sqrt(kernel_weight(m, size[kept]))
    fitted = basis @ np.linalg.pinv(root[:, None] * rows, rcond=_RCOND) * root[None, :]
    # The right-hand side is g(S) - |S|/m g(all), with g = v - v(empty).
    share = size[kept] / m
    weights[:, kept] = fitted
    weights[:, -1] -= fitted @ share
    weights[:, 0] -= fitted @ (1.0 - share)
    return LeastNorm(weights, rank, rank == m - 1)


def _plane(m: int) -> np.ndarray:
    """(m, m - 1) orthonormal basis of the vectors that sum to zero (Helmert's contrasts)."""
    basis = np.zeros((m, m - 1))
    for j in range(1, m):
        basis[:j, j - 1] = 1.0
        basis[j, j - 1] = -float(j)
        basis[:, j - 1] /= np.sqrt(j * (j + 1.0))
    return basis


def apply_to_draws(weights: np.ndarray, draws: Sequence[np.ndarray | None], level: float) -> np.ndarray:
    """``weights (draws - level)`` over the coalitions that have draws, as (b, rows).

    Parameters
    ----------
    weights : np.ndarray
        (rows, 2^m).
    draws : sequence of np.ndarray (b,) or None
        Draws of each coalition, None where the value is missing; draw r comes from the same resample in all of them.
    level : float
        A common level taken off first, so that large values cost no digits.
    """
    known = [s for s, values in enumerate(draws) if values is not None]
    total = np.zeros((1, weights.shape[0]))
    for start in range(0, len(known), _CHUNK):
        part = known[start : start + _CHUNK]
        block = np.stack([np.asarray(draws[s]) for s in part], axis=1) - level
        total = total + block @ weights[:, part].T
    return total
