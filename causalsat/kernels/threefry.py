"""The threefry-2x32 block function written out round by round, so that the compiler fuses it with what reads its words.

The words are those of ``jax.random.bits`` with partitionable keys, whose rolled loop writes every round to memory.
"""

import jax
import jax.numpy as jnp

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_GROUPS = 5  # of four rounds, after each of which the key is added

Array = jax.Array


def words(key: Array, n: int) -> tuple[Array, Array]:
    """High and low uint32 words (n,) each of the counters 0..n-1, n < 2^32 (Salmon et al. 2011)."""
    data = jax.random.key_data(key)
    parts = (data[0], data[1], data[0] ^ data[1] ^ jnp.uint32(_PARITY))
    low = jnp.arange(n, dtype=jnp.uint32) + parts[1]
    high = jnp.broadcast_to(parts[0], low.shape)
    for group in range(_GROUPS):
        for turn in _ROTATIONS[group % 2]:
            high = high + low
            low = ((low << jnp.uint32(turn)) | (low >> jnp.uint32(32 - turn))) ^ high
        high = high + parts[(group + 1) % 3]
        low = low + parts[(group + 2) % 3] + jnp.uint32(group + 1)
    return high, low


def long_words(key: Array, n: int) -> Array:
    """(n,) uint64 words, high before low."""
    high, low = words(key, n)
    return (high.astype(jnp.uint64) << jnp.uint64(32)) | low.astype(jnp.uint64)
