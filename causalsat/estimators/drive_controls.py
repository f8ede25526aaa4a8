"""Images as controls of `drive`: outcome, treatments and instruments net of embeddings, out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, IdentificationError, OptionError
from causalsat.estimators.drive_columns import Controls, RawColumns
from causalsat.inference.absorb import absorb
from causalsat.inference.independent import net_of
from causalsat.study.fold_units import fold_units
from causalsat.study.folds import Folds, deal_folds, other_folds, training_sets
from causalsat.study.open import Study

N_PENALTIES = 33
MAX_COMPONENTS = 50
ROWS_PER_COMPONENT = 20
EXPLAINED = 0.95
FUNCTION_OF_IMAGE = 0.99


@dataclass(frozen=True, eq=False)
class ImageControls:
    """Columns net of images.

    Attributes
    ----------
    residuals : np.ndarray
        (n, k) float64 out-of-fold residuals, net of fixed effects or the constant; covariates are partialled out again
        by the caller.
    r2 : dict
        Column to the share of its variance, net of covariates, that the images predict out of fold; negative when they
        predict worse than nothing.
    fold : np.ndarray
        (n,) int64 folds of the first deal.
    method : str
        "ridge" or "pca".
    penalties : np.ndarray
        (folds, k) float64 ridge penalties on standardised features; empty for "pca".
    components : tuple of int
        Principal components of each fold; empty for "ridge".
    """

    residuals: np.ndarray
    r2: dict[str, float]
    fold: np.ndarray
    method: str
    penalties: np.ndarray
    components: tuple[int, ...]


def net_of_images(
    study: Study,
    raw: RawColumns,
    targets: np.ndarray,
    controls: Controls,
    *,
    method: str = "ridge",
    n_components: int | None = None,
    folds: Folds = Folds(5),
    seed: int = 0,
) -> ImageControls:
    r"""Residuals t - \hat t(C, E) with \hat t fitted on the other folds.

    Covariates C carry no penalty; the embedding E enters by ridge regression with a penalty per column from generalised
    cross-validation, or by principal components learnt on the training rows. Rows that share an image or a cluster
    stand in one fold. The moment E[(Z - Z_E)(y - y_E - (X - X_E) b)] is insensitive to first order to errors of the
    three predictions (Robinson 1988; Chernozhukov et al. 2018), so a bootstrap may hold them fixed. With fixed effects
    the images count within their levels, as everything else does.

    Parameters
    ----------
    study : Study
        Rows with images.
    raw : RawColumns
        The rows in use.
    targets : np.ndarray
        (n, 1 + p + q) float64 y, X, Z net of fixed effects or of the constant.
    controls : Controls
        Covariates net of the same.
    method : str
        "ridge" or "pca".
    n_components : int, optional
        For "pca"; None: as many as explain 95 % of the variance, at most 50 and n/20.
    folds : Folds
        Number of folds, buffer and repeats (predictions are averaged over repeats).
    seed : int
        Key of the deal.

    Returns
    -------
    ImageControls

    Raises
    ------
    IdentificationError
        Images predict an instrument (R^2 above 0.99).
    ImageSplitError
        Folds that split an image or a cluster.
    """
    matrix = _features(study, raw, controls)
    free = controls.net * np.sqrt(len(targets))
    predicted = np.zeros_like(targets)
    fits: list[_FoldFit] = []
    deals = _deals(study, raw, folds, seed)
    for fold, train in deals:
        for k, trained in enumerate(train):
            fit = _fold_fit(matrix, free, targets, raw.weights * trained, fold == k, method, n_components)
            predicted[fold == k] += fit.predicted / folds.repeats
            fits.append(fit)
    residuals = targets - predicted
    r2 = _shares(residuals, net_of(targets, controls.net, raw.weights), raw)
    _refuse_functions(r2, raw.instruments)
    return ImageControls(
        residuals=absorb(residuals, controls.effects, raw.weights),
        r2=r2,
        fold=deals[0][0],
        method=method,
        penalties=np.array([fit.penalties for fit in fits]) if method == "ridge" else np.empty((0, targets.shape[1])),
        components=tuple(fit.n_components for fit in fits) if method == "pca" else (),
    )


def _features(study: Study, raw: RawColumns, controls: Controls) -> np.ndarray:
    if study.embeddings is None or study.image is None:
        raise DataError("images as controls need embeddings=.")
    matrix = np.asarray(study.embeddings.matrix, dtype=np.float64)[study.image[raw.kept]]
    return absorb(matrix, controls.effects, raw.weights)


def _deals(study: Study, raw: RawColumns, folds: Folds, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds (n,) and training sets (K, n) of each repeat."""
    if folds.by is not None and "fold group" not in study.codes:
        raise OptionError(f"nuisance_folds=Folds(by={folds.by!r}): the column was not opened with the study.")
    units, labels = fold_units(study, folds=folds, seed=seed)
    lonlat = None if study.lonlat is None else study.lonlat[raw.kept]
    deals = []
    for repeat in range(folds.repeats):
        fold = deal_folds(units[raw.kept], n_folds=folds.n, seed=seed, repeat=repeat, unit_labels=labels)
        train = training_sets(fold, lonlat, folds.buffer_km)
        deals.append((fold, other_folds(fold) if train is None else train))
    return deals


