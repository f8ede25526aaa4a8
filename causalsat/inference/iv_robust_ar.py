"""The Anderson-Rubin test with a robust variance: heteroskedastic, clustered or spatial errors."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from causalsat.inference.covariance import positive_part
from causalsat.inference.iv_covariance import INDEFINITE, iv_covariance, moment_variance, resolved_sandwich
from causalsat.inference.iv_pencil import Pencil, centred_moments, pencil_of, undefined
from causalsat.inference.iv_quadratic import LINE, Pieces, moved, union
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich

ANGLES = 2001
_BISECTIONS = 60
_SINGULAR = 1e-11
_DOUBT = 1e4
_CHUNK = 2_000_000
_NO_POWER = 0.05


@dataclass(frozen=True, eq=False)
class ReducedForm:
    """Moments of [y - X b_tsls, X] with instruments, and the variance of their errors, columns on a unit scale.

    Attributes
    ----------
    pencil : Pencil
        Scale, centre and counts.
    g : np.ndarray
        (q, 1 + p) float64 moments in coordinates where Z'Z/n is the identity.
    V : np.ndarray
        (1 + p, 1 + p, q, q) float64 variance of sqrt(n) times the moments, under the null.
    notes : tuple of str
        What was clipped.
    bound : float
        Value that the statistic cannot exceed; infinite where none is known.
    """

    pencil: Pencil
    g: np.ndarray
    V: np.ndarray
    notes: tuple[str, ...] = field(default=())
    bound: float = math.inf

    def statistic(self, U: np.ndarray) -> np.ndarray:
        """(k,) n g'V^{-1} g along k combinations U (k, 1 + p) of the scaled columns; infinite where V is singular."""
        q = self.g.shape[0]
        size = max(1, _CHUNK // (q * q))
        return np.concatenate([self._some(U[start : start + size]) for start in range(0, U.shape[0], size)])

    def _some(self, U: np.ndarray) -> np.ndarray:
        g = U @ self.g.T
        k, q = g.shape
        pairs = (U[:, :, None] * U[:, None, :]).reshape(k, -1)
        V = (pairs @ self.V.reshape(-1, q * q)).reshape(k, q, q)
        floor = _SINGULAR * np.sum(U**2, axis=1) * self.largest
        try:
            root = np.linalg.cholesky(V)
        except np.linalg.LinAlgError:
            return self._near_singular(g, V, floor)
        doubtful = (np.diagonal(root, axis1=1, axis2=2) ** 2).min(axis=1) <= _DOUBT * floor
        statistic = np.zeros(k)
        clear = ~doubtful
        statistic[clear] = self.pencil.n * np.sum(np.linalg.solve(root[clear], g[clear][:, :, None]) ** 2, axis=(1, 2))
        if doubtful.any():
            statistic[doubtful] = self._near_singular(g[doubtful], V[doubtful], floor[doubtful])
        return statistic

    def _near_singular(self, g: np.ndarray, V: np.ndarray, floor: np.ndarray) -> np.ndarray:
        """Statistics by eigenvectors; moments without noise reject unless they are zero."""
        values, vectors = np.linalg.eigh(V)
        along = (g[:, None, :] @ vectors)[:, 0, :] ** 2
        usable = values > floor[:, None]
        terms = np.where(usable, along / np.where(usable, values, 1.0), 0.0)
        noiseless = ~usable & (along > 1e-20 * floor[:, None] / (_SINGULAR * self.largest))
        return np.where(noiseless.any(axis=1), np.inf, self.pencil.n * terms.sum(axis=1))

    @cached_property
    def largest(self) -> float:
        """Scale of the variance."""
        return float(np.max(np.abs(self.V)))

    def powerless(self, level: float) -> str | None:
        """Why no value can be rejected at this level: the statistic stays below its critical value whatever the data.

        Sums S_g of the scores over clusters (or rows) give (sum S)'(sum S S')^{-1}(sum S) <= G, with the small-sample
        factor at most G/factor.
        """
        from scipy import special

        critical = float(special.chdtri(self.pencil.q, 1.0 - level))
        if self.bound > critical:
            return None
        return (
            f"the statistic cannot exceed {self.bound:.4g} with so few clusters (or independent rows), below its "
            f"critical value {critical:.4g} at level {level:g} with {self.pencil.q} instruments: the test rejects "
            "nothing whatever the data, so that a set would say nothing"
        )

    def rank(self, u: np.ndarray) -> int:
        """Rank of the variance along one combination."""
        values = np.linalg.eigvalsh(np.einsum("c,d,cdij->ij", u, u, self.V))
        return int(np.sum(values > _SINGULAR * float(u @ u) * self.largest))


def reduced_form(rows: IvRows, sandwich: Sandwich) -> ReducedForm:
    """Moments of each column with the instruments and the robust variance of z e(b), with the first stage's factor.

    The scores are z times the column itself, so that the variance at b is that of z (y - X b) under the null, as in
    the continuously updated objective (Stock and Wright 2000). Residuals on z would make it a Wald test of e on z,
    whose size is too large with moderately many clusters: .103 against .046 at nominal .05 with 60 clusters and 3
    instruments. In the limit of large b it is the score test of the first stage.

    Parameters
    ----------
    rows : IvRows
        The study.
    sandwich : Sandwich
        Any kind but "classical".

    Returns
    -------
    ReducedForm
    """
    from scipy import linalg

    pencil = pencil_of(rows)
    g = centred_moments(rows) / pencil.scale[None, :]
    columns = np.column_stack([rows.residuals(rows.moments.b_tsls), rows.X]) / pencil.scale[None, :]
    white = linalg.solve_triangular(rows.moments.L, rows.Z.T, lower=True).T * rows.weights[:, None]
    scores = (columns[:, :, None] * white[:, None, :]).reshape(rows.n, -1)
    matrix, notes, bound = _variance(rows, scores, sandwich)
    k = 1 + rows.p
    V = matrix.reshape(k, rows.q, k, rows.q).transpose(0, 2, 1, 3)
    return ReducedForm(pencil, g, 0.5 * (V + V.transpose(1, 0, 3, 2)), notes, bound)


def robust_form(rows: IvRows, sandwich: Sandwich) -> ReducedForm | str:
    """The reduced form on which the robust test rests, or why there is no such test."""
    why = undefined(pencil_of(rows))
    if why:
        return why
    form = reduced_form(rows, sandwich)
    rank = form.rank(np.eye(1 + rows.p)[0])
    if rank < rows.q:
        return (
            f"the robust covariance of the {rows.q} moments has rank {rank}, so that their test does not exist: there "
            "are too few clusters (or independent rows) for so many instruments"
        )
    return form


def robust_ar_test(rows: IvRows, b: np.ndarray, sandwich: Sandwich) -> tuple[float, float, float, str]:
    """Statistic, degrees of freedom, p-value and law of the robust Anderson-Rubin test of the whole vector b (p,)."""
    from scipy import special

    form = robust_form(rows, sandwich)
    if isinstance(form, str):
        return math.nan, math.nan, math.nan, form
    statistic, df, p_value = _tested(form, form.pencil.direction(b))
    least = float(special.chdtrc(rows.q, form.bound))
    limit = f"; with so few clusters p is at least {least:.3f}" if least > _NO_POWER else ""
    return statistic, df, p_value, f"chi-squared({rows.q}){limit}"


def robust_ar_set(form: ReducedForm, j: int, level: float, null: float) -> tuple[float, float, Pieces, str]:
    """Test of effect j = null and the set of values not rejected, as (statistic, p-value, pieces, note).

    One treatment: b = b_tsls + se tan(theta) over 2001 angles, each crossing bisected; a dip between two angles is
    looked for where the statistic turns near its critical value. Several: the projection of the joint set.
    """
    from scipy import special

    q = form.pencil.q
    critical = float(special.chdtri(q, 1.0 - level))
    if form.pencil.p > 1:
        from causalsat.inference.iv_projection import projected_set, projected_test

        statistic, pieces = projected_test(form, j, null), projected_set(form, j, critical)
        note = "; ".join(("projection of the joint set, conservative", *form.notes))
        return statistic, float(special.chdtrc(q, statistic)), pieces, note
    statistic, _, p_value = _tested(form, form.pencil.direction(np.array([null])))
    return statistic, p_value, _one_treatment(form, critical), "; ".join(form.notes)


def angular_set(excess: Callable[[np.ndarray], np.ndarray], count: int = ANGLES) -> list[tuple[float, float]]:
    """Intervals of theta in [-pi/2, pi/2] where ``excess`` is not positive.

    Parameters
    ----------
    excess : callable
        (k,) angles -> (k,) values, the same at both ends.
    count : int
        Angles looked at first.

    Returns
    -------
    list of (float, float)
        Sorted; an end at +-pi/2 stands for infinity.
    """
    angles = np.linspace(-0.5 * math.pi, 0.5 * math.pi, count)
    values = excess(angles)
    angles, values = _with_turns(excess, angles, values)
    inside = values <= 0.0
    change = np.flatnonzero(inside[1:] != inside[:-1])
    crossings = _bisected(excess, angles[change], angles[change + 1], inside[change])
    ends = np.concatenate([angles[:1], crossings, angles[-1:]])
    kept = [k for k in range(ends.size - 1) if bool(inside[0]) == (k % 2 == 0)]
    return [(float(ends[k]), float(ends[k + 1])) for k in kept if inside.any()]


def tangents(intervals: list[tuple[float, float]], half: float = 0.5 * math.pi) -> Pieces:
    """Tangents of intervals of angles; the ends of the range become infinite."""
    return union(
        (-math.inf if low <= -half else math.tan(low), math.inf if high >= half else math.tan(high))
        for low, high in intervals
        if not (low == high and abs(low) >= half)
    )


def _one_treatment(form: ReducedForm, critical: float) -> Pieces:
    step = _step(form)

    def excess(angles: np.ndarray) -> np.ndarray:
        return form.statistic(np.column_stack([np.cos(angles), -step * np.sin(angles)])) - critical

    found = tangents(angular_set(excess))
    if found == LINE:
        return LINE
    scale = form.pencil.scale
    return moved(found, float(step * scale[0] / scale[1]), float(form.pencil.centre[0]))


def _step(form: ReducedForm) -> float:
    """Robust standard error of TSLS in scaled units."""
    B = form.g[:, 1]
    strength = float(B @ B)
    return math.sqrt(max(float(B @ form.V[0, 0] @ B), 0.0) / form.pencil.n) / strength if strength > 0.0 else 1.0


def _tested(form: ReducedForm, u: np.ndarray) -> tuple[float, float, float]:
    from scipy import special

    q = form.g.shape[0]
    statistic = float(form.statistic(u[None, :])[0])
    return statistic, float(q), float(special.chdtrc(q, statistic))


def _variance(rows: IvRows, scores: np.ndarray, sandwich: Sandwich) -> tuple[np.ndarray, tuple[str, ...], float]:
    """Variance of sqrt(n) times the mean of the scores, notes, and the bound that it puts on the statistic.

    A variance that may be indefinite loses its negative part and then bounds nothing.
    """
    used = resolved_sandwich(sandwich, rows)
    if sandwich.kind not in INDEFINITE:
        found = iv_covariance(rows, scores, used, columns=rows.q)
        units = rows.n if found.n_clusters is None else found.n_clusters
        return rows.n * found.matrix, (), units / found.factor
    matrix, clipped = positive_part(moment_variance(rows, scores, sandwich, columns=rows.q))
    notes = (f"{clipped} negative eigenvalues of the covariance were set to zero",) if clipped else ()
    return matrix, notes, math.inf


def _with_turns(
    excess: Callable[[np.ndarray], np.ndarray], angles: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The grid with the turning points that may hide a pair of crossings between neighbouring angles."""
    from scipy import optimize

    middle, left, right = values[1:-1], values[:-2], values[2:]
    # A parabola through three points turns at most an eighth of their second difference beyond the middle one.
    near = np.abs(middle) <= np.abs(left - middle) + np.abs(right - middle)
    valley = near & (middle > 0.0) & (middle <= left) & (middle <= right)
    peak = near & (middle <= 0.0) & (middle >= left) & (middle >= right)
    extra = []
    for k in np.flatnonzero(valley | peak) + 1:
        sign = 1.0 if valley[k - 1] else -1.0
        found = optimize.minimize_scalar(
            lambda t, s=sign: s * float(excess(np.array([t]))[0]),
            bounds=(angles[k - 1], angles[k + 1]), method="bounded", options={"xatol": 1e-12},
        )  # fmt: skip
        extra.append(float(found.x))
    if not extra:
        return angles, values
    added = np.array(extra)
    together, all_values = np.concatenate([angles, added]), np.concatenate([values, excess(added)])
    order = np.argsort(together, kind="stable")
    return together[order], all_values[order]


def _bisected(
    excess: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, inside_low: np.ndarray
) -> np.ndarray:
    """Crossings by bisection, all at once."""
    for _ in range(_BISECTIONS if low.size else 0):
        middle = 0.5 * (low + high)
        same = (excess(middle) <= 0.0) == inside_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.asarray(0.5 * (low + high))
