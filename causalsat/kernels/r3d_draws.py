"""Many tiles of multiplier draws in one call: the tile stays the unit that fixes the bits, the call saves dispatch."""

import functools

import jax
import jax.numpy as jnp

from causalsat.kernels.replicates import blocked_product
from causalsat.kernels.weights import TILE, Sampler, uniform, weight_tile

BUNDLE = 10 * TILE

Array = jax.Array


@functools.partial(jax.jit, static_argnames=("sampler",))
def score_bundle(seed: Array, first: Array, real: Array, scores: Array, *, sampler: Sampler) -> Array:
    """(BUNDLE, K) sums of multipliers times scores (u, K) for the replicates first, first + 1, ...; ``real`` (u,)."""
    starts = first + jnp.arange(0, BUNDLE, TILE, dtype=jnp.uint32)
    tiles = jax.lax.map(lambda start: blocked_product(weight_tile(sampler, seed, start, (real,)), scores), starts)
    return tiles.reshape(BUNDLE, scores.shape[1])


@jax.jit
def uniform_bundle(seed: Array, first: Array) -> Array:
    """(BUNDLE,) uniforms in (0, 1), one per replicate."""
    numbers = first + jnp.arange(BUNDLE, dtype=jnp.uint32)
    return jax.vmap(lambda number: uniform(jax.random.fold_in(seed, number), 1)[0])(numbers) + 2.0**-54
