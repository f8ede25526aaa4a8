"""RCF filters from the data: patches, their whitening, the filters."""

import numpy as np

from causalsat.errors import DataError, NumericalError
from causalsat.raster.encoders.protocol import FitSample
from causalsat.raster.normalise import keyed_generator

_FLAT = 1e-8


def draw_patches(sample: FitSample, *, patch: int, n_patches: int, seed: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Fully valid patches, shared evenly between the chips of the sample; positions keyed by (seed, id).

    Returns
    -------
    patches : (n_patches, P*P*C) float64
        Entries ordered row, column, band; chips in the order of the sample.
    ids : tuple of str
        The chips that had a fully valid window.
    """
    positions = {i: _valid_corners(mask, patch) for i, mask in enumerate(sample.mask)}
    usable = [i for i, corners in positions.items() if len(corners)]
    if not usable:
        raise DataError(
            f"RCF found no fully valid {patch} x {patch} patch among the {len(sample.ids)} chips of its fit sample."
        )
    share, rest = divmod(n_patches, len(usable))
    quota = {i: share + (rank < rest) for rank, i in enumerate(usable)}
    drawn = []
    for i, (name, pixels, _) in enumerate(sample):
        if quota.get(i, 0):
            corners = positions[i]
            generator = keyed_generator(seed, "patches", name)
            chosen = generator.choice(len(corners), quota[i], replace=quota[i] > len(corners))
            windows = np.lib.stride_tricks.sliding_window_view(pixels, (patch, patch), axis=(0, 1))
            rows, columns = corners[chosen].T
            drawn.append(windows[rows, columns].transpose(0, 2, 3, 1).reshape(quota[i], -1).astype(np.float64))
    return np.concatenate(drawn), tuple(sample.ids[i] for i in usable)


def standardise(patches: np.ndarray) -> np.ndarray:
    """Each patch less its own mean over pixels and bands, over its L2 norm (a norm below 1e-8 counts as 1)."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(norms < _FLAT, 1.0, norms))


def zca(patches: np.ndarray, eps: float) -> np.ndarray:
    """``Z = V (E + eps)^(-1/2) V'`` with ``S = X'X / N = V E V'``; columns are not centred again."""
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    return np.asarray((vectors / np.sqrt(np.maximum(values, 0.0) + eps)) @ vectors.T)


def whitened_filters(patches: np.ndarray, *, n_filters: int, eps: float, seed: int) -> np.ndarray:
    """``F = X Z Z'``: K rows drawn without replacement, (K, P*P*C) float32.

    Z stands twice: once for the filters and once, folded in, for the images. It uses every patch, not only the K kept.
    """
    if len(patches) < n_filters:
        raise DataError(f"RCF needs at least {n_filters} patches for {n_filters} filters and has {len(patches)}.")
    standard = standardise(patches)
    if not standard.any():
        raise NumericalError("RCF cannot build filters: every patch of the fit sample is constant.")
    kept = keyed_generator(seed, "filters").choice(len(standard), n_filters, replace=False)
    whiten = zca(standard, eps)
    return np.asarray(standard[kept] @ whiten @ whiten.T, np.float32)


def gaussian_filters(*, n_filters: int, patch: int, n_bands: int, seed: int) -> np.ndarray:
    """Independent standard normal entries, (K, P*P*C) float32; no pixel is looked at."""
    shape = (n_filters, patch * patch * n_bands)
    return keyed_generator(seed, "gaussian").standard_normal(shape).astype(np.float32)


def _valid_corners(mask: np.ndarray, patch: int) -> np.ndarray:
    if min(mask.shape) < patch:
        return np.zeros((0, 2), dtype=np.int64)
    whole = np.lib.stride_tricks.sliding_window_view(mask, (patch, patch)).all(axis=(2, 3))
    return np.argwhere(whole)
