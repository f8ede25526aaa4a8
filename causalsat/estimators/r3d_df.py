"""Effective degrees of freedom of a jump's standard error (Satterthwaite 1946; Bell and McCaffrey 2002)."""

import numpy as np

from causalsat.estimators.r3d_contributions import Basis, Groups


def degrees(groups: Groups, basis: Basis, loadings: np.ndarray) -> float:
    """Degrees of freedom of the sum of squared contributions under homoskedastic, independent errors.

    The contribution of cluster g is a_g'Q with a_g = (I - H)' D_g, D_g its loadings. Given the errors' variance, the
    variance estimate has mean sum |a_g|^2 and variance 2 sum (a_g'a_h)^2, so that
    df = (sum_g |a_g|^2)^2 / sum_gh (a_g'a_h)^2. Because H has the rank of the regressors, the g x g matrix is diagonal
    plus low rank and the sums cost O(n q^2): they are exact at any n.

    Parameters
    ----------
    groups : Groups
        Clusters.
    basis : Basis
        The regression.
    loadings : np.ndarray
        (r,) loadings of the limit or jump.
    """
    return float(_mixed_degrees(groups, [(basis, loadings)], np.ones((1, 1, 1)))[0])


def merged_degrees(
    groups: Groups,
    numerator: tuple[Basis, np.ndarray],
    treatment: tuple[Basis, np.ndarray],
    effects: np.ndarray,
    moments: np.ndarray,
) -> np.ndarray:
    """(K,) degrees of freedom of jumps N - effect D whose two regressions have windows of their own.

    Errors of an outcome and of the treatment are homoskedastic with second moments ``moments`` (3, K): outcome,
    cross, treatment. With equal windows this is the numerator's number whatever the moments.
    """
    joint = np.empty((2, 2, effects.size))
    joint[0, 0], joint[1, 1] = moments[0], effects**2 * moments[2]
    joint[0, 1] = joint[1, 0] = -effects * moments[1]
    return _mixed_degrees(groups, [numerator, treatment], joint)


def _mixed_degrees(groups: Groups, parts: list[tuple[Basis, np.ndarray]], joint: np.ndarray) -> np.ndarray:
    """(K,) degrees of freedom for errors with second moments ``joint`` (parts, parts, K)."""
    q = [basis.Z.shape[1] for basis, _ in parts]
    low: list[np.ndarray] = []
    place: dict[tuple[str, int, int], int] = {}
    for a, (basis, loadings) in enumerate(parts):
        ratio = np.divide(loadings, basis.root, out=np.zeros_like(loadings), where=basis.root > 0.0)
        place["u", a, a] = len(low)
        low.append(groups.sums(basis.Z * ratio[:, None]))
        for b, (_, other) in enumerate(parts):
            place["v", a, b] = len(low)
            low.append(groups.sums(basis.Z * (basis.root * other)[:, None]))
    starts = np.concatenate([[0], np.cumsum([block.shape[1] for block in low])])
    L = np.concatenate(low, axis=1)

    def at(kind: str, a: int, b: int) -> slice:
        return slice(starts[place[kind, a, b]], starts[place[kind, a, b] + 1])

    pieces = []
    pairs = [(a, b) for a in range(len(parts)) for b in range(a, len(parts))]
    for pair in pairs:
        diagonal, N = np.zeros(groups.g), np.zeros((L.shape[1], L.shape[1]))
        for a, b in {pair, pair[::-1]}:
            (left, mine), (right, theirs) = parts[a], parts[b]
            diagonal += groups.sums(mine * theirs)
            N[at("u", a, a), at("u", b, b)] += (left.Z * left.root[:, None]).T @ (right.Z * right.root[:, None])
            N[at("u", a, a), at("v", a, b)] -= np.eye(q[a])
            N[at("v", b, a), at("u", b, b)] -= np.eye(q[b])
        pieces.append((diagonal, N))
    weights = np.stack([joint[a, b] for a, b in pairs])
    traces, products = _sums(L, pieces)
    mean = traces @ weights
    square = np.einsum("ik,ij,jk->k", weights, products, weights)
    return np.asarray(np.divide(mean**2, square, out=np.full(mean.size, np.nan), where=square > 0.0))


def _sums(L: np.ndarray, pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Traces and pairwise inner products of the matrices diag(d) + L N L'."""
    P = L.T @ L
    inner = [np.einsum("gi,ij,gj->g", L, N, L, optimize=True) for _, N in pieces]
    traces = np.array([d.sum() + own.sum() for (d, _), own in zip(pieces, inner)])
    products = np.empty((len(pieces), len(pieces)))
    for i, (d, N) in enumerate(pieces):
        for j, (e, O) in enumerate(pieces):
            products[i, j] = d @ e + d @ inner[j] + e @ inner[i] + np.trace(N @ P @ O @ P)
    return traces, products
