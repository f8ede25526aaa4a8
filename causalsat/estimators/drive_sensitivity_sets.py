"""A study's moments as functions of direct effects of its instruments, and tests over a whole box of such effects.

With e = y - Z eta - X b every statistic is made of moments that are linear in u = (1, b_tsls - b, -eta) and of a
variance that is quadratic in it, so that no pass over the rows is needed once both are formed.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.inference.covariance import pair_sum, positive_part
from causalsat.inference.iv_covariance import INDEFINITE, resolved_sandwich
from causalsat.inference.iv_quadratic import Pieces, moved
from causalsat.inference.iv_robust_ar import angular_set, tangents
from causalsat.inference.iv_rows import IvRows
from causalsat.inference.options import Sandwich
from causalsat.inference.small_sample import correction

FURTHEST = 4.0
_ANGLES = 241
_STEPS = 60
_LENGTHS = np.array([1.0, 0.5, 0.25, 0.125, 1.0 / 32.0, 1.0 / 128.0])
_CHUNK = 2_000_000
_CORNERS = 10
_FIRST = 0.05
_DIFFERENCE = 1e-4
_TRIES = 3
_FEW = 4
_SPREADS = (-4.0, 4.0)


@dataclass(frozen=True, eq=False)
class DirectMoments:
    """Moments of the columns [y - X b_tsls, X, Z] (k = 1 + p + q of them) and the variance of their scores.

    Attributes
    ----------
    rows : IvRows
        The study in raw units.
    g : np.ndarray
        (q, k) float64 moments of the columns with orthonormal instruments.
    C : np.ndarray
        (k, k) float64 weighted second moments of the columns.
    V : np.ndarray
        (k, k, q, q) float64 variance of sqrt(n) g u, quadratic in u, with the factor of the second stage.
    second_factor, first_factor : float
        Small-sample factors with the parameters of the second and of the first stage counted.
    sandwich : Sandwich
        The covariance.
    """

    rows: IvRows
    g: np.ndarray
    C: np.ndarray
    V: np.ndarray
    second_factor: float
    first_factor: float
    sandwich: Sandwich

    def size(self, u: np.ndarray) -> float:
        """Root mean square of one combination u (k,) of the columns."""
        return float(np.sqrt(u @ self.C @ u))

    def variance(self, u: np.ndarray) -> np.ndarray:
        """(q, q) variance of sqrt(n) times the moments of one combination u (k,) of the columns."""
        return np.asarray(np.einsum("c,cdij,d->ij", u, self.V, u))

    @property
    def move(self) -> np.ndarray:
        """(p, q) D = (X'P_Z X)^{-1} X'Z: TSLS moves by -D eta."""
        p = self.rows.p
        return np.asarray(np.linalg.lstsq(self.g[:, 1 : 1 + p], self.g[:, 1 + p :], rcond=None)[0])

    def tsls(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """TSLS (k, p) and its standard errors (k, p) at direct effects eta (k, q); NaN where a variance is negative."""
        p, move = self.rows.p, self.move
        b = self.rows.moments.b_tsls[None, :] - eta @ move.T
        u = np.column_stack([np.ones(eta.shape[0]), eta @ move.T, -eta])
        weights = np.linalg.pinv(self.g[:, 1 : 1 + p])
        variance = np.empty_like(b)
        for j in range(p):
            inner = np.einsum("i,cdij,j->cd", weights[j], self.V, weights[j])
            variance[:, j] = np.einsum("kc,cd,kd->k", u, inner, u) / self.rows.n
        return b, np.sqrt(np.where(variance >= 0.0, variance, np.nan))


def direct_moments(rows: IvRows, sandwich: Sandwich) -> DirectMoments:
    """Moments of a study (raw units) and the variance of its scores under one covariance."""
    from scipy import linalg

    moments, n, q = rows.moments, rows.n, rows.q
    inside = moments.w - moments.B @ moments.b_tsls
    if q == rows.p:
        inside = np.zeros(q)
    g = np.column_stack([inside, moments.B, moments.L.T])
    columns = np.column_stack([rows.residuals(moments.b_tsls), rows.X, rows.Z])
    C = columns.T @ (rows.weights[:, None] * columns) / n
    k = C.shape[0]
    if sandwich.kind == "classical":
        small = rows.dof == "small"
        second, first = (n / rows.d2, n / rows.d1) if small else (1.0, 1.0)
        V = second * C[:, :, None, None] * np.eye(q)[None, None]
        return DirectMoments(rows, g, C, V, second, first, sandwich)
    used = resolved_sandwich(sandwich, rows)
    white = linalg.solve_triangular(moments.L, rows.Z.T, lower=True).T * rows.weights[:, None]
    meat = pair_sum((columns[:, :, None] * white[:, None, :]).reshape(n, -1) / n, used, rows.sampling)
    second, first = (correction(used, "none", n, rows.parameters(used, c), meat.n_clusters).factor for c in (rows.p, q))
    V = (n * second * meat.matrix).reshape(k, q, k, q).transpose(0, 2, 1, 3)
    return DirectMoments(rows, g, C, V, second, first, sandwich)


def corner_ends(moments: DirectMoments, half: np.ndarray, quantile: float, j: int) -> tuple[float, float]:
    """Ends of the union of TSLS intervals of effect j over the box of half-widths (q,), raw units.

    An end is the estimate, linear in eta, plus or minus a multiple of a root of a quadratic form: it is extreme at a
    corner. With more than ten instruments the corners are climbed one instrument at a time.
    """
    free = np.flatnonzero(half > 0.0)

    def end(way: float, signs: np.ndarray) -> np.ndarray:
        """(k,) ends at corners (k, q), signed so that the outermost is the largest."""
        b, error = moments.tsls(signs * half[None, :])
        return np.asarray(way * b[:, j] + quantile * error[:, j])

    if free.size <= _CORNERS:
        signs = np.zeros((2**free.size, half.size))
        signs[:, free] = list(itertools.product((-1.0, 1.0), repeat=free.size))
        return -float(end(-1.0, signs).max()), float(end(1.0, signs).max())
    ends = []
    for way in (-1.0, 1.0):
        here = -way * np.where(moments.move[j] < 0.0, -1.0, 1.0)[None, :]
        for k in (*free, *free):
            both = np.vstack([here, np.where(np.arange(half.size) == k, -here, here)])
            here = both[[int(end(way, both).argmax())]]
        ends.append(way * float(end(way, here)[0]))
    return ends[0], ends[1]


class BoxTest:
    """The Anderson-Rubin test of one effect, minimised over direct effects in a box and over the other effects.

    The statistic is n g'V^{-1} g with g linear and V quadratic in (1, b, eta). Homoskedastic: V is a multiple of the
    identity that does not depend on eta, so that with one treatment each minimum is a convex quadratic program, solved
    exactly. Robust: V is the variance under the null, and the minimum is local, from several starts.

    Parameters
    ----------
    moments : DirectMoments
        The study.
    j : int
        Treatment tested.
    critical : float
        Value that the statistic may not exceed.
    """

    def __init__(self, moments: DirectMoments, j: int, critical: float) -> None:
        rows = moments.rows
        p, q = rows.p, rows.q
        scale = np.sqrt(np.diag(moments.C))
        self.scale = np.where(scale > 0.0, scale, 1.0)
        self.g = moments.g / self.scale[None, :]
        self.V = _null_variance(moments) / np.outer(self.scale, self.scale)[:, :, None, None]
        self.n, self.j, self.critical, self.centre = rows.n, j, critical, float(rows.moments.b_tsls[j])
        self.others = np.setdiff1d(np.arange(1, 1 + p), [1 + j])
        self.free = np.concatenate([self.others, np.arange(1 + p, 1 + p + q)])
        self.solver = np.linalg.pinv(self.g[:, self.others])
        self.unmixed = np.linalg.pinv(self.g[:, 1 + p :])
        self.units = self.scale[1 + p :] / self.scale[0]
        self.floor = 1e-13 * float(np.abs(self.V).max())
        self.slack = self.scale[0] / self.scale[self.others] / np.sqrt(rows.n)
        self.single = rows.p == 1 and moments.sandwich.kind == "classical"
        error = moments.tsls(np.zeros((1, q)))[1][0, j]
        self.error = float(error) if math.isfinite(error) and error > 0.0 else self.scale[0] / self.scale[1 + j]
        self.move = moments.move[j]

    def pieces(self, half: np.ndarray) -> Pieces:
        """Effects that the test does not reject at some direct effect with absolute values at most half (q,)."""
        step = self.error + float(np.abs(self.move) @ half)
        inner = step * self.scale[1 + self.j] / self.scale[0]

        def excess(angles: np.ndarray) -> np.ndarray:
            cosine = np.cos(angles)
            return self._least(cosine, -inner * np.sin(angles), cosine[:, None] * half[None, :]) - self.critical

        count = _ANGLES if not self.others.size else _ANGLES // 2
        return moved(tangents(angular_set(excess, count)), step, self.centre)

    def excess(self, null: float, units: np.ndarray, size: float) -> float:
        """Smallest statistic less its critical value at one effect over the box of half-widths size * units (q,)."""
        distance = (self.centre - null) * self.scale[1 + self.j] / self.scale[0]
        return float(self._least(np.ones(1), np.array([distance]), size * units[None, :])[0]) - self.critical

    def _least(self, first: np.ndarray, held: np.ndarray, half: np.ndarray) -> np.ndarray:
        """(k,) least statistics of first (y - X b_tsls) + held x_j + others - Z eta over boxes (k, q), scaled."""
        k, (q, columns) = first.size, self.g.shape
        size = max(1, _CHUNK // (columns * q * q))
        if k > size:
            cuts = range(size, k, size)
            parts = zip(*(np.split(one, cuts) for one in (first, held, half)), strict=True)
            return np.asarray(np.concatenate([self._least(*part) for part in parts]))
        base = np.zeros((k, columns))
        base[:, 0], base[:, 1 + self.j] = first, held
        bound = np.abs(half) * self.units[None, :]
        starts = self._starts(base, bound)
        many = len(starts)
        found = self._descend(np.tile(base, (many, 1)), np.tile(bound, (many, 1)), np.concatenate(starts))
        return np.asarray(found.reshape(many, k).min(axis=0))

    def _starts(self, base: np.ndarray, bound: np.ndarray) -> list[np.ndarray]:
        """Starts (k, m): the direct effect that would explain the moments, cut to the box; none; far corners."""
        gone = base @ self.g.T @ self.unmixed.T
        inside = [-np.clip(gone, -bound, bound)]
        if not self.single:
            way = np.where(self.move < 0.0, -1.0, 1.0)[None, :]
            inside += [np.zeros_like(bound), bound * way, -bound * way]
        starts = []
        for zeta in inside:
            left = base @ self.g.T + zeta @ self.g[:, -self.g.shape[0] :].T
            starts.append(np.column_stack([-left @ self.solver.T, zeta]))
        for o in range(self.others.size):
            for spread in _SPREADS:
                other = starts[0].copy()
                other[:, o] += spread * self.slack[o] / max(float(np.linalg.norm(self.g[:, self.others[o]])), 1e-12)
                starts.append(other)
        return starts

    def _descend(self, base: np.ndarray, bound: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Minima (k,) by projected Gauss-Newton steps from x (k, m), all at once."""
        wide = np.full((x.shape[0], self.others.size), np.inf)
        bound = np.concatenate([wide, bound], axis=1)
        value = self._value(base, x)
        live = np.arange(x.shape[0])
        for _ in range(_STEPS):
            step = self._step(base[live], bound[live], x[live])
            trial, found = self._best(base[live], bound[live], x[live], step)
            better = found < value[live] * (1.0 - 1e-12) - 1e-12
            live, trial, found = live[better], trial[better], found[better]
            if not live.size:
                break
            x[live], value[live] = trial, found
        return value

    def _best(
        self, base: np.ndarray, bound: np.ndarray, x: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best of several step lengths, among them the one that just meets a bound."""
        room = np.where(step > 0.0, bound - x, bound + x)
        ahead = np.abs(step) > 1e-15 * (1.0 + np.abs(x))
        reach = np.where(ahead & (room > 0.0), room / np.where(ahead, np.abs(step), 1.0), np.inf).min(axis=1)
        lengths = [np.full(x.shape[0], s) for s in _LENGTHS] + [np.where(reach < 1.0, reach, 0.75)]
        trials = np.stack([np.clip(x + s[:, None] * step, -bound, bound) for s in lengths])
        m = trials.shape[2]
        values = self._value(np.tile(base, (len(lengths), 1)), trials.reshape(-1, m)).reshape(len(lengths), -1)
        chosen = values.argmin(axis=0)
        along = np.arange(x.shape[0])
        return trials[chosen, along], values[chosen, along]

    def _value(self, base: np.ndarray, x: np.ndarray) -> np.ndarray:
        q, k = self.g.shape
        u = base.copy()
        u[:, self.free] = x
        V = self._variance(u, (u[:, :, None] * u[:, None, :]).reshape(-1, k * k) @ self.V.reshape(k * k, q * q))
        g = u @ self.g.T
        return np.asarray(self.n * np.sum(g * np.linalg.solve(V, g[:, :, None])[:, :, 0], axis=1))

    def _step(self, base: np.ndarray, bound: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Gauss-Newton steps; a variable at a bound that the gradient pushes outwards stays."""
        q, k = self.g.shape
        u = base.copy()
        u[:, self.free] = x
        half_way = (u @ self.V.reshape(k, k * q * q)).reshape(-1, k, q, q)
        V = self._variance(u, np.einsum("kc,kcij->kij", u, half_way).reshape(-1, q * q))
        a = np.linalg.solve(V, (u @ self.g.T)[:, :, None])[:, :, 0]
        slope = (self.g[None] - np.einsum("kcij,kj->kic", half_way, a))[:, :, self.free]
        gradient = np.einsum("kim,ki->km", slope, a)
        return _bounded_step(gradient, slope.transpose(0, 2, 1) @ np.linalg.solve(V, slope), bound, x)

    def _variance(self, u: np.ndarray, flat: np.ndarray) -> np.ndarray:
        q, ridge = self.g.shape[0], self.floor * np.sum(u**2, axis=1)
        return np.asarray(flat.reshape(-1, q, q) + ridge[:, None, None] * np.eye(q)[None])


def smallest_box(excess: Callable[[float], float], furthest: float = FURTHEST) -> float:
    """Smallest t in [0, furthest] with ``excess(t)`` not positive, for nested boxes of size t; infinite for none.

    ``excess`` does not grow with the size and is positive at zero; NaN counts as negative.
    """
    from scipy import optimize

    low, high = 0.0, min(_FIRST, furthest)
    while excess(high) > 0.0:
        if high >= furthest:
            return math.inf
        low, high = high, min(4.0 * high, furthest)
    low = max(low, 1e-6 * high)
    first = excess(low)
    if not first > 0.0:
        return low
    # Brent's method needs finite values on both sides.
    return float(optimize.brentq(lambda t: float(np.fmax(excess(t), -first)), low, high, xtol=1e-9, rtol=1e-7))


def highest(
    value: Callable[[np.ndarray], np.ndarray], half: np.ndarray, moments: DirectMoments, near: Sequence[np.ndarray] = ()
) -> tuple[float, np.ndarray]:
    """Largest value over direct effects with absolute values at most half (q,); NaN counts as infinite.

    Local searches from the best of the centre, corners, axes, and directions along which instruments agree on one
    effect, or do not.

    Parameters
    ----------
    value : callable
        (k, q) -> (k,).
    half : np.ndarray
        (q,) half-widths.
    moments : DirectMoments
        The study.
    near : sequence of np.ndarray
        Further starts (q,); given any, one short search is made.

    Returns
    -------
    best : float
        The largest value found.
    places : np.ndarray
        (k, q) direct effects with the largest values, the best first.
    """
    from scipy import optimize

    free = np.flatnonzero(half > 0.0)

    def wide(points: np.ndarray) -> np.ndarray:
        eta = np.zeros((points.shape[0], half.size))
        eta[:, free] = np.clip(points, -1.0, 1.0) * half[free][None, :]
        return eta

    def at(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.nan_to_num(value(wide(points)), nan=np.inf))

    def falling(point: np.ndarray) -> tuple[float, np.ndarray]:
        steps = np.where(point > 0.0, -_DIFFERENCE, _DIFFERENCE)
        found = at(np.vstack([point, point[None, :] + np.diag(steps)]))
        return -float(found[0]), -(found[1:] - found[0]) / steps

    centre = np.zeros((1, free.size))
    if not free.size:
        return float(at(centre)[0]), wide(centre)
    agreeing = np.linalg.svd(moments.g[:, 1 : 1 + moments.rows.p])[0]
    turned = np.linalg.solve(moments.g[:, 1 + moments.rows.p :], agreeing).T[:, free] / half[free][None, :]
    turned = turned / np.maximum(np.abs(turned).max(axis=1), 1e-300)[:, None]
    corners = np.where(moments.move[:, free] < 0.0, -1.0, 1.0)
    if free.size <= _FEW:
        corners = np.array(list(itertools.product((-1.0, 1.0), repeat=free.size)))
    spokes = np.vstack([np.eye(free.size), turned, corners])
    spokes = np.vstack([spokes, -spokes])
    starts = np.vstack([*(one[free] / half[free] for one in near), centre, spokes, 0.5 * spokes[: 0 if near else None]])
    values = at(starts)
    order = np.argsort(-values, kind="stable")[: 1 if near else _TRIES]
    best, place = float(values[order[0]]), starts[order[0]]
    for start in starts[order] if np.isfinite(best) else ():
        local = optimize.minimize(
            falling, start, jac=True, method="L-BFGS-B", bounds=[(-1.0, 1.0)] * free.size, options={"maxiter": 40}
        )
        if -local.fun > best:
            best, place = -float(local.fun), local.x
    return best, wide(np.vstack([place, starts[order]]))


def _bounded_step(gradient: np.ndarray, hessian: np.ndarray, bound: np.ndarray, x: np.ndarray) -> np.ndarray:
    m = x.shape[1]
    held = ((x >= bound) & (gradient < 0.0)) | ((x <= -bound) & (gradient > 0.0)) | (bound <= 0.0)
    keep = (~held[:, :, None]) & (~held[:, None, :])
    size = np.einsum("kmm->k", hessian)
    eye = np.eye(m)[None]
    lift = np.where(held, 1.0, 1e-12 * np.where(size > 0.0, size, 1.0)[:, None])
    system = np.where(keep, hessian, 0.0) + eye * lift[:, :, None]
    return np.asarray(-np.linalg.solve(system, np.where(held, 0.0, gradient)[:, :, None])[:, :, 0])


def _null_variance(moments: DirectMoments) -> np.ndarray:
    """(k, k, q, q) variance of the test: of residuals on instruments when homoskedastic, of scores when robust."""
    rows, q = moments.rows, moments.rows.q
    k = moments.C.shape[0]
    if moments.sandwich.kind == "classical":
        inner = rows.moments
        outside = np.column_stack([inner.My - inner.MX @ inner.b_tsls, inner.MX])
        M = np.zeros((k, k))
        M[: 1 + rows.p, : 1 + rows.p] = outside.T @ (rows.weights[:, None] * outside) / rows.d1
        return np.asarray(M[:, :, None, None] * np.eye(q)[None, None])
    V = moments.first_factor / moments.second_factor * moments.V
    if moments.sandwich.kind in INDEFINITE:
        flat, _ = positive_part(V.transpose(0, 2, 1, 3).reshape(k * q, k * q))
        V = flat.reshape(k, q, k, q).transpose(0, 2, 1, 3)
    return np.asarray(V)
