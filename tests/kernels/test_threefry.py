"""The words written out round by round are those of the published generator, and of JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from causalsat.inference.resampling import counter_based
from causalsat.kernels.threefry import long_words, words
from causalsat.kernels.weights import uniform


def test_known_answer():
    """Printed with the Random123 library (Salmon et al. 2011) for key and counter zero."""
    key = jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl="threefry2x32")
    assert [int(word[0]) for word in words(key, 1)] == [0x6B200159, 0x99BA4EFE]


@pytest.mark.parametrize("n", [1, 2, 1023, 70_000])
@pytest.mark.parametrize("seed", [0, 12345, 2**40])
def test_words_are_those_of_the_library(n, seed):
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 7)
    with counter_based():
        np.testing.assert_array_equal(long_words(key, n), jax.random.bits(key, (n,), jnp.uint64))


def test_uniforms_lie_on_their_grid():
    u = np.asarray(uniform(jax.random.key(1, impl="threefry2x32"), 10_000))
    assert u.min() >= 0.0 and u.max() < 1.0
    np.testing.assert_array_equal(u * 2.0**53, np.floor(u * 2.0**53))
