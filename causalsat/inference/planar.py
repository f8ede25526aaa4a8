"""Places on the globe as unit vectors and on an equal-area plane, and smooth fields on a grid of that plane."""

import numpy as np

from causalsat.errors import DataError, OptionError

EARTH_KM = 6371.01
_NODES_PER_CUTOFF = 8
_MOST_NODES = 4_000_000


def unit_vectors(lonlat: np.ndarray) -> np.ndarray:
    """(m, 3) unit vectors of (m, 2) degrees."""
    lon, lat = np.radians(np.asarray(lonlat, dtype=np.float64)).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def equal_area(lonlat: np.ndarray) -> np.ndarray:
    """Lambert azimuthal equal-area coordinates in km, centred on the mean place (Snyder 1987, equations 24-2 to 24-4).

    Raises
    ------
    DataError
        Places spread over more than about a hemisphere, where tiles lose their shape.
    """
    points = unit_vectors(lonlat)
    mean = points.mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 0.3:
        raise DataError("the places surround the globe; spatial blocks and fields need a regional study.")
    centre = mean / length
    pole = np.array([0.0, 0.0, 1.0]) if abs(centre[2]) < 0.999 else np.array([1.0, 0.0, 0.0])
    east = np.cross(pole, centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    nearness = 1.0 + points @ centre
    if nearness.min() < 0.5:
        raise DataError("some places lie more than 120 degrees from the centre; spatial blocks need a regional study.")
    scale = EARTH_KM * np.sqrt(2.0 / nearness)
    return np.column_stack([scale * (points @ east), scale * (points @ north)])


def grid_loadings(lonlat: np.ndarray, cutoff_km: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Nodes and unit-length loadings that turn white noise on a grid into a field with compact covariance.

    Each place sums the nodes within cutoff/2 of it with cone weights 1 - 2r/cutoff, so that two places farther apart
    than the cutoff are independent and the covariance at shorter distances is the cone's autocorrelation.

    Returns
    -------
    node : np.ndarray
        (m, q) int32 node numbers.
    loading : np.ndarray
        (m, q) float64, rows of unit length, zero beyond the radius.
    n_nodes : int
        Number of nodes.
    """
    plane = equal_area(lonlat)
    spacing = cutoff_km / _NODES_PER_CUTOFF
    half = _NODES_PER_CUTOFF // 2 + 1
    scaled = (plane - plane.min(axis=0)) / spacing + half
    columns, rows = (int(v) for v in np.floor(scaled.max(axis=0)) + half + 2)
    if columns * rows > _MOST_NODES:
        raise OptionError(
            f"block_km={cutoff_km:g} is too fine for the extent ({columns * rows} nodes); use a larger one."
        )
    reach = np.arange(-half, half + 1)
    offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    corner = np.round(scaled).astype(np.int64)
    nodes = corner[:, None, :] + offsets[None, :, :]
    distance = np.sqrt(((nodes - scaled[:, None, :]) ** 2).sum(axis=2))
    loading = np.maximum(1.0 - 2.0 * distance / _NODES_PER_CUTOFF, 0.0)
    loading /= np.sqrt((loading**2).sum(axis=1, keepdims=True))
    return (nodes[:, :, 0] * rows + nodes[:, :, 1]).astype(np.int32), loading, columns * rows
