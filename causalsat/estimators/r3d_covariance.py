"""Covariance of all rows of `r3d` that are local polynomials of a column, across cutoffs too."""

from collections.abc import Sequence

import numpy as np

from causalsat.estimators.r3d_estimate import R3dEstimate, unit_positions


def joint_covariance(found: Sequence[R3dEstimate]) -> np.ndarray:
    """(K, K) covariance of the effects of all sets of units, the pooled ones first; K sums their columns.

    A unit stands in its cutoff's set and in the pooled one, and clusters (or units used at several cutoffs) join
    several sets, as spatial blocks do, which are laid over all units: what each contributes to two sets multiplies and
    adds up.

    Parameters
    ----------
    found : sequence of R3dEstimate
        The pooled units, then each cutoff.
    """
    codes = [_codes(one, found[0]) for one in found]
    size = max(int(own.max(initial=0)) for own in codes) + 1
    ends = np.cumsum([0, *(one.inference.merged.shape[1] for one in found)])
    covariance = np.empty((int(ends[-1]), int(ends[-1])))
    for i, a in enumerate(found):
        rows = slice(int(ends[i]), int(ends[i + 1]))
        covariance[rows, rows] = a.inference.covariance
        mine = _spread(a, codes[i], size)
        for j in range(i):
            columns = slice(int(ends[j]), int(ends[j + 1]))
            covariance[rows, columns] = mine.T @ _spread(found[j], codes[j], size)
            covariance[columns, rows] = covariance[rows, columns].T
    return covariance


def _codes(one: R3dEstimate, pooled: R3dEstimate) -> np.ndarray:
    """(g,) what tells the clusters of one set: codes of clusters or blocks, or positions among the pooled units."""
    groups = one.inference.contributions.groups
    return unit_positions(pooled.design, one.design)[groups.codes] if groups.kind == "units" else groups.codes


def _spread(one: R3dEstimate, codes: np.ndarray, size: int) -> np.ndarray:
    """(size, K) contributions at the place of their cluster."""
    out = np.zeros((size, one.inference.merged.shape[1]))
    out[codes] = one.inference.merged
    return out
