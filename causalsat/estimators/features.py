"""Features of the nuisance fits: missing values in the training part, and unsupervised components of embeddings."""

import numpy as np

from causalsat.errors import DataError, OptionError, count
from causalsat.estimators.nuisance_layout import Columns

MAX_COMPONENTS = 50


def training_columns(columns: Columns, w: np.ndarray) -> np.ndarray:
    """The design with missing entries at the training mean, centred and scaled by training means and deviations.

    Parameters
    ----------
    columns : Columns
    w : (n,)
        Row weights, zero outside the training part.

    Returns
    -------
    ndarray (n, q) float64
        Columns without variance in the training part are zero.
    """
    matrix = columns.matrix.copy()
    for column, indicator in columns.fills:
        missing = matrix[:, indicator - 1]
        observed = w * (1.0 - missing)
        total = observed.sum()
        fill = (observed @ matrix[:, column - 1]) / total if total > 0 else 0.0
        matrix[:, column - 1] += fill * missing
    total = w.sum()
    matrix -= (w @ matrix / total)[None, :]
    variance = w @ np.square(matrix) / total
    floor = 1e-13 * np.maximum(np.square(matrix).max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    live = variance > floor
    return matrix * np.where(live, 1.0 / np.sqrt(np.where(live, variance, 1.0)), 0.0)[None, :]


def compressed(matrix: np.ndarray, n_components: int, *, standardize: bool = True) -> np.ndarray:
    """Principal components of all distinct images, computed without outcome or treatment.

    Because neither Y nor D enters, the components may be computed once, on every image, before rows are split into
    folds. The sign of a component makes its largest loading positive.

    Parameters
    ----------
    matrix : ndarray (J, d)
        One row per image; rows with NaN (no usable image) stay NaN and take no part.
    n_components : int
        At most 50, d, and the number of usable images less one.
    standardize : bool
        Divide columns by their standard deviation (ddof 0) first; constant columns drop out.

    Returns
    -------
    ndarray (J, n_components) float64
        Scores, each with mean zero over the usable images.

    Raises
    ------
    OptionError
        When more components are asked for than there are.
    DataError
        When no image is usable.

    Examples
    --------
    >>> import numpy as np
    >>> scores = compressed(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), 1)
    >>> np.round(scores[:, 0], 3).tolist()
    [-1.732, 0.0, 1.732]
    """
    pixels = np.asarray(matrix, dtype=np.float64)
    usable = np.isfinite(pixels).all(axis=1)
    if not usable.any():
        raise DataError("embeddings hold no image with finite values, so there is nothing to compress.")
    limit = min(MAX_COMPONENTS, pixels.shape[1], max(int(usable.sum()) - 1, 1))
    wanted = count("compress", n_components, minimum=1)
    if wanted > limit:
        raise OptionError(
            f"compress={wanted} asks for more components than there are; allowed: at most {limit} "
            f"({int(usable.sum())} usable images, {pixels.shape[1]} columns, never above {MAX_COMPONENTS})."
        )
    centred = pixels[usable] - pixels[usable].mean(axis=0, keepdims=True)
    if standardize:
        deviation = centred.std(axis=0)
        live = deviation > 1e-7 * np.abs(pixels[usable]).max(axis=0, initial=0.0)
        centred = centred * np.where(live, 1.0 / np.where(live, deviation, 1.0), 0.0)[None, :]
    _, _, loadings = np.linalg.svd(centred, full_matrices=False)
    loadings = loadings[:wanted]
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=1)[:, None], axis=1)
    scores = np.full((pixels.shape[0], wanted), np.nan)
    scores[usable] = centred @ (loadings * np.where(largest < 0, -1.0, 1.0)).T
    return scores
