"""Ridge regressions for every penalty at once, from moments.

Notation. Rows ``v = (1, z)`` with ``z`` the columns: first the free (unpenalised) ones c, then the penalised ones x.
The objective is ``sum_i w_i (y_i - a - c_i'd - x_i'b)^2 + lam |b|^2`` (Hoerl and Kennard 1970), with the intercept and
c profiled out. Everything is computed from ``M = sum w v v'`` and ``sum w v y``, so that a model is fitted, and scored
on other rows, without a second pass over rows.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

DEAD_VARIANCE = 1e-13
NULL_DIRECTION = 1e-11


class Basis(NamedTuple):
    """Coordinates in which the training Gram is diagonal: coefficients on (1, z) are ``map @ theta``.

    Attributes
    ----------
    map : (q, q) float64
        Columns: the intercept, orthogonal free directions, orthogonal penalised directions.
    gram : (q,) float64
        ``map' M map`` is ``diag(gram)``; zero where the training rows do not move.
    penalised : (q,) float64
        1 for directions that carry the penalty, else 0; the penalty is ``lam * |theta * penalised|^2``.
    scale : () float64
        Mean diagonal entry of the penalised Gram, the unit of the penalty grid.
    """

    map: Array
    gram: Array
    penalised: Array
    scale: Array


def penalty_ratios(n_penalties: int) -> Array:
    """(L,) penalties in units of ``Basis.scale``: log-spaced from 1e-4 to 1e4, ascending."""
    return 10.0 ** jnp.linspace(-4.0, 4.0, n_penalties, dtype=jnp.float64)


def _inverse(values: Array, floor: Array) -> Array:
    """1/values where values exceed the floor, else 0."""
    live = values > floor
    return jnp.where(live, 1.0 / jnp.where(live, values, 1.0), 0.0)


def _filled(moment: Array, fills: tuple[tuple[int, int], ...]) -> Array:
    """(q, q) map that adds the training mean of the observed values to the missing entries of a column.

    ``fills`` pairs a zero-filled column with its missing indicator: the column becomes ``x + fill * indicator``.
    """
    shear = jnp.eye(moment.shape[0], dtype=moment.dtype)
    for column, indicator in fills:
        observed = moment[0, 0] - moment[0, indicator]
        fill = moment[0, column] * _inverse(observed, jnp.zeros_like(observed))
        shear = shear.at[indicator, column].set(fill)
    return shear


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)


def ridge_basis(
    moment: Array, n_free: int, *, fills: tuple[tuple[int, int], ...] = (), standardize: bool = True
) -> Basis:
    """Diagonalise one training Gram: impute, centre, scale, profile the free columns out, one eigendecomposition.

    Parameters
    ----------
    moment : (q, q) float64
        ``sum w v v'`` over the training rows, v = (1, z).
    n_free : int
        Number of leading columns of z that carry no penalty.
    fills : pairs of int
        Positions in v of a zero-filled column and of its missing indicator.
    standardize : bool
        Penalise coefficients of columns divided by their training standard deviation (ddof 0); columns without
        variance drop out. False: the columns as they are.

    Returns
    -------
    Basis
    """
    q = moment.shape[0]
    shear = _filled(moment, fills)
    moment = shear.T @ moment @ shear
    total = moment[0, 0]
    inverse_total = _inverse(total, jnp.zeros_like(total))
    mean = moment[0, 1:] * inverse_total
    centred = moment[1:, 1:] - total * mean[:, None] * mean[None, :]
    variance = jnp.diagonal(centred) * inverse_total
    live = variance > DEAD_VARIANCE * jnp.diagonal(moment)[1:] * inverse_total
    deviation = jnp.sqrt(jnp.where(live, variance, 1.0))
    unit = jnp.where(live, 1.0 / deviation if standardize else jnp.ones_like(deviation), 0.0)
    centred = _symmetric(centred * unit[:, None] * unit[None, :])
    free_map, free_gram, joint_map, joint_gram, scale = _profiled(centred, n_free, live, total)
    inner = jnp.zeros((q, q), moment.dtype).at[0, 0].set(1.0)
    inner = inner.at[1 : 1 + n_free, 1 : 1 + n_free].set(free_map).at[1:, 1 + n_free :].set(joint_map)
    outer = jnp.zeros((q, q), moment.dtype).at[0, 0].set(1.0).at[0, 1:].set(-mean * unit)
    outer = outer.at[jnp.arange(1, q), jnp.arange(1, q)].set(unit)
    gram = jnp.concatenate([total[None], free_gram, joint_gram])
    penalised = (jnp.arange(q) > n_free).astype(moment.dtype)
    return Basis(shear @ (outer @ inner), gram, penalised, scale)


def _profiled(gram: Array, n_free: int, live: Array, total: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Orthogonal directions of the free columns, then of the rest given the free ones (Schur complement)."""
    width = gram.shape[0]
    if n_free:
        values, vectors = jnp.linalg.eigh(gram[:n_free, :n_free])
        inverse = _inverse(values, NULL_DIRECTION * jnp.max(values))
        free_map = vectors * jnp.sqrt(inverse * total)[None, :]
        free_gram = total * (inverse > 0)
        slope = (vectors * inverse[None, :]) @ (vectors.T @ gram[:n_free, n_free:])
    else:
        free_map, free_gram = jnp.zeros((0, 0), gram.dtype), jnp.zeros((0,), gram.dtype)
        slope = jnp.zeros((0, width), gram.dtype)
    if n_free == width:
        none = jnp.zeros((0,), gram.dtype)
        return free_map, free_gram, jnp.zeros((width, 0), gram.dtype), none, jnp.ones((), gram.dtype)
    rest = _symmetric(gram[n_free:, n_free:] - gram[n_free:, :n_free] @ slope)
    values, vectors = jnp.linalg.eigh(rest)
    values = jnp.where(values > NULL_DIRECTION * jnp.max(values), values, 0.0)
    scale = jnp.trace(rest) / jnp.maximum(jnp.sum(live[n_free:]), 1)
    joint_map = jnp.concatenate([-slope @ vectors, vectors])
    return free_map, free_gram, joint_map, values, jnp.where(scale > 0, scale, 1.0)


