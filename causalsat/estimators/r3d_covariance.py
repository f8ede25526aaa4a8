"""Covariance of all rows of `r3d` that are local polynomials of a column, across cutoffs too."""

from collections.abc import Sequence

import numpy as np

from causalsat.estimators.r3d_estimate import R3dEstimate


def joint_covariance(found: Sequence[R3dEstimate]) -> np.ndarray:
    """(K, K) covariance of the effects of all sets of units, the pooled ones first; K sums their columns.

    A unit stands in its cutoff's set and in the pooled one, and clusters (or units used at several cutoffs) join
    several sets: what each contributes to two sets multiplies and adds up. Blocks are laid over every set on its own,
    so that effects of different sets have no covariance (NaN) with them.

    Parameters
    ----------
    found : sequence of R3dEstimate
        The pooled units, then each cutoff.
    """
    blocks = found[0].inference.contributions.groups.kind == "blocks"
    codes = [_codes(one, found[0]) for one in found]
    size = max(int(own.max(initial=0)) for own in codes) + 1
    ends = np.cumsum([0, *(one.inference.merged.shape[1] for one in found)])
    covariance = np.full((int(ends[-1]), int(ends[-1])), np.nan)
    for i, a in enumerate(found):
        rows = slice(int(ends[i]), int(ends[i + 1]))
        covariance[rows, rows] = a.inference.covariance
        if blocks:
            continue
        mine = _spread(a, codes[i], size)
        for j in range(i):
            columns = slice(int(ends[j]), int(ends[j + 1]))
            covariance[rows, columns] = mine.T @ _spread(found[j], codes[j], size)
            covariance[columns, rows] = covariance[rows, columns].T
    return covariance


def _codes(one: R3dEstimate, pooled: R3dEstimate) -> np.ndarray:
    """(g,) what tells the clusters of one set: codes of clusters, or rows of units in the pooled set."""
    groups, design = one.inference.contributions.groups, one.design
    first = groups.rows[groups.starts]
    if design.sampling.cluster is not None:
        return np.asarray(design.sampling.cluster[first], dtype=np.int64)
    order = np.argsort(pooled.design.rows)
    return np.asarray(order[np.searchsorted(pooled.design.rows[order], design.rows[first])])


def _spread(one: R3dEstimate, codes: np.ndarray, size: int) -> np.ndarray:
    """(size, K) contributions at the place of their cluster."""
    out = np.zeros((size, one.inference.merged.shape[1]))
    out[codes] = one.inference.merged
    return out
