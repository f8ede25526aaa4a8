"""What the images of a study share: arms, pixels, ground, and their place in time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from causalsat.checks.result import CheckResult
from causalsat.errors import (
    DuplicateImageWarning,
    PostTreatmentImageryError,
    SingleArmImagesWarning,
    UndatedImageryWarning,
    warn,
)

COSINE = 0.9999
BLOCK = 1024
SHOWN = 20
_FEW_FEATURES = 8


def single_arm_images_check(
    label: str,
    image: np.ndarray,
    d: np.ndarray,
    *,
    independent_rows: bool = False,
    std_error_rows: float | None = None,
    std_error_images: float | None = None,
) -> CheckResult:
    """Share of images whose rows are all treated or all controls.

    Fails above one half: treatment then follows images, and inference should too. With ``independent_rows`` (the user
    asked to treat rows as independent) it warns and shows both standard errors.

    Parameters
    ----------
    label : str
        Treatment name.
    image : np.ndarray
        (n,) int64 image codes.
    d : np.ndarray
        (n,) float64 treatment, 0 or 1.

    Warns
    -----
    SingleArmImagesWarning
        More than half the images hold one arm while rows are treated as independent.
    """
    codes = np.unique(np.asarray(image), return_inverse=True)[1]
    d = np.asarray(d, dtype=np.float64)
    rows = np.bincount(codes)
    treated = np.bincount(codes, weights=d)
    one_arm = (treated == 0) | (treated == rows)
    share, people = float(one_arm.mean()), float(one_arm[codes].mean())
    name = f"single-arm images[{label}]"
    text = f"{int(one_arm.sum())} of {rows.size} images ({share:.1%}; {people:.1%} of rows) hold one arm only."
    if share > 0.5:
        text += " The assignment follows images, so standard errors should be clustered by image."
        if independent_rows:
            both = ""
            if std_error_rows is not None and std_error_images is not None:
                both = f" SE {std_error_rows:.4g} by rows, {std_error_images:.4g} by image."
            warn(f"{name}: {text}{both}", SingleArmImagesWarning)
    table: dict[str, list[Any]] = {
        "rows": ["treated only", "controls only", "both"],
        "images": [int((treated == rows).sum()), int((treated == 0).sum()), int((~one_arm).sum())],
    }
    return CheckResult(name, share <= 0.5, share, text, table)


def identical_images_check(
    label: str, ids: np.ndarray, chip_sha256: np.ndarray, image: np.ndarray | None = None, d: np.ndarray | None = None
) -> CheckResult:
    """Different keys that carry byte-identical chips (equal hashes of pixels and mask).

    Identical chips stay in one fold. Where their treatment differs, the image cannot tell treated from controls; the
    table then shows the treated share of each key.

    Parameters
    ----------
    label : str
        Treatment name, or what the images belong to.
    ids, chip_sha256 : np.ndarray
        (J,) str keys and hashes of the distinct images; an empty hash is unknown.
    image, d : np.ndarray, optional
        (n,) row -> image position, and treatment.

    Warns
    -----
    DuplicateImageWarning
        Identical chips under different keys.
    """
    hashes = np.asarray(chip_sha256, dtype=str)
    known = hashes != ""
    _, code, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    repeated = known & (counts[code] > 1)
    share = np.full(len(hashes), np.nan)
    if image is not None and d is not None:
        rows = np.bincount(image, minlength=len(hashes))
        share = np.bincount(image, weights=d, minlength=len(hashes)) / np.where(rows > 0, rows, np.nan)
    order = np.flatnonzero(repeated)[np.argsort(code[repeated], kind="stable")]
    group = np.unique(code[order], return_inverse=True)[1]
    groups = int(group.max()) + 1 if order.size else 0
    table = {
        "group": group.tolist(),
        "id": [str(v) for v in np.asarray(ids)[order]],
        "treated_share": share[order].tolist(),
    }
    name = f"identical images[{label}]"
    if not known.any():
        return CheckResult(name, None, float("nan"), "No hashes of the chips are known.", table)
    text = f"{order.size} keys share byte-identical chips, in {groups} groups; each group stays in one fold."
    if groups:
        warn(f"{name}: {text} First: {', '.join(table['id'][:6])}.", DuplicateImageWarning)
    return CheckResult(name, groups == 0, float(order.size), text, table)


def overlapping_images_check(
    label: str, ids: np.ndarray, pairs: np.ndarray, component: np.ndarray, shares: np.ndarray | None = None
) -> CheckResult:
    """Pairs of chips whose footprints intersect: such images are not independent and stay in one fold.

    Passes when there are none.

    Parameters
    ----------
    label : str
        What the images belong to.
    ids : np.ndarray
        (J,) str keys.
    pairs : np.ndarray
        (q, 2) int64 positions of intersecting chips.
    component : np.ndarray
        (J,) int64 codes of the merged groups.
    shares : np.ndarray, optional
        (q,) float64 intersection over the smaller chip.
    """
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    sizes = np.bincount(np.unique(np.asarray(component), return_inverse=True)[1])
    table: dict[str, list[Any]] = {
        "first": [str(v) for v in np.asarray(ids)[pairs[:, 0]]],
        "second": [str(v) for v in np.asarray(ids)[pairs[:, 1]]],
        "share": [float("nan")] * len(pairs) if shares is None else [float(v) for v in shares],
    }
    text = (
        f"{len(pairs)} pairs of chips overlap on the ground; merging leaves {sizes.size} groups of the {len(ids)} "
        f"images, the largest with {int(sizes.max())}. A group stays in one fold."
    )
    return CheckResult(f"overlapping images[{label}]", len(pairs) == 0, float(len(pairs)), text, table)


def near_duplicates_check(
    label: str, ids: np.ndarray, matrix: np.ndarray, chip_sha256: np.ndarray | None = None
) -> CheckResult:
    """Embeddings that nearly coincide under different keys.

    Two images count when the cosine of their column-standardised embeddings exceeds .9999 and their distance is as
    small as that cosine implies for equal lengths (2 (1 - .9999) times the product of the lengths, squared distance),
    so neither a common mean nor a common direction is mistaken for a copy. Equal hashes are left to
    :func:`identical_images_check`. With fewer than 8 varying features closeness is no evidence: only exact equality
    is counted and ``passed`` is None when there is none.

    Parameters
    ----------
    label : str
        What the images belong to.
    ids : np.ndarray
        (J,) str keys.
    matrix : np.ndarray
        (J, d) float embedding; rows with missing values are left out.
    chip_sha256 : np.ndarray, optional
        (J,) str hashes.

    Warns
    -----
    DuplicateImageWarning
        With the first pairs.
    """
    values = np.asarray(matrix, dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))
    values = values[rows]
    spread = values.std(axis=0)
    live = spread > 1e-12 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
    z = (values[:, live] - values[:, live].mean(axis=0)) / spread[live]
    few = z.shape[1] < _FEW_FEATURES
    pairs = rows[_close_pairs(z, 0.0 if few else 2.0 * (1.0 - COSINE))] if z.shape[1] else np.empty((0, 2), int)
    if chip_sha256 is not None:
        hashes = np.asarray(chip_sha256, dtype=str)
        first, second = hashes[pairs[:, 0]], hashes[pairs[:, 1]]
        pairs = pairs[(first != second) | (first == "")]
    names = np.asarray(ids)
    table = {"first": [str(v) for v in names[pairs[:, 0]]], "second": [str(v) for v in names[pairs[:, 1]]]}
    name = f"near-duplicate images[{label}]"
    text = f"{len(pairs)} pairs of different keys have nearly the same embedding."
    if len(pairs):
        shown = ", ".join(f"{a}/{b}" for a, b in list(zip(table["first"], table["second"]))[:SHOWN])
        warn(
            f"{name}: {text} {shown}. If they show the same ground, give them one key (or one cluster), so that no "
            "fold is trained on a copy of what it predicts.",
            DuplicateImageWarning,
        )
    elif few:
        text = f"{z.shape[1]} varying features are too few to recognise near-duplicates; no two rows are equal."
    return CheckResult(name, False if len(pairs) else (None if few else True), float(len(pairs)), text, table)


def _close_pairs(z: np.ndarray, tolerance: float) -> np.ndarray:
    """(q, 2) positions i < j with |z_i - z_j|^2 <= tolerance |z_i| |z_j|, block by block."""
    if tolerance == 0.0:
        return _equal_pairs(z)
    squares = (z**2).sum(axis=1)
    lengths = np.sqrt(squares)
    found = []
    for start in range(0, len(z), BLOCK):
        block = slice(start, start + BLOCK)
        products = z[block] @ z[start:].T
        distance = squares[block][:, None] + squares[start:][None, :] - 2.0 * products
        scale = lengths[block][:, None] * lengths[start:][None, :]
        i, j = np.nonzero((distance <= tolerance * scale) & (scale > 0.0))
        found.append(np.column_stack([i, j])[j > i] + start)
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def _equal_pairs(z: np.ndarray) -> np.ndarray:
    order = np.lexsort(z.T)
    same = (z[order][1:] == z[order][:-1]).all(axis=1)
    return np.sort(np.column_stack([order[:-1], order[1:]])[same], axis=1)


def image_dates_check(
    label: str,
    image_date: np.ndarray,
    treatment_date: np.ndarray,
    *,
    allow_post_treatment: bool = False,
    keys: Sequence[str] | np.ndarray | None = None,
) -> CheckResult:
    """Imagery must be older than the treatment it adjusts for.

    Parameters
    ----------
    label : str
        Treatment name.
    image_date, treatment_date : np.ndarray
        (n,) datetime64 per row; NaT is unknown (imagery) or never treated (treatment).
    allow_post_treatment : bool
        Report instead of refusing. Nothing is written to meta here: the verb that runs this check records
        ``allow_post_treatment`` in the meta of its table.
    keys : sequence of str, optional
        (n,) image keys, for the message.

    Raises
    ------
    PostTreatmentImageryError
        A row's image is dated on or after its treatment: the count and the worst lag.

    Warns
    -----
    UndatedImageryWarning
        Some imagery has no date.
    """
    taken = np.asarray(image_date, dtype="datetime64[D]")
    treated = np.asarray(treatment_date, dtype="datetime64[D]")
    undated = int(np.isnat(taken).sum())
    name = f"image dates[{label}]"
    if undated:
        warn_undated(f"{undated} of {taken.size} rows")
    late = ~np.isnat(taken) & ~np.isnat(treated) & (taken >= treated)
    lags = (taken - treated)[late].astype(np.int64)
    worst = int(lags.max()) if lags.size else 0
    table: dict[str, list[Any]] = {"row": np.flatnonzero(late).tolist(), "days_after": lags.tolist()}
    if keys is not None:
        table["id"] = [str(v) for v in np.asarray(keys)[late]]
    text = f"{lags.size} of {taken.size} rows show imagery dated at or after treatment; {undated} have no image date."
    if lags.size and not allow_post_treatment:
        raise PostTreatmentImageryError(
            f'{text} The latest is {worst} days after the treatment "{label}". Such images may show its effect; use '
            "earlier imagery, or allow_post_treatment=True to keep them (the verb records that choice in meta)."
        )
    passed = False if lags.size else (None if undated == taken.size else True)
    return CheckResult(name, passed, float(lags.size), text, table)


def warn_undated(what: str) -> None:
    """One warning that the dates of imagery are unknown, so nobody checked that it precedes treatment."""
    warn(
        f"the imagery of {what} has no date, so it cannot be checked that it was taken before treatment; give dates "
        "when embedding (dates=) if you know them.",
        UndatedImageryWarning,
    )
