"""The pencil (Y'P_Z Y, Y'M_Z Y) of outcome and treatments, on which homoskedastic weak-instrument tests rest."""

from dataclasses import dataclass

import numpy as np

from causalsat.inference.iv_quadratic import LINE, Pieces, moved, quadratic_set
from causalsat.inference.iv_rows import IvRows

_SINGULAR = 1e-13


@dataclass(frozen=True, eq=False)
class Pencil:
    """G = Y'P_Z Y/n and M = Y'M_Z Y/n for Y = [y - X b_tsls, X], each column on a unit scale.

    Centring at TSLS keeps the ends of a narrow set far from zero accurate.

    Attributes
    ----------
    G, M : np.ndarray
        (1 + p, 1 + p) float64.
    scale : np.ndarray
        (1 + p,) float64 root mean squares that the columns were divided by.
    centre : np.ndarray
        (p,) float64 TSLS.
    n, q, d1 : int
        Rows, instruments, n - q - m.
    exact : bool
        Treatments fit the outcome up to rounding.
    """

    G: np.ndarray
    M: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    n: int
    q: int
    d1: int
    exact: bool = False

    @property
    def p(self) -> int:
        """Treatments."""
        return int(self.centre.size)

    def direction(self, b: np.ndarray) -> np.ndarray:
        """(1 + p,) combination of the scaled columns that is y - X b."""
        return np.asarray(np.concatenate([[1.0], self.centre - np.asarray(b, dtype=np.float64)]) * self.scale)


def pencil_of(rows: IvRows) -> Pencil:
    """The pencil of a study.

    Parameters
    ----------
    rows : IvRows
        The study.

    Returns
    -------
    Pencil
    """
    moments, inside = rows.moments, centred_moments(rows)
    centre = moments.b_tsls
    outside = np.column_stack([moments.My - moments.MX @ centre, moments.MX])
    G, M = inside.T @ inside, (outside * rows.weights[:, None]).T @ outside / rows.n
    size = np.sqrt(np.diag(G) + np.diag(M))
    scale = np.where(size > 0.0, size, 1.0)
    exact = bool(size[0] <= _SINGULAR * np.sqrt(moments.yy))
    across = np.outer(scale, scale)
    return Pencil(G / across, M / across, scale, centre, rows.n, rows.q, rows.d1, exact)


def centred_moments(rows: IvRows) -> np.ndarray:
    """(q, 1 + p) moments of [y - X b_tsls, X] with orthonormal instruments.

    The first are exactly zero when there are as many instruments as treatments.
    """
    moments = rows.moments
    inside = np.column_stack([moments.w - moments.B @ moments.b_tsls, moments.B])
    if rows.q == rows.p:
        inside[:, 0] = 0.0
    return inside


def undefined(pencil: Pencil) -> str | None:
    """Why no homoskedastic test exists on these rows; None when one does."""
    if pencil.d1 < 1:
        return f"no degrees of freedom are left: n - q - m = {pencil.d1}"
    if pencil.exact or pencil.M[0, 0] <= _SINGULAR**2:
        return (
            "the outcome is an exact function of treatments, instruments and covariates: no residual variance is left"
        )
    return None


def ratio(pencil: Pencil, b: np.ndarray) -> float:
    """d1 e'P_Z e / e'M_Z e at e = y - X b."""
    u = pencil.direction(b)
    return _quotient(pencil, u)


def roots(G: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Ascending roots of the pencil (G, M); infinite where M is singular.

    The eigenvectors come from (G, G + M), which exists for a singular M; each root is the quotient of its vector.
    """
    from scipy import linalg

    vectors = linalg.eigh(G, G + M)[1]
    top = np.einsum("ij,ik,kj->j", vectors, G, vectors)
    below = np.einsum("ij,ik,kj->j", vectors, M, vectors)
    finite = below > _SINGULAR * (np.abs(top) + below)
    found = np.where(finite, np.maximum(top, 0.0) / np.where(finite, below, 1.0), np.inf)
    return np.sort(found)


def subset_ratio(pencil: Pencil, j: int, value: float) -> float:
    """d1 times the smallest root of the pencil of W = [y - x_j value, other treatments].

    Parameters
    ----------
    pencil : Pencil
        The study.
    j : int
        Treatment tested.
    value : float
        Its effect under the null, raw units.

    Returns
    -------
    float
        d1 min over the other effects of e'P_Z e/e'M_Z e; with one treatment the ratio itself.
    """
    tested = pencil.centre.copy()
    tested[j] = value
    first = pencil.direction(tested)
    if pencil.p == 1:
        return _quotient(pencil, first)
    others = np.delete(np.eye(pencil.p + 1), [0, j + 1], axis=1)
    W = np.column_stack([first / np.linalg.norm(first), others])
    return float(pencil.d1 * roots(W.T @ pencil.G @ W, W.T @ pencil.M @ W)[0])


def level_set(pencil: Pencil, j: int, level: float, *, above: bool = False) -> Pieces:
    """Values of effect j at which d1 times the smallest root of the pencil is at most ``level``.

    With H = G - (level/d1) M the condition is that H, restricted to [y - x_j b, other treatments], is not positive
    definite: the whole line when the block of the other treatments is not, else the sign of a Schur complement, which
    is a quadratic in b.

    Parameters
    ----------
    pencil : Pencil
        The study.
    j : int
        Treatment.
    level : float
        Critical value, on the scale of a chi-squared statistic.
    above : bool
        Values where the quotient is at least ``level`` instead (one treatment only).

    Returns
    -------
    tuple of (float, float)
        Sorted disjoint pieces in raw units.
    """
    sign = -1.0 if above else 1.0
    share = level / pencil.d1
    H = sign * (pencil.G - share * pencil.M)
    size = np.abs(pencil.G) + share * np.abs(pencil.M)
    kept = np.array([0, j + 1])
    others = np.setdiff1d(np.arange(pencil.p + 1), kept)
    core, bulk = H[np.ix_(kept, kept)], size[np.ix_(kept, kept)]
    if others.size:
        block, side = H[np.ix_(others, others)], H[np.ix_(others, kept)]
        if np.linalg.eigvalsh(block)[0] <= _SINGULAR:
            return LINE
        removed = side.T @ np.linalg.solve(block, side)
        core, bulk = core - removed, bulk + np.abs(removed)
    found = quadratic_set(core[1, 1], core[0, 1], core[0, 0], (bulk[1, 1], bulk[0, 1], bulk[0, 0]))
    return moved(found, float(pencil.scale[0] / pencil.scale[j + 1]), float(pencil.centre[j]))


def _quotient(pencil: Pencil, u: np.ndarray) -> float:
    top, below = float(u @ pencil.G @ u), float(u @ pencil.M @ u)
    if below <= _SINGULAR**2 * float(u @ u):
        return np.inf
    return pencil.d1 * max(top, 0.0) / below
