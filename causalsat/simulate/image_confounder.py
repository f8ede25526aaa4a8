"""A confounder that is a pattern in the image (Jerzak, Johansson and Daoud 2023, arXiv 2301.12985)."""

from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, count, one_of

WIDTHS = (2, 4, 8, 16, 32)
POOLS = ("max", "energy")
LEVELS = ("image", "pixel")
CROP = 16
_BATCH = 32


def image_confounder(
    n_images: int = 500,
    size: int = 256,
    kernel_width: int = 8,
    seed: int = 0,
    *,
    pool: str = "max",
    level: str = "image",
    chips: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Images whose response to one filter moves both treatment and outcome; the effect is 1.

    The chips are a Gaussian field (white noise with spectrum amplitude 1/f, f in cycles per pixel, zero mean),
    standardised over the corpus, or the user's. U = pooled response to the filter (:func:`filter_response`),
    standardised over images; m = sigmoid(U + .1 xi), W ~ Bern(m), Y = U + W + .1 zeta, xi and zeta N(0, 1).
    The bias of the difference in means is mean(m U)/mean(m) - mean((1-m) U)/mean(1-m): .825 for a normal U, .75 to
    .83 on these fields because U is skewed to the right.

    Parameters
    ----------
    n_images, size : int
        Images, and pixels per side (at least 64).
    kernel_width : int
        Width k of the true filter: 2, 4, 8, 16 or 32.
    seed : int
        Seed of the generator.
    pool : str
        "max" over the cropped response, or its mean square "energy" (the plain mean of a zero-sum filter holds only
        border terms).
    level : str
        "image" pools the response; "pixel" takes it at the centre of the image, where the unit stands.
    chips : np.ndarray, optional
        (J, H, W) float corpus to use instead.

    Returns
    -------
    data : dict of str to np.ndarray
        Columns y, w (float64) and image (str).
    chips : np.ndarray
        (J, size, size) float32.
    truth : dict
        ate, u (J,), propensity (J,), bias of the difference in means, kernel (k, k).

    Raises
    ------
    OptionError
        An unknown width, pool or level, or images that are too small.
    DataError
        Chips that are not (J, H, W) or hold missing values.

    Examples
    --------
    >>> data, chips, truth = image_confounder(n_images=20, size=64)
    >>> chips.shape, truth["ate"]
    ((20, 64, 64), 1.0)
    """
    n_images, size = count("n_images", n_images, minimum=2), count("size", size, minimum=64)
    one_of("pool", pool, POOLS)
    one_of("level", level, LEVELS)
    rng = np.random.default_rng(count("seed", seed))
    corpus = gaussian_field(n_images, size, rng) if chips is None else _checked(chips)
    u = filter_response(corpus, kernel_width, pool=pool, level=level)
    j = u.size
    m = 1.0 / (1.0 + np.exp(-(u + 0.1 * rng.standard_normal(j))))
    w = (rng.random(j) < m).astype(np.float64)
    y = u + w + 0.1 * rng.standard_normal(j)
    truth = {
        "ate": 1.0,
        "u": u,
        "propensity": m,
        "bias": float((m * u).mean() / m.mean() - ((1.0 - m) * u).mean() / (1.0 - m).mean()),
        "kernel": anti_diagonal(kernel_width),
    }
    return {"y": y, "w": w, "image": np.array([f"img{i:05d}" for i in range(j)])}, corpus, truth


def anti_diagonal(width: int) -> np.ndarray:
    """(k, k) filter: ones on the anti-diagonal, minus its mean, of unit norm.

    Examples
    --------
    >>> anti_diagonal(2).tolist()
    [[-0.5, 0.5], [0.5, -0.5]]
    """
    if width not in WIDTHS:
        raise OptionError(f"kernel_width={width!r} is not known; allowed: {', '.join(map(str, WIDTHS))}.")
    kernel = np.fliplr(np.eye(width))
    kernel = kernel - kernel.mean()
    return np.asarray(kernel / np.linalg.norm(kernel))


def gaussian_field(n_images: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(n_images, size, size) float32 fields with spectrum amplitude 1/f, zero mean, unit variance over the corpus."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    amplitude = np.where(frequency > 0.0, 1.0 / np.where(frequency > 0.0, frequency, 1.0), 0.0).astype(np.float32)
    chips = np.empty((n_images, size, size), dtype=np.float32)
    for start in range(0, n_images, _BATCH):
        noise = rng.standard_normal((min(_BATCH, n_images - start), size, size), dtype=np.float32)
        chips[start : start + _BATCH] = np.fft.irfft2(np.fft.rfft2(noise) * amplitude[None, :, :], s=(size, size))
    return np.asarray(chips / np.float32(chips.std(dtype=np.float64)))


def filter_response(chips: np.ndarray, width: int, *, pool: str = "max", level: str = "image") -> np.ndarray:
    """(J,) float64 response of each image to the filter of :func:`anti_diagonal`, standardised over images.

    "Same" correlation (zero border), standardised over the corpus, 16 pixels cropped on every side, then the maximum
    or the mean square (``level="image"``), or the value at the centre (``level="pixel"``).
    """
    one_of("pool", pool, POOLS)
    one_of("level", level, LEVELS)
    kernel = anti_diagonal(width)
    first, second, pooled = 0.0, 0.0, []
    for start in range(0, len(chips), _BATCH):
        response = _same(np.asarray(chips[start : start + _BATCH], dtype=np.float64), kernel)
        first += response.sum()
        second += (response**2).sum()
        pooled.append(_pooled(response[:, CROP:-CROP, CROP:-CROP], pool, level))
    pixels = chips.shape[0] * chips.shape[1] * chips.shape[2]
    mean = first / pixels
    variance = second / pixels - mean**2
    values = np.concatenate(pooled)
    if level == "image" and pool == "energy":
        # Mean square of (r - mean) / sd from the raw moments of each image.
        u = (values[:, 1] - 2.0 * mean * values[:, 0] + mean**2) / variance
    else:
        u = (values[:, 0] - mean) / np.sqrt(variance)
    return np.asarray((u - u.mean()) / u.std())


def _pooled(inner: np.ndarray, pool: str, level: str) -> np.ndarray:
    if level == "pixel":
        return np.asarray(inner[:, inner.shape[1] // 2, inner.shape[2] // 2])[:, None]
    if pool == "max":
        return np.asarray(inner.max(axis=(1, 2)))[:, None]
    return np.column_stack([inner.mean(axis=(1, 2)), (inner**2).mean(axis=(1, 2))])


def _same(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlation with ``kernel`` on a zero border, of the images' own size."""
    height, width = images.shape[1:]
    k = kernel.shape[0]
    shape = (height + k - 1, width + k - 1)
    product = np.fft.rfft2(images, s=shape) * np.fft.rfft2(kernel[::-1, ::-1], s=shape)[None, :, :]
    full = np.fft.irfft2(product, s=shape)
    start = k // 2
    return np.asarray(full[:, start : start + height, start : start + width])


def _checked(chips: np.ndarray) -> np.ndarray:
    values = np.asarray(chips, dtype=np.float32)
    if values.ndim != 3 or min(values.shape[1:]) < 2 * CROP + 1 or values.shape[0] < 2:
        raise DataError(
            f"chips has shape {np.shape(chips)}; at least two one-band images (J, H, W) of more than {2 * CROP} pixels "
            "a side are needed."
        )
    missing = int((~np.isfinite(values)).any(axis=(1, 2)).sum())
    if missing:
        raise DataError(f"{missing} of {values.shape[0]} chips hold missing values; fill or drop them first.")
    return values
