"""Fold units: rows that must stand on one side of every cross-fitting split."""

from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError, ImageSplitError
from causalsat.study.blocks import block_cells
from causalsat.study.folds import Folds, check_user_folds
from causalsat.study.groups import by_first_row, connected
from causalsat.study.open import Study
from causalsat.study.overlap import identical_images, overlapping_footprints
from causalsat.study.row_names import row_names
from causalsat.study.sphere import great_circle_km, unit_vectors


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Pairs of images (m, 2), positions in ``study.embeddings``, that show the same ground."""

    identical: np.ndarray
    overlapping: np.ndarray


def image_pairs(study: Study) -> ImagePairs:
    """Identical chips and overlapping footprints among the images in use."""
    if study.embeddings is None:
        empty = np.empty((0, 2), np.int64)
        return ImagePairs(empty, empty)
    return ImagePairs(identical_images(study.embeddings), overlapping_footprints(study.embeddings))


def fold_units(study: Study, *, folds: Folds | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each row, never split by a fold.

    The unit is the first that exists: the column ``folds.by`` (role "fold group"), the cluster, the image, the place,
    the row. Units are then merged into connected components over shared image, shared cluster, identical chips and
    overlapping chip footprints. With ``folds.block_km`` spatial blocks take the place of the unit: rows that share an
    image, a cluster or identical chips go as one to the block of their centre, and chips that overlap across the border
    of two blocks must be kept apart by ``folds.buffer_km``.

    Parameters
    ----------
    study : Study
        The rows in use.
    folds : Folds, optional
        None: the merged units, without the conditions that only folds need.
    seed : int
        Key of the origin of the blocks.

    Returns
    -------
    units : ndarray (n,) int64
        Unit code of each row.
    labels : ndarray (g,) str
        Identity of each unit, the same whatever the order of the rows.

    Raises
    ------
    ImageSplitError
        ``folds.by`` has as many levels as folds and splits a unit, or overlapping chips stand in two blocks closer than
        the buffer.
    DataError
        A unit holds more than half of the rows; blocks without coordinates; fewer than two blocks per fold.
    """
    pairs = image_pairs(study)
    if folds is not None and folds.block_km is not None:
        return _blocks(study, pairs, folds, seed)
    base, names = _base(study, folds)
    bonds = [base, *_bonds(study, pairs)]
    hard = connected(len(base), *bonds)
    units = connected(len(base), hard, _row_pairs(study, pairs.overlapping))
    labels = _least_name(units, names[base])
    if folds is not None:
        _refuse_split(study, folds, pairs)
        _refuse_giant(units, hard, labels)
    return units, labels


def _base(study: Study, folds: Folds | None) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n,) of the finest unit and its names (g,)."""
    wanted = ("fold group",) if folds is not None and folds.by is not None else ()
    for role in (*wanted, "cluster", "embedding_key"):
        if role in study.codes:
            codes, names = study.codes[role], np.array([f"{role} {label}" for label in study.labels[role].tolist()])
            return (codes, names) if (codes >= 0).all() else _singletons(codes, names, row_names(study))
    rows = row_names(study)
    if study.image is not None:
        return study.image, _least_name(study.image, rows)
    if study.lonlat is not None:
        _, place = np.unique(study.lonlat, axis=0, return_inverse=True)
        return place, _least_name(place, rows)
    return np.arange(len(rows)), rows


def _singletons(codes: np.ndarray, names: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows without a label (-1) become units of their own."""
    bare = np.flatnonzero(codes < 0)
    filled = codes.copy()
    filled[bare] = len(names) + np.arange(len(bare))
    return filled, np.concatenate([names, rows[bare]])


def _bonds(study: Study, pairs: ImagePairs) -> list[np.ndarray]:
    bonds = [study.codes[role] for role in ("cluster", "embedding_key") if role in study.codes]
    if study.image is not None:
        bonds += [study.image, _row_pairs(study, pairs.identical)]
    return bonds


def _row_pairs(study: Study, pairs: np.ndarray) -> np.ndarray:
    """Pairs of images as pairs of rows, one row standing for each image."""
    if study.image is None or not len(pairs):
        return np.empty((0, 2), np.int64)
    return _first_rows(study.image)[pairs]


