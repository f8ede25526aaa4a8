"""Cross-fitted outcome regressions and propensity as one function of the row weights."""

from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.cross_fit_logistic import logistic_family, platt
from causalsat.kernels.cross_fit_ridge import (
    Family,
    Moments,
    Plan,
    Rows,
    Sets,
    block_moments,
    predicted,
    ridge_family,
    tile_share,
)
from causalsat.kernels.replicates import Status


class CrossFit(NamedTuple):
    """What a cross-fit returns, in the order of the data.

    Attributes
    ----------
    g0, g1, m : (n,) float64
        Out-of-fold outcome regressions and propensity, m not clipped; NaN where not asked for.
    choice : (3, K) int
        Place in the penalty grid for g0, g1, m; -1 where not asked for.
    penalty : (3, K) float64
        The penalty itself.
    calibration : (K, 2) float64
        Intercept and slope of the calibration of each outer fold; (0, 1) without.
    inner : (n, K) float64
        Inner out-of-fold logits of the training rows of each outer fold.
    m_insample : (n,) float64
        Propensity of the model fitted on all rows, not calibrated; NaN unless the plan asks for it.
    status : () int
        0 ok, 2 no treatment variation, 3 empty arm, 4 not converged, 5 not finite.
    """

    g0: Array
    g1: Array
    m: Array
    choice: Array
    penalty: Array
    calibration: Array
    inner: Array
    m_insample: Array
    status: Array


class _Piece(NamedTuple):
    """One nuisance on the tiles (t, r): predictions, choices (K,), inner logits, and the fit on all rows."""

    values: Array
    choice: Array
    penalty: Array
    status: Array
    inner: Array
    calibration: Array
    whole: Array


def cross_fit(rows: Rows, sets: Sets, weights: Array, plan: Plan) -> CrossFit:
    """Out-of-fold g0, g1 and unclipped m for row weights (n,); pure, so that a bootstrap can map over weights."""
    w = jnp.where(rows.valid > 0, weights[rows.row], 0.0)
    moments = block_moments(rows, w, sets.outer.shape[1])
    everything = jnp.ones((int(plan.in_sample), sets.outer.shape[1]), w.dtype)
    more = sets._replace(outer=jnp.concatenate([sets.outer, everything]))
    families = _families(more, *moments, plan)
    arms = _outcomes(rows, sets, w, families, plan)
    scores = _propensity(rows, more, w, families[2], plan) if plan.propensity else _blank(rows, sets)
    pieces = (*arms, scores)
    g0, g1, m_raw = (piece.values.reshape(-1)[rows.place] for piece in pieces)
    asked = jnp.array([plan.control, plan.treated, plan.propensity])
    finite = jnp.all(jnp.isfinite(jnp.stack([g0, g1, m_raw])) | ~asked[:, None])
    status = jnp.stack([*(piece.status for piece in pieces), jnp.where(finite, Status.ok, Status.nonfinite)])
    m = pieces[2]
    return CrossFit(
        g0=g0,
        g1=g1,
        m=m_raw,
        choice=jnp.stack([piece.choice for piece in pieces]),
        penalty=jnp.stack([piece.penalty for piece in pieces]),
        calibration=m.calibration,
        inner=m.inner.reshape(-1, sets.outer.shape[0])[rows.place],
        m_insample=m.whole.reshape(-1)[rows.place],
        status=status[jnp.argmax(status != Status.ok)],
    )


def _piece(values: Array, choice: Array, penalty: Array, status: Array, inner: Array | None = None) -> _Piece:
    k, dtype = choice.shape[0], values.dtype
    inner = jnp.zeros((*values.shape, k), dtype) if inner is None else inner
    neutral = jnp.tile(jnp.array([[0.0, 1.0]], dtype), (k, 1))
    return _Piece(values, choice.astype(jnp.int32), penalty, status, inner, neutral, jnp.full_like(values, jnp.nan))


def _blank(rows: Rows, sets: Sets) -> _Piece:
    k, dtype = sets.outer.shape[0], rows.y.dtype
    nothing = jnp.full(rows.y.shape, jnp.nan, dtype)
    return _piece(nothing, jnp.full((k,), -1), jnp.full((k,), jnp.nan, dtype), jnp.asarray(Status.ok))


