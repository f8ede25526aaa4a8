"""The paper's propensity: one filter, pooled over the image, batch norm, a sigmoid, learnt by cross-entropy.

Every repeat of the experiment is a filter of its own over the same images, so that all repeats learn at once; each has
its own treatment and its own starting filter. Two ways to pool the response to a filter over an image:

- ``"max"``: its largest value. The derivative comes from one patch per image, so the patch is cut out and the
  convolution itself is never differentiated.
- ``"energy"``: its mean square, a quadratic form in the filter: images enter through the second moments of their
  patches.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from causalsat.simulate.image_confounder import CROP

DECAY = (0.9, 0.999)
TINY = 1e-7
CHUNK = 50


class Filter(NamedTuple):
    """A filter (r, k, k), slope (r,) and intercept (r,) of the logit, one per repeat."""

    kernel: jax.Array
    slope: jax.Array
    intercept: jax.Array


def window(chips: np.ndarray, width: int) -> np.ndarray:
    """The part of the chips (n, h, w) that the cropped "same" response of a filter of that width sees."""
    first, last = CROP + width // 2 - (width - 1), width // 2 - CROP
    return np.asarray(chips, dtype=np.float32)[:, first : chips.shape[1] + last, first : chips.shape[2] + last]


def second_moments(images: np.ndarray, width: int) -> np.ndarray:
    """Mean outer product (n, k k, k k) of the k x k patches of each image."""
    views = np.lib.stride_tricks.sliding_window_view(images, (width, width), axis=(1, 2))
    found = np.empty((len(images), width**2, width**2), dtype=np.float32)
    for i, view in enumerate(views):
        patches = view.reshape(-1, width**2).astype(np.float64)
        found[i] = patches.T @ patches / len(patches)
    return found


def pooled_max(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Largest response (n, r) of each filter in each image."""
    width = kernel.shape[1]
    fixed = jax.lax.stop_gradient(kernel)
    response = jax.lax.conv_general_dilated(images[:, None], fixed[:, None], (1, 1), "VALID")
    best = jnp.argmax(response.reshape(*response.shape[:2], -1), axis=2)
    cut = partial(jax.lax.dynamic_slice, slice_sizes=(width, width))
    at = (best // response.shape[3], best % response.shape[3])
    patches = jax.vmap(lambda image, r, c: jax.vmap(lambda i, j: cut(image, (i, j)))(r, c))(images, *at)
    return jnp.einsum("nrij,rij->nr", patches, kernel)


def pooled_energy(moments: jax.Array, kernel: jax.Array) -> jax.Array:
    """Mean square response (n, r) of each filter in each image."""
    flat = kernel.reshape(kernel.shape[0], -1)
    return jnp.einsum("rp,npq,rq->nr", flat, moments, flat)


POOLS = {"max": pooled_max, "energy": pooled_energy}


def loss(parameters: Filter, inputs: jax.Array, treated: jax.Array, pool: str) -> jax.Array:
    """Cross-entropy with batch norm over the images given, summed over repeats, which do not share parameters."""
    value = POOLS[pool](inputs, parameters.kernel)
    spread = jnp.sqrt(value.var(axis=0) + TINY**2)
    z = (value - value.mean(axis=0)[None, :]) / spread[None, :]
    eta = parameters.slope[None, :] * z + parameters.intercept[None, :]
    return (jnp.logaddexp(0.0, eta) - treated * eta).mean(axis=0).sum()


def nadam(gradient: jax.Array, first: jax.Array, second: jax.Array, step: jax.Array) -> tuple[jax.Array, ...]:
    """Direction and moments of Nadam (Dozat 2016)."""
    b1, b2 = DECAY
    first = b1 * first + (1.0 - b1) * gradient
    second = b2 * second + (1.0 - b2) * gradient**2
    ahead = b1 * first / (1.0 - b1 ** (step + 1.0)) + (1.0 - b1) * gradient / (1.0 - b1**step)
    return ahead / (jnp.sqrt(second / (1.0 - b2**step)) + TINY), first, second


def clipped(gradient: Filter, bound: float) -> Filter:
    """The gradient of each repeat, scaled to at most ``bound`` in norm."""
    norm = jnp.sqrt((gradient.kernel**2).sum(axis=(1, 2)) + gradient.slope**2 + gradient.intercept**2)
    scale = jnp.minimum(1.0, bound / jnp.maximum(norm, TINY))
    return Filter(gradient.kernel * scale[:, None, None], gradient.slope * scale, gradient.intercept * scale)


@partial(jax.jit, static_argnames=("bound", "rate", "pool"))
def one_step(
    state: tuple[Filter, Filter, Filter],
    inputs: jax.Array,
    treated: jax.Array,
    step: jax.Array,
    bound: float,
    rate: float,
    pool: str,
) -> tuple[Filter, Filter, Filter]:
    """One Nadam step of every repeat on one batch: parameters and both moments."""
    parameters, first, second = state
    gradient = clipped(jax.grad(loss)(parameters, inputs, treated, pool), bound)
    moved = [nadam(g, a, b, step) for g, a, b in zip(gradient, first, second, strict=True)]
    new = Filter(*(p - rate * m[0] for p, m in zip(parameters, moved, strict=True)))
    return new, Filter(*(m[1] for m in moved)), Filter(*(m[2] for m in moved))


def learn(
    chips: np.ndarray, treated: np.ndarray, width: int, *, pool: str, steps: int, batch: int, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """In-sample propensities (n, r) and standardised responses (n, r) of the learnt filters.

    Parameters
    ----------
    chips, treated : np.ndarray
        Images (n, h, w) and treatments (n, r), one column per repeat.
    width : int
        Width k of the filter.
    pool : str
        "max" or "energy".
    steps, batch : int
        Steps, and images per step.
    **options
        ``rate`` of Nadam, ``bound`` on the norm of the gradient, ``seed`` of the starts and batches.
    """
    rng = np.random.default_rng([options["seed"], width])
    n, repeats = treated.shape
    kernel = jnp.asarray(rng.standard_normal((repeats, width, width)) / width, jnp.float32)
    start = Filter(kernel, jnp.ones(repeats, jnp.float32), jnp.zeros(repeats, jnp.float32))
    empty = Filter(*(jnp.zeros_like(p) for p in start))
    state = (start, empty, empty)
    seen = window(chips, width)
    inputs = jnp.asarray(seen if pool == "max" else second_moments(seen, width))
    w = jnp.asarray(treated, jnp.float32)
    for step in range(1, steps + 1):
        rows = jnp.asarray(rng.choice(n, batch, replace=False))
        state = one_step(state, inputs[rows], w[rows], jnp.float32(step), options["bound"], options["rate"], pool)
    parts = [POOLS[pool](inputs[i : i + CHUNK], state[0].kernel) for i in range(0, n, CHUNK)]
    value = np.concatenate(parts).astype(np.float64)
    z = (value - value.mean(axis=0)) / value.std(axis=0)
    eta = np.asarray(state[0].slope, np.float64) * z + np.asarray(state[0].intercept, np.float64)
    return 1.0 / (1.0 + np.exp(-eta)), z
