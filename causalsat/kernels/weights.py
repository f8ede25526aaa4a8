"""Resampling weights of one replicate as pure functions of a key: W[b, u] for the resampling units u.

Every sampler has the signature ``sampler(key, replicate, arrays) -> (u,)`` and is used through :func:`weight_tile`,
whose tile of 50 replicates is part of the definition of the draws: the last bits of a matrix product depend on its
shape, so every request computes whole tiles. Only counter-based threefry keys keep the words independent of shapes.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from causalsat.kernels.threefry import long_words

TILE = 50
ENUMERATE_BELOW = 12
_HEADROOM = 8.0  # standard deviations; beyond them the law is wrong with probability below 1e-15 per replicate
_CACHED = 2**15  # units whose temporaries of one replicate stay in a core's cache while those of 50 do not
_THRESHOLDS = 13  # Poisson(1) exceeds 12 with probability 6e-11, below the resolution of a 32-bit word

Array = jax.Array
Sampler = Callable[[Array, Array, Any], Array]


def uniform(key: Array, n: int) -> Array:
    """(n,) float64 uniforms on a grid of 2^-53 in [0, 1)."""
    return (long_words(key, n) >> jnp.uint64(11)).astype(jnp.float64) * 2.0**-53


def multinomial(key: Array, replicate: Array, arrays: tuple[Array, Array, Array]) -> Array:
    """Multinomial counts within strata: slot i draws one unit of its own stratum.

    ``arrays``: first unit of the slot's stratum (u,), units in that stratum (u,), 1 for real and 0 for padded slots.
    """
    start, size, real = arrays
    drawn = start + jnp.floor(uniform(key, start.shape[0]) * size)
    counts = jnp.zeros(start.shape[0], jnp.int32).at[drawn.astype(jnp.int32)].add(real.astype(jnp.int32))
    return counts.astype(jnp.float64)


def multinomial_many(key: Array, replicate: Array, arrays: tuple[Array, Array]) -> Array:
    """Multinomial counts of many units without strata: n = sum(real) draws over n units, one uniform word per unit.

    Counts of independent Poisson(rate) variables given their total are multinomial, and adding uniform draws keeps
    them so. The rate lies 8 standard deviations below one, and the missing draws (about 8 sqrt(n)) are added. A count
    above 255 has probability below 1e-500; bytes keep the tile small.
    """
    return _completed(key, _poisson_counts(key, arrays), arrays)


def _poisson_counts(key: Array, arrays: tuple[Array, Array]) -> Array:
    """(u,) uint8 counts with the rate below one: how many of the law's cumulated probabilities a word reaches."""
    real, n = arrays
    rate = 1.0 - _HEADROOM / jnp.sqrt(n)
    steps = jnp.arange(_THRESHOLDS, dtype=jnp.float64)
    mass = jnp.exp(steps * jnp.log(rate) - rate - jax.scipy.special.gammaln(steps + 1.0))
    edges = jnp.minimum(jnp.round(jnp.cumsum(mass) * 2.0**32), 2.0**32 - 1.0).astype(jnp.uint32)
    pairs = long_words(jax.random.fold_in(key, 0), real.shape[0] // 2)
    words = jax.lax.bitcast_convert_type(pairs, jnp.uint32).reshape(real.shape[0])
    counts = jnp.zeros(real.shape, jnp.uint32)
    for j in range(_THRESHOLDS):
        counts = counts + (words >= edges[j]).astype(jnp.uint32)
    return counts.astype(jnp.uint8)


def _completed(key: Array, counts: Array, arrays: tuple[Array, Array]) -> Array:
    """(u,) uint8 counts with the missing draws added."""
    real, n = arrays
    counts = counts * real.astype(jnp.uint8)
    missing = n.astype(jnp.int32) - jnp.sum(counts, dtype=jnp.int32)
    most = math.ceil(2.0 * _HEADROOM * math.sqrt(real.shape[0]))
    drawn = jnp.floor(uniform(jax.random.fold_in(key, 1), most) * n).astype(jnp.int32)
    return counts.at[drawn].add((jnp.arange(most, dtype=jnp.int32) < missing).astype(jnp.uint8))


def bayes(key: Array, replicate: Array, arrays: tuple[Array, Array, Array]) -> Array:
    """Exp(1) weights with mean one within each stratum (Rubin 1981): a Dirichlet vector times the units.

    ``arrays``: stratum of each unit (u,) int, units per stratum (s,), 1 for real and 0 for padded units.
    """
    stratum, size, real = arrays
    weights = -jnp.log1p(-uniform(key, real.shape[0])) * real
    total = jax.ops.segment_sum(weights, stratum, num_segments=size.shape[0])
    return weights * (size / jnp.maximum(total, jnp.finfo(jnp.float64).tiny))[stratum]


def blocks(key: Array, replicate: Array, arrays: tuple[Array, Array]) -> Array:
    """Counts of square tiles whose grid has a fresh uniform origin; as many drawn as are not empty.

    ``arrays``: places in units of the tile's side (u, 2), none negative, padded by copies of the first place, and a
    1/0 mask (u,).
    """
    places, real = arrays
    u = places.shape[0]
    shifted = places + uniform(jax.random.fold_in(key, 0), 2)[None, :]
    cell = jnp.floor(shifted).astype(jnp.int64)
    code = cell[:, 0] * (jnp.max(cell[:, 1]) + 1) + cell[:, 1]
    order = jnp.argsort(code)
    ordered = code[order]
    fresh = jnp.concatenate([jnp.zeros(1, jnp.int32), (ordered[1:] != ordered[:-1]).astype(jnp.int32)])
    rank = jnp.zeros(u, jnp.int32).at[order].set(jnp.cumsum(fresh, dtype=jnp.int32))
    filled = jnp.max(rank) + 1
    drawn = jnp.floor(uniform(jax.random.fold_in(key, 1), u) * filled).astype(jnp.int32)
    counts = jnp.zeros(u, jnp.int32).at[drawn].add((jnp.arange(u, dtype=jnp.int32) < filled).astype(jnp.int32))
    return counts[rank].astype(jnp.float64) * real


def rademacher(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """Signs with equal probability."""
    return jnp.where(uniform(key, arrays[0].shape[0]) < 0.5, -1.0, 1.0) * arrays[0]


def enumerated(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """The replicate-th of the 2^u sign vectors: unit c has a minus sign where bit c of the replicate is set."""
    bit = (replicate.astype(jnp.uint32) >> jnp.arange(arrays[0].shape[0], dtype=jnp.uint32)) & jnp.uint32(1)
    return (1.0 - 2.0 * bit.astype(jnp.float64)) * arrays[0]


def mammen(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """Mammen's (1993) two points: mean 0, variance 1, third moment 1."""
    root = math.sqrt(5.0)
    low = uniform(key, arrays[0].shape[0]) < (root + 1.0) / (2.0 * root)
    return jnp.where(low, -(root - 1.0) / 2.0, (root + 1.0) / 2.0) * arrays[0]


def webb(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """Webb's (2023) six points +-sqrt(1.5), +-1, +-sqrt(0.5), each with probability 1/6."""
    points = jnp.array([-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5)], jnp.float64)
    return points[jnp.floor(uniform(key, arrays[0].shape[0]) * 6.0).astype(jnp.int32)] * arrays[0]


def normal(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """Standard normal multipliers."""
    return jax.random.normal(key, arrays[0].shape, jnp.float64) * arrays[0]


def exponential(key: Array, replicate: Array, arrays: tuple[Array]) -> Array:
    """Exp(1) - 1."""
    return (-jnp.log1p(-uniform(key, arrays[0].shape[0])) - 1.0) * arrays[0]


def dependent(key: Array, replicate: Array, arrays: tuple[Array, Array, Array, Array]) -> Array:
    """N(0, K) multipliers over places, independent across periods (Shao 2010): Cholesky factor times noise.

    ``arrays``: factor (m, m), place and period of each unit (u,) int, and an array whose length is the periods.
    """
    factor, place, period, periods = arrays
    noise = jax.random.normal(key, (periods.shape[0], factor.shape[0]), jnp.float64)
    return (noise @ factor.T)[period, place]


def dependent_grid(key: Array, replicate: Array, arrays: tuple[Array, Array, Array, Array, Array]) -> Array:
    """The same from white noise on a grid: each place sums its nodes (m, q) with loadings of unit length."""
    node, loading, place, period, sizes = arrays
    noise = jax.random.normal(key, sizes.shape, jnp.float64)
    field = jax.lax.map(lambda z: jnp.sum(z[node] * loading, axis=1), noise)
    return field[period, place]


@jax.jit
def askey(places: Array, cutoff_km: Array) -> Array:
    """Kernel matrix (1 - c/c_h)^2 on chords c of unit vectors (m, 3): positive definite in three dimensions."""
    limit = 2.0 * jnp.sin(cutoff_km / (2.0 * 6371.01))

    def row(point: Array) -> Array:
        chord = jnp.sqrt(jnp.sum((places - point[None, :]) ** 2, axis=1))
        return jnp.maximum(1.0 - chord / limit, 0.0) ** 2

    return jax.lax.map(row, places)


def weight_tile(sampler: Sampler, seed: Array, first: Array, arrays: Any) -> Array:
    """(50, u) weights of the replicates first..first+49; ``seed`` is the key of the whole run.

    Samplers with large temporaries run one replicate after the other, the others side by side; the words are equal.
    """
    numbers = first + jnp.arange(TILE, dtype=jnp.uint32)

    def one(number: Array) -> Array:
        return sampler(jax.random.fold_in(seed, number), number, arrays)

    if sampler is multinomial_many:
        return _multinomial_tile(seed, numbers, arrays)
    if sampler in (blocks, dependent_grid):
        return jax.lax.map(one, numbers)
    return jax.vmap(one)(numbers)


def _multinomial_tile(seed: Array, numbers: Array, arrays: tuple[Array, Array]) -> Array:
    """(50, u) uint8. Two loops, because in one the compiler draws the words a second time for their sum."""
    keys = jax.vmap(lambda number: jax.random.fold_in(seed, number))(numbers)
    # A replicate of many units at a time keeps its temporaries in cache; side by side they would stream from memory.
    each = jax.lax.map if arrays[0].shape[0] > _CACHED else _side_by_side
    counts = each(lambda key: _poisson_counts(key, arrays), keys)
    return jax.lax.map(lambda pair: _completed(pair[0], pair[1], arrays), (keys, counts))


def _side_by_side(call: Callable[[Array], Array], inputs: Array) -> Array:
    return jax.vmap(call)(inputs)
