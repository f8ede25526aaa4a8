"""Which pixels count: nodata, masks of the data set, alpha."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rasterio import DatasetReader

    from causalsat.raster.sources import Item


def value_validity(pixels: np.ndarray, nodata: tuple[float | None, ...]) -> np.ndarray | None:
    """Where values are data: not the band's nodata value and, for floating point, finite.

    Parameters
    ----------
    pixels : ndarray (rows, columns, bands)
    nodata : tuple of float or None, one per band

    Returns
    -------
    ndarray (rows, columns, bands) bool, or None when nothing can be missing.
    """
    floating = pixels.dtype.kind == "f"
    if not floating and all(value is None for value in nodata):
        return None
    valid = np.isfinite(pixels) if floating else np.ones(pixels.shape, bool)
    for band, value in enumerate(nodata):
        if value is not None and not np.isnan(value) and _representable(value, pixels.dtype):
            valid[..., band] &= pixels[..., band] != pixels.dtype.type(value)
    return valid


def _representable(value: float, dtype: np.dtype) -> bool:
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def data_set_mask(raster: "DatasetReader", item: "Item", window: Any) -> np.ndarray | None:
    """Mask of the whole data set or alpha inside a window, ``(rows, columns)`` bool; None where there is neither."""
    if item.alpha is not None:
        return np.asarray(raster.read(item.alpha, window=window) != 0)
    if item.has_mask:
        return np.asarray(raster.read_masks(item.bands[0], window=window) != 0)
    return None


def combine(valid: np.ndarray, mask_rule: str) -> np.ndarray:
    """Pixels at which all (any) bands are valid, ``(rows, columns)`` bool."""
    rule = np.logical_and if mask_rule == "all" else np.logical_or
    # Band by band: a reduction along a last axis of three is ten times slower.
    together = valid[..., 0].copy()
    for band in range(1, valid.shape[-1]):
        rule(together, valid[..., band], out=together)
    return together


def warp_groups(item: "Item") -> list[tuple[tuple[int, ...], dict[str, Any], int | None]]:
    """How to resample a raster so that no invalid pixel leaks into a valid one.

    GDAL applies one nodata value to all bands, and by default calls a pixel missing only where every band is; so bands
    with different nodata values are resampled apart, each on its own terms.

    Returns
    -------
    list of (positions of bands, options of the warp, band of the result that holds alpha or None)
    """
    floating = item.dtype.startswith("float")
    everything = tuple(range(len(item.bands)))
    bare = all(value is None for value in item.nodata)
    if bare and item.alpha is not None:
        return [(everything, {}, item.alpha)]
    if bare and (item.has_mask or not floating):
        return [(everything, {"src_nodata": None, "add_alpha": True}, item.count + 1)]
    groups: dict[str, tuple[list[int], float | None]] = {}
    for position, value in enumerate(item.nodata):
        value = float("nan") if value is None and floating else value
        groups.setdefault(repr(value), ([], value))[0].append(position)
    out: list[tuple[tuple[int, ...], dict[str, Any], int | None]] = []
    for positions, value in groups.values():
        if value is None:
            add = item.alpha is None
            alpha = item.count + 1 if add else item.alpha
            out.append((tuple(positions), {"src_nodata": None, "add_alpha": add}, alpha))
        else:
            options = {"src_nodata": value, "nodata": value, "UNIFIED_SRC_NODATA": "NO"}
            out.append((tuple(positions), options, item.alpha))
    return out