def _families(sets: Sets, control: Moments, treated: Moments, plan: Plan) -> list[Family]:
    """Ridge fits of the outcome in either arm and of the treatment, those asked for; compiled once for all three.

    The cross moments of the treatment are the first column of the treated Gram.
    """
    both = Moments(control.gram + treated.gram, treated.gram[:, :, 0], treated.gram[:, 0, 0])
    asked = [target for target, wanted in enumerate((plan.control, plan.treated, plan.propensity)) if wanted]
    stacked = Moments(*(jnp.stack(parts)[jnp.array(asked)] for parts in zip(control, treated, both, strict=True)))
    found = lax.map(lambda moments: ridge_family(moments, sets, plan), stacked)
    places = [asked.index(target) if target in asked else 0 for target in range(3)]
    return [Family(*jax.tree.map(itemgetter(place), tuple(found))) for place in places]


def _outcomes(rows: Rows, sets: Sets, w: Array, families: list[Family], plan: Plan) -> tuple[_Piece, _Piece]:
    """Regressions of the outcome in the arms asked for, compiled once for both."""
    asked = [arm for arm, wanted in enumerate((plan.control, plan.treated)) if wanted]
    pieces = [_blank(rows, sets), _blank(rows, sets)]
    if asked:
        weights = jnp.stack([w * (rows.treated == arm) for arm in asked])
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *(families[arm] for arm in asked))
        found = lax.map(lambda one: _outcome(rows, sets, one[0], one[1], plan), (weights, stacked))
        for place, arm in enumerate(asked):
            pieces[arm] = _Piece(*(part[place] for part in found))
    return pieces[0], pieces[1]


def _outcome(rows: Rows, sets: Sets, w: Array, family: Family, plan: Plan) -> _Piece:
    """Regression of the outcome in one arm; w is zero outside the arm."""
    family = _of_folds(family, sets)
    filled = jnp.all(family.basis.gram[: sets.outer.shape[0], 0] > 0)
    status = jnp.where(filled, Status.ok, Status.empty_arm)
    if not plan.logistic_outcome:
        return _piece(predicted(rows, family.coefficients), family.choice, family.penalty, status)
    fit = logistic_family(rows, sets, w, rows.y, family, plan, inner=False)
    status = jnp.where((status == Status.ok) & ~fit.converged, Status.not_converged, status)
    return _piece(jax.nn.sigmoid(predicted(rows, fit.coefficients)), fit.choice, fit.penalty, status)


def _of_folds(family: Family, sets: Sets) -> Family:
    """The family without a training set of all rows, which stands between the outer sets and the pairs."""
    k, n_outer = sets.outer.shape[0], family.choice.shape[0]
    basis, cross = (
        jax.tree.map(lambda a: jnp.concatenate([a[:k], a[n_outer:]]), part) for part in (family.basis, family.cross)
    )
    return Family(basis, cross, family.coefficients[:k], family.choice[:k], family.penalty[:k])


def _propensity(rows: Rows, sets: Sets, w: Array, family: Family, plan: Plan) -> _Piece:
    """P(treated | v); ``sets.outer`` ends with a training set of all rows where the plan asks for it."""
    k = sets.pair_of.shape[0]
    sums, totals = family.cross[:k, 0], family.basis.gram[:k, 0]
    varies = jnp.all((sums > 0) & (sums < totals))
    status = jnp.where(varies, Status.ok, Status.no_treatment_variation)
    if plan.linear_treatment:
        piece = _piece(predicted(rows, family.coefficients), family.choice[:k], family.penalty[:k], status)
        return piece._replace(whole=rows.v @ family.coefficients[k]) if plan.in_sample else piece
    fit = logistic_family(rows, sets, w, rows.treated, family, plan, inner=True)
    status = jnp.where((status == Status.ok) & ~fit.converged, Status.not_converged, status)
    logit = predicted(rows, fit.coefficients)
    piece = _piece(jax.nn.sigmoid(logit), fit.choice[:k], fit.penalty[:k], status, fit.inner)
    if plan.in_sample:
        piece = piece._replace(whole=jax.nn.sigmoid(rows.v @ fit.coefficients[k]))
    if not plan.platt:
        return piece
    line = platt(fit.inner, rows, w, tile_share(sets.outer[:k], rows))
    values = jax.nn.sigmoid(line[rows.fold, 0] + line[rows.fold, 1] * logit)
    return piece._replace(values=values, calibration=line)
