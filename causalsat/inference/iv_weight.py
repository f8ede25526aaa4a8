"""The weight of two-step GMM: a variance of the moments that can be inverted, or the reason why there is none."""

import numpy as np

from causalsat.errors import DataError, NumericalError
from causalsat.inference.covariance import pair_sum
from causalsat.inference.iv_covariance import INDEFINITE
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.meat import cluster_sizes
from causalsat.inference.options import Sandwich

_SINGULAR = 1e-10
_CLUSTERS_PER_INSTRUMENT = 5
_COVERAGE = (
    "with 6 instruments, 95% intervals of simulated studies held the truth in .54 to .63 of them with 8 clusters, .70 "
    "to .76 with 12 and .82 to .87 with 25, those of TSLS in .84 to .93"
)


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
        What was replaced, and that there are fewer than 5 clusters per instrument, when intervals cover too little.

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
    flags = _few_clusters(rows, sandwich)
    lost = values <= _SINGULAR * size
    if lost.any() and sandwich.kind in INDEFINITE:
        values = np.where(lost, np.einsum("ik,ij,jk->k", vectors, independent, vectors), values)
        flags += (_replaced(sandwich.kind, int(lost.sum()), rows.q),)
    if not (values > _SINGULAR * size).all():
        raise NumericalError(_singular(rows))
    half = moments.L @ (vectors * np.sqrt(values)[None, :])
    return half @ half.T, flags


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


def _few_clusters(rows: IvRows, sandwich: Sandwich) -> tuple[str, ...]:
    """What to know about a clustered weight of many instruments; of two ways the one with fewer clusters counts."""
    if sandwich.kind not in ("cluster", "twoway"):
        return ()
    second = rows.sampling.second if sandwich.kind == "twoway" else None
    g = min(cluster_sizes(codes).size for codes in (rows.sampling.cluster, second) if codes is not None)
    if g >= _CLUSTERS_PER_INSTRUMENT * rows.q:
        return ()
    return (
        f'metric="gmm" weighs {rows.q} instruments by a variance from {g} clusters, fewer than '
        f"{_CLUSTERS_PER_INSTRUMENT} per instrument: the weight fits the noise, and intervals around the estimate "
        f"cover too little ({_COVERAGE}); the limit law and the draws take the weight as known. Use "
        'metric="tsls", a finer cluster column or fewer instruments',
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