def path_coefficients(basis: Basis, cross: Array, penalties: Array) -> Array:
    """Coefficients on (1, z) for every penalty.

    Parameters
    ----------
    basis : Basis
        Of the training rows, width q.
    cross : (q,) float64
        ``sum w v y`` over the training rows.
    penalties : (L,) float64
        Penalties lam of the objective, absolute.

    Returns
    -------
    (L, q) float64
        ``map (diag(gram) + lam * penalised)^-1 map' cross``, zero along directions without variance.
    """
    curvature = basis.gram[None, :] + penalties[:, None] * basis.penalised[None, :]
    live = (basis.gram > 0)[None, :]
    theta = jnp.where(live, (basis.map.T @ cross)[None, :] / jnp.where(live, curvature, 1.0), 0.0)
    return theta @ basis.map.T


def squared_error(moment: Array, cross: Array, square: Array, coefficients: Array) -> Array:
    """(L,) ``sum w (y - v'b)^2 = y'y - 2 b'c + b'M b`` over the rows behind the moments, for (L, q) coefficients."""
    fitted = jnp.sum((coefficients @ moment) * coefficients, axis=1)
    return jnp.maximum(square - 2.0 * (coefficients @ cross) + fitted, 0.0)


def _design(x: Array, free: Array | None) -> tuple[Array, int]:
    ones = jnp.ones((x.shape[0], 1), x.dtype)
    parts = [ones, x] if free is None else [ones, free, x]
    return jnp.concatenate(parts, axis=1), 0 if free is None else free.shape[1]


def ridge_path(
    x: Array, y: Array, w: Array, penalties: Array, *, free: Array | None = None, standardize: bool = True
) -> Array:
    """(L, 1 + f + d) ridge coefficients on (1, free, x) for absolute penalties (L,).

    Minimises ``sum w (y - a - c'd - x'b)^2 + lam |b|^2`` (``standardize``: b on columns in training standard
    deviations). With ``standardize=False`` and unit weights this is scikit-learn's ``Ridge(alpha=lam)``.
    """
    v, n_free = _design(x, free)
    basis = ridge_basis((v * w[:, None]).T @ v, n_free, standardize=standardize)
    return path_coefficients(basis, v.T @ (w * y), penalties)


def _leverages(v: Array, w: Array, basis: Basis, penalties: Array) -> Array:
    """(n, L) hat values ``w_i v_i' map (gram + lam)^-1 map' v_i`` by one product of squared rotated rows."""
    live = basis.gram > 0
    curvature = basis.gram[:, None] + penalties[None, :] * basis.penalised[:, None]
    inverse = jnp.where(live[:, None], 1.0 / jnp.where(live[:, None], curvature, 1.0), 0.0)
    return w[:, None] * (jnp.square(v @ basis.map) @ inverse)


def loo_errors(
    x: Array, y: Array, w: Array, penalties: Array, *, free: Array | None = None, standardize: bool = False
) -> Array:
    """(L,) weighted sum of squared leave-one-out errors ``e_i / (1 - h_i)``, exact for fixed scaling of x.

    The rule of scikit-learn's ``RidgeCV`` for ``cv=None``. Rows that share an image make it optimistic.
    """
    v, n_free = _design(x, free)
    basis = ridge_basis((v * w[:, None]).T @ v, n_free, standardize=standardize)
    residual = y[:, None] - v @ path_coefficients(basis, v.T @ (w * y), penalties).T
    error = residual / (1.0 - _leverages(v, w, basis, penalties))
    return jnp.sum(w[:, None] * jnp.square(error), axis=0)


def gcv_scores(basis: Basis, moment: Array, cross: Array, square: Array, penalties: Array) -> Array:
    """(L,) generalised cross-validation ``(RSS/N) / (1 - tr H / N)^2`` from moments (Golub, Heath and Wahba 1979).

    N is the sum of the weights, so the weights must count rows (mean one).
    """
    total = moment[0, 0]
    rss = squared_error(moment, cross, square, path_coefficients(basis, cross, penalties))
    live = (basis.gram > 0)[None, :]
    curvature = basis.gram[None, :] + penalties[:, None] * basis.penalised[None, :]
    trace = jnp.sum(jnp.where(live, basis.gram[None, :] / jnp.where(live, curvature, 1.0), 0.0), axis=1)
    return (rss / total) / jnp.square(jnp.maximum(1.0 - trace / total, 1e-8))


def ols(x: Array, y: Array, w: Array) -> Array:
    """(1 + d,) weighted least-squares coefficients on (1, x); minimum norm in standardised columns if collinear."""
    v, _ = _design(x[:, :0], x)
    basis = ridge_basis((v * w[:, None]).T @ v, x.shape[1])
    return path_coefficients(basis, v.T @ (w * y), jnp.zeros((1,), x.dtype))[0]
