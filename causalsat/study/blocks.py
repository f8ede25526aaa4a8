"""Spatial blocks: squares on an equal-area grid whose origin is keyed by the seed."""

import numpy as np

from causalsat.errors import DataError, number
from causalsat.study.folds import keyed_hashes
from causalsat.study.sphere import centre_of


def spatial_blocks(lonlat: np.ndarray, block_km: float, seed: int) -> np.ndarray:
    """Block of each place.

    Places are projected with the Lambert azimuthal equal-area projection centred on the data (their mean direction,
    rounded to whole degrees so that a few rows more or less do not move the grid). Unlike a global cylindrical grid its
    blocks stay close to square away from the equator. The grid's origin is shifted by a fraction of a block that
    depends on the seed alone.

    Parameters
    ----------
    lonlat : ndarray (n, 2) float64
        Longitude and latitude, degrees WGS84.
    block_km : float
        Side of a block in kilometres.
    seed : int
        Key of the origin.

    Returns
    -------
    ndarray (n,) int64
        Codes of the non-empty blocks, in order of their column and row in the grid.

    Examples
    --------
    >>> import numpy as np
    >>> from causalsat.study.blocks import spatial_blocks
    >>> spatial_blocks(np.array([[32.0, 1.0], [32.001, 1.0], [34.0, 1.0]]), block_km=50, seed=0)
    array([0, 0, 1])
    """
    _, codes = np.unique(block_cells(lonlat, block_km, seed), axis=0, return_inverse=True)
    return np.asarray(codes, dtype=np.int64)


def block_cells(lonlat: np.ndarray, block_km: float, seed: int) -> np.ndarray:
    """Column and row of each place in the grid of :func:`spatial_blocks`: (n, 2) int64."""
    from pyproj import Proj

    side = 1000.0 * number("block_km", block_km, 0.0, 10_000.0)
    places = np.asarray(lonlat, dtype=np.float64)
    if not np.isfinite(places).all():
        raise DataError("Spatial blocks need the coordinates of every row; some are missing.")
    lon, lat = (round(value) for value in centre_of(places))
    x, y = Proj(proj="laea", lon_0=lon, lat_0=lat, datum="WGS84", units="m")(places[:, 0], places[:, 1])
    shift = keyed_hashes(["column", "row"], f"blocks:{seed}") / 2.0**64
    # Millimetres: the same place reached through different arithmetic stays in its block.
    metres = np.round(np.column_stack([x, y]), 3)
    return np.floor(metres / side + shift[None, :]).astype(np.int64)
