"""The weight of two-step GMM: a variance of the moments that can be inverted, or the reason why there is none."""

import numpy as np

from causalsat.errors import DataError, NumericalError
from causalsat.inference.covariance import pair_sum
from causalsat.inference.iv_covariance import INDEFINITE
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.meat import cluster_sizes
from causalsat.inference.options import Sandwich

_SINGULAR = 1e-10


def weight_variance(rows: IvRows, b: np.ndarray, sandwich: Sandwich) -> tuple[np.ndarray, tuple[str, ...]]:
    """Variance of sqrt(n) Z'(y - X b)/n as Hansen's J uses it: uncentred, without small-sample factor, invertible.

    A Conley or two-way variance may be indefinite. Its directions without a positive variance (instruments made
    orthonormal, so that no unit matters) then take the variance of independent rows: any positive definite weight
    leaves GMM consistent under valid instruments, and the law of the estimate uses the variance itself.

    Parameters
    ----------
    rows : IvRows
        The study.
    b : np.ndarray
        (p,) effects behind the residuals.
    sandwich : Sandwich
        "classical", "hc0", "hc1", "cluster", "twoway" or "conley".

    Returns
    -------
    variance : np.ndarray
        (q, q) float64 positive definite.
    flags : tuple of str
        What was replaced.

    Raises
    ------
    DataError
        No more clusters than instruments.
    NumericalError
        Residuals that vanish, or a singular variance.

    References
    ----------
    Hansen (1982), "Large sample properties of generalized method of moments estimators".
    """
    moments, residuals = rows.moments, rows.residuals(b)
    if sandwich.kind == "classical":
        return float(np.mean(rows.weights * residuals**2)) * moments.L @ moments.L.T, ()
    guard_clusters_of_weight(rows, sandwich)
    scores = np.linalg.solve(moments.L, (rows.Z * (rows.weights * residuals)[:, None]).T).T
    independent = scores.T @ scores / rows.n
    size = float(np.linalg.eigvalsh(independent)[-1])
    white = rows.n * pair_sum(scores / rows.n, sandwich, rows.sampling).matrix
    values, vectors = np.linalg.eigh(0.5 * (white + white.T))
    flags: tuple[str, ...] = ()
    lost = values <= _SINGULAR * size
    if lost.any() and sandwich.kind in INDEFINITE:
        values = np.where(lost, np.einsum("ik,ij,jk->k", vectors, independent, vectors), values)
        flags = (_replaced(sandwich.kind, int(lost.sum()), rows.q),)
    if not (values > _SINGULAR * size).all():
        raise NumericalError(_singular(rows))
    half = moments.L @ (vectors * np.sqrt(values)[None, :])
    return half @ half.T, flags


def guard_invertible(rows: IvRows, variance: np.ndarray) -> None:
    """A NumericalError unless ``variance`` (q, q), with the instruments made orthonormal, has an inverse."""
    lower = rows.moments.L
    white = np.linalg.solve(lower, np.linalg.solve(lower, variance).T)
    values = np.linalg.eigvalsh(0.5 * (white + white.T)) if np.isfinite(white).all() else np.zeros(1)
    if not values[0] > _SINGULAR * values[-1]:
        raise NumericalError(_singular(rows))


def guard_clusters_of_weight(rows: IvRows, sandwich: Sandwich) -> None:
    """A DataError unless there are more clusters than instruments, for a clustered weight."""
    if sandwich.kind != "cluster" or rows.sampling.cluster is None:
        return
    g = cluster_sizes(rows.sampling.cluster).size
    if g <= rows.q:
        raise DataError(
            f'metric="gmm" inverts the variance of the moments of {rows.q} instruments, and {g} clusters cannot give '
            'one: more clusters than instruments are needed. Use metric="tsls", a finer cluster column or fewer '
            "instruments."
        )


def _replaced(kind: str, lost: int, q: int) -> str:
    name = "two-way" if kind == "twoway" else "Conley"
    return (
        f'the {name} variance of the moments is not positive in {lost} of {q} directions, where metric="gmm" takes the '
        "variance of independent rows for its weight"
    )


def _singular(rows: IvRows) -> str:
    return (
        f'metric="gmm" needs the inverse of the variance of the moments of {rows.q} instruments, which is singular or '
        "not finite: the residuals vanish, or too few independent rows or clusters are left. Use "
        'metric="tsls", another covariance or fewer instruments.'
    )
