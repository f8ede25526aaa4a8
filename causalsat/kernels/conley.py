"""Spatial sums over all pairs of points nearer than a cutoff, tile by tile.

Notation: x_i unit vectors of places, s_i scores, c_ij = |x_i - x_j| the chord, d_ij = 2 R asin(c_ij / 2) the great
circle distance, h the cutoff. The sum is M(h) = sum_ij K(d_ij / h) s_i s_j' (Conley 1999, equation 3.8).
"""

from functools import partial
from math import factorial

import jax
import jax.numpy as jnp
from jax import Array, lax

from causalsat.kernels.sphere import CHORD_ROUNDING, EARTH_RADIUS_KM

# Below this half chord the Taylor series of asin is exact to rounding; above it asin itself is called.
SERIES_HALF_CHORD = 0.15
_ASIN = tuple(factorial(2 * j) / (4**j * factorial(j) ** 2 * (2 * j + 1)) for j in range(8))


@partial(jax.jit, static_argnames=("kernel", "lanes", "series"))
def tile_pair_sums(
    points: Array,
    scores: Array,
    sizes: Array,
    left: Array,
    right: Array,
    times: Array,
    first: Array,
    steps: Array,
    cutoffs: Array,
    chords: Array,
    *,
    kernel: str,
    lanes: int,
    series: bool,
) -> tuple[Array, Array]:
    """Weighted sums of score products over the listed pairs of tiles, for every cutoff in one walk.

    ``lanes`` pairs of tiles are handled at a time, so the workspace is ``lanes * 128 * 128`` numbers whatever n is.

    Parameters
    ----------
    points : (t, 128, 3) float64
        Unit vectors; the padding of the last tile repeats a point.
    scores : (t, 128, k) float64
        Scores, zero in the padding.
    sizes : (t, 128) float64
        Rows at each point, zero in the padding.
    left, right : (p,) int32
        Tile pairs, each unordered pair once.
    times : (p,) float64
        How often a pair counts: 1 for a tile with itself, 2 for two tiles, 0 for padding.
    first : (p,) int32
        First cutoff that reaches the tile pair, ascending over the list: shorter ones are not evaluated.
    steps : () int32
        Number of groups of ``lanes`` pairs to walk (a traced bound: the padding of the list costs nothing).
    cutoffs, chords : (m,) float64
        Cutoffs in kilometres, ascending, and their chords 2 sin(h / 2R).
    kernel : str
        "bartlett", "uniform", "epanechnikov" or "askey".
    series : bool
        All chords are short enough for the series of asin.

    Returns
    -------
    (m, k, k) and (m,) float64
        The sums, not yet symmetric (add the transpose and halve), and the number of ordered pairs of rows within
        each cutoff, a row with itself included.
    """
    n_cutoffs, k = cutoffs.shape[0], scores.shape[2]

    def add(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a = lax.dynamic_slice_in_dim(left, i * lanes, lanes)
        b = lax.dynamic_slice_in_dim(right, i * lanes, lanes)
        often = lax.dynamic_slice_in_dim(times, i * lanes, lanes)
        squared = _squared_chords(points[a], points[b])
        length = _distance(squared, series) if kernel in ("bartlett", "epanechnikov") else jnp.sqrt(squared)

        def one(j: Array, inner: tuple[Array, Array]) -> tuple[Array, Array]:
            limit = chords[j] + CHORD_ROUNDING
            inside = squared <= limit * limit
            scale = chords[j] if kernel == "askey" else cutoffs[j]
            weight = jnp.where(inside, _weight(length / scale, kernel), 0.0)
            smooth = jnp.einsum("lij,ljk->lik", weight, scores[b])
            part = jnp.einsum("lik,lim->lkm", scores[a], smooth)
            near = jnp.einsum("li,lij,lj->l", sizes[a], inside.astype(sizes.dtype), sizes[b])
            meat, pairs = inner
            meat = meat.at[j].add(jnp.sum(part * often[:, None, None], axis=0))
            return meat, pairs.at[j].add(jnp.sum(near * often))

        return lax.fori_loop(first[i * lanes], n_cutoffs, one, carry)

    zero = (jnp.zeros((n_cutoffs, k, k), scores.dtype), jnp.zeros((n_cutoffs,), scores.dtype))
    return lax.fori_loop(0, steps, add, zero)


def _squared_chords(a: Array, b: Array) -> Array:
    """Squared chords from differences: 2 - 2 a.b would lose half the digits of near pairs."""
    total = jnp.zeros((a.shape[0], a.shape[1], b.shape[1]), a.dtype)
    for axis in range(3):
        gap = a[:, :, None, axis] - b[:, None, :, axis]
        total = total + gap * gap
    return total


def _weight(ratio: Array, kernel: str) -> Array:
    if kernel == "uniform":
        return jnp.ones_like(ratio)
    if kernel == "bartlett":
        return jnp.maximum(1.0 - ratio, 0.0)
    if kernel == "epanechnikov":
        return jnp.maximum(1.0 - ratio * ratio, 0.0)
    return jnp.maximum(1.0 - ratio, 0.0) ** 2


def _distance(squared: Array, series: bool) -> Array:
    """Great-circle distance in kilometres from squared chords: 2 R asin(c / 2)."""
    half = 0.5 * jnp.sqrt(squared)
    if not series:
        return 2.0 * EARTH_RADIUS_KM * jnp.arcsin(jnp.minimum(half, 1.0))
    square = 0.25 * squared
    value = jnp.full_like(square, _ASIN[-1])
    for coefficient in _ASIN[-2::-1]:
        value = value * square + coefficient
    return 2.0 * EARTH_RADIUS_KM * half * value
