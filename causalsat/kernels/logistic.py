"""Logistic regressions with an L2 penalty, many at once.

Objective ``sum_i w_i [log(1 + exp(v_i'b)) - y_i v_i'b] + lam/2 |theta * penalised|^2`` with ``b = map theta`` in the
coordinates of :class:`~causalsat.kernels.ridge_path.Basis`, so that lam is the lam of the ridge objective and
``1/C`` of scikit-learn. Rows come in tiles ``v (t, r, q)``; sums over rows are sums over tiles.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.ridge_path import Basis, ridge_basis

STEP_TOLERANCE = 1e-8
SHORTEST_SHARE = 1e-9
LARGEST_LOGIT = 30.0


class LogisticFit(NamedTuple):
    """One fit: ``theta (q,)``, coefficients ``(q,)`` on v, and whether Newton's method converged."""

    theta: Array
    coefficients: Array
    converged: Array


class _State(NamedTuple):
    """The last accepted theta, the Newton step from it, the share of that step to try next, its rms size on rows."""

    step: Array
    theta: Array
    value: Array
    direction: Array
    share: Array
    moved: Array


def _derivatives(v: Array, y: Array, w: Array, coefficients: Array) -> tuple[Array, Array, Array]:
    """Negative log-likelihood, score ``sum w (y - p) v`` and information ``sum w p (1-p) v v'``."""
    q = v.shape[-1]

    def add(total: tuple[Array, Array, Array], tile: tuple[Array, Array, Array]) -> tuple[Any, None]:
        rows, target, weight = tile
        eta = rows @ coefficients
        p = jax.nn.sigmoid(eta)
        value = total[0] + jnp.sum(weight * (jax.nn.softplus(eta) - target * eta))
        score = total[1] + rows.T @ (weight * (target - p))
        return (value, score, total[2] + (rows * (weight * p * (1.0 - p))[:, None]).T @ rows), None

    start = (jnp.zeros((), v.dtype), jnp.zeros((q,), v.dtype), jnp.zeros((q, q), v.dtype))
    return lax.scan(add, start, (v, y, w))[0]


def newton_logistic(
    v: Array, y: Array, w: Array, basis: Basis, penalty: Array, start: Array, *, max_steps: int = 60
) -> LogisticFit:
    """Newton's method with step halving from ``start`` (theta, (q,)); one pass over rows per step tried.

    Converged: the last Newton step moves the linear predictor by at most 1e-8 (root mean square over rows), so
    that after it the gradient is at rounding, and no fitted logit exceeds 30. Under separation without penalty the
    steps never shrink, or logits run away, although the gradient vanishes: the fit reports that it did not converge.
    """
    ridge = penalty * basis.penalised
    live = basis.gram > 0
    total = jnp.maximum(jnp.sum(w), jnp.finfo(v.dtype).tiny)

    def advance(state: _State) -> _State:
        theta = state.theta + state.share * state.direction
        likelihood, score, information = _derivatives(v, y, w, basis.map @ theta)
        value = likelihood + 0.5 * jnp.sum(ridge * jnp.square(theta))
        gradient = jnp.where(live, basis.map.T @ score - ridge * theta, 0.0)
        curvature = basis.map.T @ information @ basis.map + jnp.diag(ridge)
        curvature = jnp.where(live[:, None] & live[None, :], curvature, jnp.diag(jnp.where(live, 0.0, 1.0)))
        direction = jax.scipy.linalg.solve(curvature, gradient, assume_a="pos")
        moved = jnp.sqrt(jnp.sum(basis.gram * jnp.square(direction)) / total)
        reached = _State(state.step + 1, theta, value, direction, jnp.ones_like(state.share), moved)
        rejected = state._replace(step=state.step + 1, share=0.5 * state.share)
        kept = value <= state.value + 1e-13 * (1.0 + jnp.abs(value))
        return jax.tree.map(lambda a, b: jnp.where(kept, a, b), reached, rejected)

    def unfinished(state: _State) -> Array:
        return (state.step < max_steps) & (state.moved > STEP_TOLERANCE) & (state.share > SHORTEST_SHARE)

    large = jnp.full((), jnp.inf, v.dtype)
    first = _State(jnp.zeros((), jnp.int32), start, large, jnp.zeros_like(start), jnp.ones((), v.dtype), large)
    state = lax.while_loop(unfinished, advance, first)
    done = state.moved <= STEP_TOLERANCE
    theta = state.theta + jnp.where(done, state.direction, 0.0)
    coefficients = basis.map @ theta
    largest = jnp.max(jnp.where(w > 0, jnp.abs(v @ coefficients), 0.0))
    return LogisticFit(theta, coefficients, done & (largest <= LARGEST_LOGIT))


def logistic(x: Array, y: Array, w: Array, penalty: float | Array = 0.0, *, standardize: bool = False) -> LogisticFit:
    """Logistic regression of y (0/1) on (1, x) with weights w and an unpenalised intercept.

    Minimises ``sum w [log(1 + exp(eta)) - y eta] + lam/2 |b|^2``: maximum likelihood at ``penalty=0``, and
    scikit-learn's ``LogisticRegression(C=1/lam)`` otherwise (b on columns in standard deviations if ``standardize``).
    """
    v = jnp.concatenate([jnp.ones((x.shape[0], 1), x.dtype), x], axis=1)
    basis = ridge_basis((v * w[:, None]).T @ v, 0, standardize=standardize)
    start = jnp.zeros((v.shape[1],), v.dtype)
    return newton_logistic(v[None], y[None], w[None], basis, jnp.asarray(penalty, v.dtype), start)