@dataclass(frozen=True, eq=False)
class _FoldFit:
    predicted: np.ndarray
    penalties: np.ndarray
    n_components: int


def _fold_fit(
    matrix: np.ndarray,
    free: np.ndarray,
    targets: np.ndarray,
    w: np.ndarray,
    tested: np.ndarray,
    method: str,
    n_components: int | None,
) -> _FoldFit:
    """Fit on rows of positive weight, predict the tested rows."""
    from causalsat.kernels.precision import float64
    from causalsat.kernels.ridge_targets import ridge_targets

    trained = w > 0.0
    w = w / w[trained].mean()
    features = _standardized(matrix, w)
    if method == "pca":
        features = _components(features, w, n_components)
    elif features.shape[1] > int(trained.sum()):
        # Ridge coefficients lie in the span of the training rows, so a rotation into it loses nothing.
        rotation, _ = np.linalg.qr(features[trained].T)
        features = features @ rotation
    v = np.column_stack([np.ones(len(w)), free, features])
    with float64():
        coefficients, penalties = ridge_targets(
            v, targets, w, n_free=free.shape[1], n_penalties=N_PENALTIES if method == "ridge" else 0
        )
        found, chosen = np.asarray(coefficients), np.asarray(penalties)
    return _FoldFit(v[tested] @ found.T, chosen, features.shape[1])


def _standardized(matrix: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Features by training means and standard deviations; those that do not move in training are zero."""
    mean = w @ matrix / w.sum()
    centred = matrix - mean[None, :]
    deviation = np.sqrt(w @ np.square(centred) / w.sum())
    live = deviation > 1e-7 * np.abs(matrix).max(axis=0, initial=0.0)
    return np.asarray(centred * np.where(live, 1.0 / np.where(live, deviation, 1.0), 0.0)[None, :])


def _components(features: np.ndarray, w: np.ndarray, wanted: int | None) -> np.ndarray:
    """Scores on the leading principal components of the training rows, on unit scale."""
    trained = np.flatnonzero(w > 0.0)
    root = features[trained] * np.sqrt(w[trained])[:, None]
    _, sizes, loadings = np.linalg.svd(root, full_matrices=False)
    rank = int((sizes > 1e-10 * sizes[0]).sum())
    if wanted is not None and wanted > rank:
        raise OptionError(
            f"DriveOptions.n_components={wanted} asks for more components than the training rows have: {rank}."
        )
    if wanted is None:
        share = np.cumsum(np.square(sizes)) / np.square(sizes).sum()
        enough = int(np.searchsorted(share, EXPLAINED)) + 1
        wanted = max(1, min(enough, rank, MAX_COMPONENTS, len(w) // ROWS_PER_COMPONENT))
    scale = np.sqrt(w.sum()) / sizes[:wanted]
    return np.asarray(features @ (loadings[:wanted].T * scale[None, :]))


def _shares(residuals: np.ndarray, targets: np.ndarray, raw: RawColumns) -> dict[str, float]:
    """Share of each column's variance net of covariates that is predicted out of fold."""
    whole, left = raw.weights @ np.square(targets), raw.weights @ np.square(residuals)
    share = 1.0 - np.divide(left, whole, out=np.ones_like(left), where=whole > 0.0)
    return dict(zip(raw.names, share.tolist(), strict=True))


def _refuse_functions(r2: dict[str, float], instruments: Sequence[str]) -> None:
    for name in instruments:
        if r2[name] > FUNCTION_OF_IMAGE:
            raise IdentificationError(
                f"instrument {name!r} is a function of the image: embeddings predict {100 * r2[name]:.1f} % of it on "
                "images they were not fitted on, and nothing is left of it once images are controls. Drop "
                "embeddings=, or use an instrument from another source."
            )