def _first_rows(codes: np.ndarray) -> np.ndarray:
    _, first = np.unique(codes, return_index=True)
    return first


def _least_name(units: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The alphabetically first of the names of each unit's rows: (g,)."""
    order = np.lexsort((names, units))
    _, first = np.unique(units[order], return_index=True)
    return names[order[first]]


def _refuse_split(study: Study, folds: Folds, pairs: ImagePairs) -> None:
    """With as many levels as folds the column *is* the folds: merging them would not be what was asked."""
    if folds.by is None or len(study.labels.get("fold group", ())) != folds.n:
        return
    base, names = _base(study, None)
    units = connected(len(base), base, *_bonds(study, pairs), _row_pairs(study, pairs.overlapping))
    check_user_folds(study.labels["fold group"][study.codes["fold group"]], units, _least_name(units, names[base]))


def _refuse_giant(units: np.ndarray, hard: np.ndarray, labels: np.ndarray) -> None:
    size = np.bincount(units)
    largest = int(np.argmax(size))
    if 2 * size[largest] <= len(units):
        return
    inside = len(np.unique(hard[units == largest]))
    if inside > 1:
        cause = f"its chips overlap in one chain of {inside} groups. Give Folds(block_km=..., buffer_km=...) to cut it."
    else:
        cause = "its rows share one image, cluster or identical vector. Choose a finer cluster, or Folds(block_km=...)."
    raise DataError(
        f"One fold unit ({labels[largest]}) holds {int(size[largest])} of {len(units)} rows, so no fold can be "
        f"predicted from the others: {cause}"
    )


def _blocks(study: Study, pairs: ImagePairs, folds: Folds, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if study.lonlat is None or folds.block_km is None:
        raise DataError(
            "Folds(block_km=...) cuts space into blocks: give coords=(longitude, latitude) or a GeoDataFrame."
        )
    n = len(study.rows)
    _, place = np.unique(study.lonlat, axis=0, return_inverse=True)
    together = connected(n, place, *_bonds(study, pairs))
    cells, codes = np.unique(
        block_cells(_centres(study.lonlat, together), folds.block_km, seed), axis=0, return_inverse=True
    )
    if len(cells) < 2 * folds.n:
        raise DataError(
            f"Folds(n={folds.n}, block_km={folds.block_km:g}) makes {len(cells)} blocks; at least two per fold "
            f"({2 * folds.n}) are needed. Use smaller blocks or fewer folds."
        )
    units = by_first_row(codes[together])
    _refuse_straddling(study, pairs.overlapping, units, folds)
    names = np.array([f"block {column} {row}" for column, row in cells.tolist()])
    labels = _least_name(units, names[codes[together]])
    _refuse_giant(units, units, labels)
    return units, labels


def _centres(lonlat: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean direction of each group in degrees: (g, 2)."""
    points = unit_vectors(lonlat)
    size = np.bincount(groups)
    # Rounded, because sums depend on the order of the rows in the last bits.
    mean = np.round(np.stack([np.bincount(groups, weights=points[:, i]) / size for i in range(3)], axis=1), 12)
    lon = np.degrees(np.arctan2(mean[:, 1], mean[:, 0]))
    return np.column_stack([lon, np.degrees(np.arctan2(mean[:, 2], np.hypot(mean[:, 0], mean[:, 1])))])


def _refuse_straddling(study: Study, overlapping: np.ndarray, units: np.ndarray, folds: Folds) -> None:
    """Overlapping chips in two blocks would leak unless the buffer takes them out of training."""
    if study.image is None or study.lonlat is None or not len(overlapping):
        return
    rows = _first_rows(study.image)[overlapping]
    apart = rows[units[rows[:, 0]] != units[rows[:, 1]]]
    if not len(apart):
        return
    reach = float(great_circle_km(study.lonlat[apart[:, 0]], study.lonlat[apart[:, 1]]).max())
    if folds.buffer_km <= reach:
        raise ImageSplitError(
            f"{len(apart)} pairs of overlapping chips stand in different blocks and up to {reach:.3g} km apart; with "
            f"buffer_km={folds.buffer_km:g} nuisances would be trained on ground that they predict. Write "
            f"Folds(block_km={folds.block_km:g}, buffer_km={reach * 1.01 + 0.001:.3g})."
        )
