"""Logistic ridge across training sets: choice of the penalty by inner log loss, final fits, Platt scaling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.cross_fit_ridge import Family, Plan, Rows, Sets, tile_share
from causalsat.kernels.logistic import (
    Batch,
    batch_coefficients,
    fixed_hessian_logistic,
    newton_logistic,
    platt_line,
)
from causalsat.kernels.ridge_path import Basis, penalty_ratios

WINDOW = 5
SEARCH_RTOL, SEARCH_STEPS = 1e-4, 50


class LogisticFamily(NamedTuple):
    """``coefficients`` (K, q), ``choice`` and ``penalty`` (K,), ``inner`` (t, r, K) logits, ``converged`` ()."""

    coefficients: Array
    choice: Array
    penalty: Array
    inner: Array
    converged: Array


def _share(cross: Array, totals: Array) -> Array:
    """Training share of ones, held inside (0, 1)."""
    return jnp.clip(cross[:, 0] / jnp.where(totals > 0, totals, 1.0), 1e-3, 1.0 - 1e-3)


def _linear_start(basis: Basis, cross: Array, penalty: Array) -> Array:
    """(s, l, q) starting theta: the logit of the mean and ridge slopes divided by p(1-p)."""
    share = _share(cross, basis.gram[:, 0])
    spread = (share * (1.0 - share))[:, None, None]
    rotated = jnp.einsum("sqr,sq->sr", basis.map, cross)[:, None, :]
    curvature = basis.gram[:, None, :] * spread + penalty[:, :, None] * basis.penalised[:, None, :]
    live = (basis.gram > 0)[:, None, :]
    theta = jnp.where(live, rotated / jnp.where(live, curvature, 1.0), 0.0)
    return theta.at[:, :, 0].set(jnp.log(share / (1.0 - share))[:, None])


def _held_out_loss(rows: Rows, sets: Sets, w: Array, y: Array, coefficients: Array) -> Array:
    """(P, 2, l) log loss of the pair models (P, l, q) on the rows they score for either end."""
    p, l, q = coefficients.shape
    flat = coefficients.reshape(p * l, q)

    def add(total: Array, tile: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        v, target, weight, share = tile
        eta = v @ flat.T
        loss = weight @ (jax.nn.softplus(eta) - target[:, None] * eta)
        return total + share[:, :, None] * loss.reshape(p, l)[:, None, :], None

    start = jnp.zeros((p, 2, l), w.dtype)
    return lax.scan(add, start, (rows.v, y, w, tile_share(sets.scored, rows)))[0]


def _windows(family: Family, plan: Plan) -> Array:
    """(K, 5) places in the grid around the ridge choice, moved by log p(1-p).

    The logistic information is about p(1-p) times the Gram, so equal shrinkage means a penalty p(1-p) times as large.
    """
    n_outer = family.choice.shape[0]
    share = _share(family.cross[:n_outer], family.basis.gram[:n_outer, 0])
    move = jnp.round(jnp.log10(share * (1.0 - share)) * (plan.n_penalties - 1) / 8.0).astype(jnp.int32)
    half = WINDOW // 2
    centre = jnp.clip(family.choice.astype(jnp.int32) + move, half, plan.n_penalties - 1 - half)
    return centre[:, None] + jnp.arange(-half, half + 1, dtype=jnp.int32)[None, :]


def _search(rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan) -> tuple[Array, Array]:
    """Choice (K,) by inner log loss, and theta (P, 2, q) of the chosen inner models, roughly solved."""
    ratios = penalty_ratios(plan.n_penalties)
    n_outer, n_pairs = sets.outer.shape[0], sets.pair.shape[0]
    basis, cross = _part(family.basis, n_outer, None), family.cross[n_outer:]
    if plan.full or plan.n_penalties < WINDOW:
        window = jnp.tile(jnp.arange(plan.n_penalties, dtype=jnp.int32)[None, :], (n_outer, 1))
        grid = ratios[window[sets.ends[:, 0]]]
    else:
        window = _windows(family, plan)
        grid = ratios[window[sets.ends]].reshape(n_pairs, 2 * WINDOW)
    penalty = grid * basis.scale[:, None]
    batch = Batch(basis, cross, penalty, tile_share(sets.pair, rows))
    start = _linear_start(basis, cross, penalty)
    theta, _ = fixed_hessian_logistic(rows.v, y, w, batch, start, rtol=SEARCH_RTOL, max_steps=SEARCH_STEPS)
    loss = _held_out_loss(rows, sets, w, y, batch_coefficients(batch, theta))
    width = window.shape[1]
    halves = (0, 0) if grid.shape[1] == width else (0, width)
    own = jnp.stack([loss[:, e, halves[e] : halves[e] + width] for e in (0, 1)], axis=1)
    best = jnp.argmin(jnp.zeros((n_outer, width), w.dtype).at[sets.ends].add(own), axis=1)
    place = best[sets.ends] + jnp.array(halves)[None, :]
    chosen = jnp.take_along_axis(window, best[:, None], axis=1)[:, 0]
    return chosen, jnp.take_along_axis(theta, place[:, :, None], axis=1)


def _part(basis: Basis, first: int | None, last: int | None) -> Basis:
    """The bases of some of the training sets."""
    return Basis(*(stacked[first:last] for stacked in basis))


def _inner_logits(rows: Rows, sets: Sets, coefficients: Array) -> Array:
    """(t, r, K) logits of each row by the inner model of every outer fold, from (P, 2, q); its own fold gives 0."""
    p, _, q = coefficients.shape
    every = jnp.einsum("trq,mq->trm", rows.v, coefficients.reshape(2 * p, q))
    place = jnp.moveaxis(sets.pair_of, 0, -1)[rows.fold]
    logits = jnp.take_along_axis(every, jnp.maximum(place, 0), axis=2)
    return jnp.where(place >= 0, logits, 0.0)


def _newton_fits(
    rows: Rows, w: Array, y: Array, basis: Basis, penalty: Array, start: Array, member: Array
) -> tuple[Array, Array]:
    """Newton fits (s, q) on stacked training sets and whether each converged (s,)."""

    def fit(one: tuple[Basis, Array, Array, Array]) -> tuple[Array, Array]:
        own, lam, theta, share = one
        weight = w * share[rows.atom][:, None]
        found = newton_logistic(rows.v, y, weight, own, lam, theta)
        return found.coefficients, found.converged

    return lax.map(fit, (basis, penalty, start, member))


def logistic_family(
    rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan, *, inner: bool
) -> LogisticFamily:
    """Logistic ridge of y (0/1) for every outer training set; one beyond the K folds takes their median penalty.

    The penalty is the one with the least log loss of the inner models, among 5 around the ridge choice (screened) or
    all; without inner models it is the ridge choice, moved by p(1-p). ``inner``: also the inner out-of-fold logits at
    the chosen penalties. Every model that is used ends with Newton's method. Inner models feed the calibration only,
    so that ``converged`` speaks of the outer ones.
    """
    n_outer, k, inner = sets.outer.shape[0], sets.pair_of.shape[0], inner and sets.pair.shape[0] > 0
    if plan.searched:
        choice, theta = _chosen(rows, sets, w, y, family, plan)
        ratios, n_models = penalty_ratios(plan.n_penalties), 2
    else:
        choice, theta = family.choice, None
        ratios, n_models = jnp.zeros((1,), y.dtype), 1
    pairs = jnp.repeat(n_outer + jnp.arange(sets.pair.shape[0] if inner else 0), n_models)
    places = jnp.concatenate([jnp.arange(n_outer), pairs])
    wanted = jnp.concatenate([choice, choice[sets.ends[:, :n_models]].reshape(-1)]) if inner else choice
    basis = Basis(*(stacked[places] for stacked in family.basis))
    penalty = ratios[wanted] * basis.scale
    start = _linear_start(basis, family.cross[places], penalty[:, None])[:, 0]
    if inner and theta is not None:
        start = start.at[n_outer:].set(theta.reshape(-1, theta.shape[-1]))
    member = jnp.concatenate([sets.outer, sets.pair])[places]
    found, converged = _newton_fits(rows, w, y, basis, penalty, start, member)
    logits = jnp.zeros((*y.shape, k), y.dtype)
    if inner:
        models = jnp.broadcast_to(
            found[n_outer:].reshape(-1, n_models, found.shape[1]), (*sets.ends.shape, found.shape[1])
        )
        logits = _inner_logits(rows, sets, models)
    return LogisticFamily(found[:n_outer], choice, penalty[:n_outer], logits, jnp.all(converged[:n_outer]))


def _chosen(rows: Rows, sets: Sets, w: Array, y: Array, family: Family, plan: Plan) -> tuple[Array, Array | None]:
    """Place of the penalty of every outer set (n_outer,), and a start for the inner models (P, 2, q), if any."""
    k = sets.pair_of.shape[0]
    theta = None
    if sets.pair.shape[0]:
        choice, theta = _search(rows, sets, w, y, family, plan)
    else:
        choice = _windows(family, plan)[:, WINDOW // 2] if plan.n_penalties >= WINDOW else family.choice
    if sets.outer.shape[0] > k:
        choice = choice.at[k].set(jnp.round(jnp.median(choice[:k].astype(y.dtype))).astype(choice.dtype))
    return choice, theta


def platt(inner: Array, rows: Rows, w: Array, share: Array) -> Array:
    """(K, 2) calibration line of each outer fold, from inner out-of-fold logits (t, r, K) of its training rows."""

    def fit(one: tuple[Array, Array]) -> Array:
        logit, member = one
        weight = w * member[:, None]
        return platt_line(logit.reshape(-1), rows.treated.reshape(-1), weight.reshape(-1))

    return lax.map(fit, (jnp.moveaxis(inner, -1, 0), share.T))
