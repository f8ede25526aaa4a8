"""Sums of outer products over rows and clusters, in an order that does not depend on threads."""

import numpy as np


def outer_sum(scores: np.ndarray) -> np.ndarray:
    """Sum of s_i s_i' over rows: (n, k) float64 to a symmetric (k, k)."""
    product: np.ndarray = scores.T @ scores
    symmetric: np.ndarray = 0.5 * (product + product.T)
    return symmetric


def cluster_sums(scores: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums of rows by cluster, clusters in the order of their codes: (n, k), (n,) to (g, k).

    Rows are added in their own order inside a cluster, so that permuting clusters changes no bit.
    """
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    return np.add.reduceat(scores[order], starts, axis=0)


def cluster_sizes(codes: np.ndarray) -> np.ndarray:
    """Rows per cluster, in the order of the codes: (n,) to (g,) int64."""
    return np.unique(codes, return_counts=True)[1].astype(np.int64)


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Codes of the pairs (first, second): (n,), (n,) to (n,) int64."""
    a = np.unique(first, return_inverse=True)[1].reshape(-1).astype(np.int64)
    b, inverse = np.unique(second, return_inverse=True)
    return a * np.int64(b.size) + inverse.reshape(-1)