def platt_line(logit: Array, y: Array, w: Array) -> Array:
    """(2,) intercept and slope of the logistic regression of y (0/1) on a logit (Platt 1999, without smoothing).

    A slope below zero means that the predictions do not order y at all; the line is then the flat one at the share of
    y. Logits that separate the outcomes exactly have no finite line and stay as they are.
    """
    total = jnp.sum(w)
    over = jnp.where(total > 0, 1.0 / jnp.where(total > 0, total, 1.0), 0.0)
    centre = jnp.sum(w * logit) * over
    variance = jnp.sum(w * jnp.square(logit - centre)) * over
    moves = variance > 0
    unit = jnp.where(moves, 1.0 / jnp.sqrt(jnp.where(moves, variance, 1.0)), 0.0)
    zero, one = jnp.zeros_like(unit), jnp.ones_like(unit)
    line = jnp.stack([jnp.stack([one, -centre * unit]), jnp.stack([zero, unit])])
    basis = Basis(line, jnp.stack([total, total * moves]), jnp.zeros((2,), w.dtype), one)
    v = jnp.stack([jnp.ones_like(logit), logit], axis=-1)
    found = newton_logistic(v[None], y[None], w[None], basis, zero, jnp.zeros((2,), w.dtype))
    mean = jnp.sum(w * y) * over
    flat = jnp.stack([jnp.log(mean) - jnp.log1p(-mean), jnp.zeros_like(mean)])
    scaled = jnp.where(found.coefficients[1] > 0, found.coefficients, flat)
    return jnp.where(found.converged, scaled, jnp.array([0.0, 1.0], w.dtype))


class Batch(NamedTuple):
    """A family of s training sets with l models each.

    Attributes
    ----------
    basis : Basis
        Stacked over training sets: ``map (s, q, q)``, ``gram (s, q)``.
    cross : (s, q) float64
        ``sum w v y`` over each training set.
    penalty : (s, l) float64
        Penalty of each model.
    share : (t, s) float64
        Whether a tile of rows belongs to a training set.
    """

    basis: Basis
    cross: Array
    penalty: Array
    share: Array


class _Momentum(NamedTuple):
    step: Array
    theta: Array
    last: Array
    inertia: Array
    size: Array


def batch_coefficients(batch: Batch, theta: Array) -> Array:
    """(s, l, q) coefficients on v of theta (s, l, q)."""
    return jnp.einsum("sqr,slr->slq", batch.basis.map, theta)


def _batch_gradient(v: Array, y: Array, w: Array, batch: Batch, theta: Array) -> Array:
    """(s, l, q) gradient of the penalised log-likelihoods; one product over rows serves all models."""
    s, l, q = theta.shape
    coefficients = batch_coefficients(batch, theta).reshape(s * l, q)

    def add(total: Array, tile: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        rows, target, weight, share = tile
        p = jax.nn.sigmoid(rows @ coefficients.T)
        residual = weight[:, None] * (target[:, None] - p) * jnp.repeat(share, l)[None, :]
        return total + residual.T @ rows, None

    score = lax.scan(add, jnp.zeros((s * l, q), v.dtype), (v, y, w, batch.share))[0].reshape(s, l, q)
    ridge = batch.penalty[:, :, None] * batch.basis.penalised[:, None, :]
    return jnp.einsum("sqr,slq->slr", batch.basis.map, score) - ridge * theta


def fixed_hessian_logistic(
    v: Array, y: Array, w: Array, batch: Batch, start: Array, *, rtol: float, max_steps: int
) -> tuple[Array, Array]:
    """All models of a batch by steps with one fixed curvature and momentum.

    ``theta += (gram/4 + lam)^-1 gradient``: 1/4 bounds p(1-p), so the plain step never overshoots (Boehning and
    Lindsay 1988); Nesterov's momentum, restarted per model when it points downhill, saves steps. In the coordinates
    of the basis the curvature is diagonal.

    Returns
    -------
    theta : (s, l, q) float64
    converged : (s, l) bool
        Gradient, in the metric of the curvature, at most ``rtol`` times its size at zero.
    """
    curvature = 0.25 * batch.basis.gram[:, None, :] + batch.penalty[:, :, None] * batch.basis.penalised[:, None, :]
    live = (batch.basis.gram > 0)[:, None, :]
    inverse = jnp.where(live, 1.0 / jnp.where(live, curvature, 1.0), 0.0)

    def length(gradient: Array) -> Array:
        return jnp.sqrt(jnp.sum(inverse * jnp.square(gradient), axis=2))

    at_zero = jnp.einsum("sqr,sq->sr", batch.basis.map, batch.cross).at[:, 0].add(-0.5 * batch.basis.gram[:, 0])
    target = rtol * length(jnp.broadcast_to(at_zero[:, None, :], start.shape))

    def advance(state: _Momentum) -> _Momentum:
        inertia = 0.5 * (1.0 + jnp.sqrt(1.0 + 4.0 * jnp.square(state.inertia)))
        ahead = state.theta + ((state.inertia - 1.0) / inertia)[:, :, None] * (state.theta - state.last)
        gradient = _batch_gradient(v, y, w, batch, ahead)
        theta = ahead + inverse * gradient
        uphill = jnp.sum(gradient * (theta - state.theta), axis=2) >= 0
        return _Momentum(state.step + 1, theta, state.theta, jnp.where(uphill, inertia, 1.0), length(gradient))

    def unfinished(state: _Momentum) -> Array:
        return (state.step < max_steps) & jnp.any(state.size > target)

    first = _Momentum(jnp.zeros((), jnp.int32), start, start, jnp.ones_like(target), jnp.full_like(target, jnp.inf))
    final = lax.while_loop(unfinished, advance, first)
    return final.theta, final.size <= target
