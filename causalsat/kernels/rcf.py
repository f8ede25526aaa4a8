"""Random convolutional features: the row-streamed sweep over an image.

Notation of Rolf et al. (2021), "A generalizable and accessible approach to machine learning with global satellite
imagery": for filter k, ``c_k`` is the valid cross-correlation of the image with the filter at stride 1 (the kernel is
not flipped), ``phi_k+ = mean relu(c_k - b)`` and ``phi_k- = mean relu(-c_k - b)`` over the positions.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

TILE = 8
"""Images swept together. Part of the numerics: changing it changes the last bits of features."""


@partial(jax.jit, static_argnames=("patch",))
def rcf_features(images: Array, mask: Array, filters: Array, bias: Array, *, patch: int) -> Array:
    """Mean rectified filter responses of each image over its fully valid positions.

    Images go in tiles of ``TILE``, and one output row of a tile is unrolled at a time, so the workspace is
    ``TILE * W' * (P*P*C + K)`` numbers whatever the height of the image and the size of the batch. Row sums are in the
    images' dtype and are added with Kahan's compensation.

    Parameters
    ----------
    images : (N, n, n, C) float32
        Normalised pixels; the values at invalid pixels are ignored.
    mask : (N, n, n) bool
        True where a pixel is valid.
    filters : (K, P*P*C) float32
        Filters with their entries ordered row, column, band.
    bias : () float32
        The threshold ``b``.
    patch : int
        P, the side of a filter in pixels.

    Returns
    -------
    (N, 2K) float32
        All ``phi+``, then all ``phi-``; NaN for an image without a fully valid P x P window.
    """
    n_images = images.shape[0]
    n_tiles = -(-n_images // TILE)
    # Repeats of the first image: a product's last bits depend on its shape, so every tile has the same one.
    which = jnp.where(jnp.arange(n_tiles * TILE) < n_images, jnp.arange(n_tiles * TILE), 0)

    def tile(rows: Array) -> Array:
        return _sweep(images[rows], mask[rows], filters, bias, patch)

    return lax.map(tile, which.reshape(n_tiles, TILE)).reshape(n_tiles * TILE, -1)[:n_images]


def _sweep(images: Array, mask: Array, filters: Array, bias: Array, patch: int) -> Array:
    n_images, height, width, bands = images.shape
    n_filters = filters.shape[0]
    out_height, out_width = height - patch + 1, width - patch + 1
    # Columns before rows: the P x C numbers under one window then lie side by side in memory.
    pixels = jnp.where(mask[..., None], images, jnp.zeros((), images.dtype)).transpose(0, 2, 1, 3)
    weights = filters.reshape(n_filters, patch, patch, bands).transpose(2, 1, 3, 0).reshape(-1, n_filters)
    valid = window_valid(mask, patch=patch)

    def add_row(carry: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], None]:
        strip = lax.dynamic_slice_in_dim(pixels, row, patch, axis=2).reshape(n_images, width, patch * bands)
        windows = jnp.concatenate([strip[:, j : j + out_width] for j in range(patch)], axis=2)
        response = windows.reshape(n_images * out_width, -1) @ weights
        response = response.reshape(n_images, out_width, n_filters)
        used = lax.dynamic_slice_in_dim(valid, row, 1, axis=1)[:, 0, :, None]
        plus = jnp.sum(jnp.where(used, jax.nn.relu(response - bias), 0), axis=1, dtype=images.dtype)
        minus = jnp.sum(jnp.where(used, jax.nn.relu(-response - bias), 0), axis=1, dtype=images.dtype)
        return _kahan(carry, jnp.concatenate([plus, minus], axis=1)), None

    zero = jnp.zeros((n_images, 2 * n_filters), images.dtype)
    (total, _), _ = lax.scan(add_row, (zero, zero), jnp.arange(out_height, dtype=jnp.int32))
    count = jnp.sum(valid, axis=(1, 2), dtype=jnp.int32).astype(images.dtype)[:, None]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan).astype(images.dtype)


@partial(jax.jit, static_argnames=("patch",))
def window_valid(mask: Array, *, patch: int) -> Array:
    """Where the whole P x P window is valid: (N, n, n) bool to (N, n - P + 1, n - P + 1) bool."""
    height, width = mask.shape[1:]
    out_height, out_width = height - patch + 1, width - patch + 1
    rows = mask[:, :out_height]
    for i in range(1, patch):
        rows = rows & mask[:, i : i + out_height]
    whole = rows[:, :, :out_width]
    for j in range(1, patch):
        whole = whole & rows[:, :, j : j + out_width]
    return whole


def _kahan(carry: tuple[Array, Array], value: Array) -> tuple[Array, Array]:
    total, lost = carry
    corrected = value - lost
    new = total + corrected
    return new, (new - total) - corrected
