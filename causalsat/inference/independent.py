"""Which columns are linearly independent, in the order in which they were given."""

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Independent:
    """The independent columns of a matrix.

    Attributes
    ----------
    kept : np.ndarray
        (r,) int64 positions of columns that the ones before them do not determine.
    dropped : np.ndarray
        (k - r,) int64 the other positions.
    basis : np.ndarray
        (n, r) float64 with basis' W basis = I, spanning the kept columns.
    """

    kept: np.ndarray
    dropped: np.ndarray
    basis: np.ndarray


def independent_columns(
    matrix: np.ndarray, weights: np.ndarray, *, sizes: np.ndarray | None = None, tolerance: float = TOLERANCE
) -> Independent:
    """Leave out every column that the columns before it determine.

    A QR decomposition whose pivoting only moves dependent columns to the end (as in LINPACK's dqrdc2): the first of a
    set of collinear columns stays, whichever is longest.

    Parameters
    ----------
    matrix : np.ndarray
        (n, k) float64.
    weights : np.ndarray
        (n,) positive row weights of the inner product.
    sizes : np.ndarray, optional
        (k,) norms against which what is left of a column is judged; None: the weighted norms of the columns. Give the
        norms before something was partialled out, so that rounding is not taken for a column.
    tolerance : float
        Share of its size below which what is left of a column is nothing.

    Returns
    -------
    Independent
    """
    root = np.sqrt(np.asarray(weights, dtype=np.float64))
    columns = np.asarray(matrix, dtype=np.float64) * root[:, None]
    norms = np.linalg.norm(columns, axis=0) if sizes is None else np.asarray(sizes, dtype=np.float64)
    columns = columns / np.where(norms > 0.0, norms, 1.0)[None, :]
    if columns.shape[1] <= columns.shape[0]:
        orthonormal, triangular = np.linalg.qr(columns)
        if (np.abs(np.diag(triangular)) > tolerance).all():
            sign = np.where(np.diag(triangular) < 0.0, -1.0, 1.0)
            every = np.arange(columns.shape[1])
            return Independent(every, every[:0], orthonormal * (sign[None, :] / root[:, None]))
    kept, orthonormal = _one_by_one(columns, tolerance)
    dropped = np.setdiff1d(np.arange(columns.shape[1]), kept)
    return Independent(kept, dropped, orthonormal / root[:, None])


def _one_by_one(columns: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    n, k = columns.shape
    basis: np.ndarray = np.empty((n, min(n, k)))
    kept: list[int] = []
    for j in range(k):
        left = columns[:, j]
        # Twice, because one pass leaves rounding of the size of what was removed.
        for _ in range(2):
            done = basis[:, : len(kept)]
            left = left - done @ (done.T @ left)
        size = float(np.linalg.norm(left))
        if size > tolerance and len(kept) < basis.shape[1]:
            basis[:, len(kept)] = left / size
            kept.append(j)
    return np.array(kept, dtype=np.int64), basis[:, : len(kept)]


def net_of(values: np.ndarray, basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Residuals (n, k) of columns on a weighted orthonormal basis (n, r)."""
    left = np.asarray(values, dtype=np.float64)
    for _ in range(2):
        left = left - basis @ (basis.T @ (weights[:, None] * left))
    return left
