"""Rows that belong together: connected components over shared labels and pairs."""

import numpy as np


def connected(n: int, *links: np.ndarray) -> np.ndarray:
    """Components of rows that share a code or stand in a pair, directly or through others.

    Parameters
    ----------
    n : int
        Number of rows.
    *links : ndarray
        Either (n,) int codes (rows with one code belong together; -1 links nothing) or (m, 2) int pairs of rows.

    Returns
    -------
    ndarray (n,) int64
        Component codes 0, 1, ... in order of each component's first row.

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat.study.groups import connected
    >>> connected(4, np.array([0, 0, 1, 2]), np.array([[1, 2]]))
    array([0, 0, 0, 1])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends: list[tuple[np.ndarray, np.ndarray]] = []
    nodes = n
    for link in links:
        link = np.asarray(link, dtype=np.int64)
        if link.ndim == 2:
            ends.append((link[:, 0], link[:, 1]))
            continue
        rows = np.flatnonzero(link >= 0)
        if len(rows):
            # Each code is a node of its own: linear in rows, however many share it.
            ends.append((rows, nodes + link[rows]))
            nodes += int(link[rows].max()) + 1
    left = np.concatenate([a for a, _ in ends]) if ends else np.empty(0, np.int64)
    right = np.concatenate([b for _, b in ends]) if ends else np.empty(0, np.int64)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(nodes, nodes))
    _, found = connected_components(graph.tocsr(), directed=False)
    return by_first_row(found[:n])


def by_first_row(codes: np.ndarray) -> np.ndarray:
    """The same partition, numbered 0, 1, ... by first appearance."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
