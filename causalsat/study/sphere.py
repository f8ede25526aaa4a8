"""Places on the globe as unit vectors; distances along great circles."""

import numpy as np

RADIUS_KM = 6371.01


def unit_vectors(lonlat: np.ndarray) -> np.ndarray:
    """Longitude and latitude (n, 2) in degrees as points (n, 3) on the unit sphere."""
    lon, lat = np.radians(np.asarray(lonlat, dtype=np.float64)).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def chord_of_km(km: float) -> float:
    """Straight-line distance on the unit sphere, 2 sin(d / 2R), of a great-circle distance d in kilometres."""
    return float(2.0 * np.sin(min(km / (2.0 * RADIUS_KM), np.pi / 2.0)))


def great_circle_km(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance d = 2R asin(c / 2), c the chord, between paired places (m, 2) in degrees: (m,) kilometres."""
    chord = np.linalg.norm(unit_vectors(a) - unit_vectors(b), axis=1)
    return 2.0 * RADIUS_KM * np.arcsin(np.minimum(1.0, chord / 2.0))


def centre_of(lonlat: np.ndarray) -> tuple[float, float]:
    """Longitude and latitude of the mean direction; (0, 0) when the places balance out around the globe."""
    x, y, z = unit_vectors(lonlat).mean(axis=0)
    if np.sqrt(x * x + y * y + z * z) < 1e-3:
        return 0.0, 0.0
    return float(np.degrees(np.arctan2(y, x))), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
