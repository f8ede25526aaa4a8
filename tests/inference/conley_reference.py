"""Two slow, independent ways to a Conley sum: all pairs by the haversine formula, and scipy's k-d tree."""

import numpy as np
from scipy.spatial import cKDTree

RADIUS_KM = 6371.01


def haversine_km(lonlat: np.ndarray) -> np.ndarray:
    """(n, n) great-circle distances by the haversine formula in angles."""
    lon, lat = np.radians(lonlat).T
    half = np.sin((lat[:, None] - lat[None, :]) / 2) ** 2
    half = half + np.cos(lat)[:, None] * np.cos(lat)[None, :] * np.sin((lon[:, None] - lon[None, :]) / 2) ** 2
    return 2 * RADIUS_KM * np.arcsin(np.minimum(1.0, np.sqrt(half)))


def kernel_weight(kernel: str, distance: np.ndarray, cutoff: float) -> np.ndarray:
    if kernel == "askey":
        ratio = np.sin(distance / (2 * RADIUS_KM)) / np.sin(min(cutoff / (2 * RADIUS_KM), np.pi / 2))
        value = np.maximum(1 - ratio, 0.0) ** 2
    else:
        ratio = distance / cutoff
        value = {"bartlett": 1 - ratio, "uniform": np.ones_like(ratio), "epanechnikov": 1 - ratio**2}[kernel]
    return np.where(distance <= cutoff * (1 + 1e-12), np.maximum(value, 0.0), 0.0)


def dense(scores, lonlat, cutoff, kernel="bartlett", time=None):
    """(k, k) sum over all pairs, same period only when ``time`` is given."""
    weight = kernel_weight(kernel, haversine_km(lonlat), cutoff)
    if time is not None:
        weight = weight * (time[:, None] == time[None, :])
    return scores.T @ weight @ scores


def tree(scores, lonlat, cutoff, kernel="bartlett"):
    """(k, k) sum over the pairs that a k-d tree of unit vectors finds, as scipy users write it."""
    lon, lat = np.radians(lonlat).T
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    chord = 2 * np.sin(min(cutoff / (2 * RADIUS_KM), np.pi / 2))
    pairs = cKDTree(vectors).query_pairs(chord + 1e-15, output_type="ndarray")
    i, j = pairs[:, 0], pairs[:, 1]
    gap = np.sqrt(((vectors[i] - vectors[j]) ** 2).sum(axis=1))
    weight = kernel_weight(kernel, 2 * RADIUS_KM * np.arcsin(np.minimum(1.0, gap / 2)), cutoff)
    half = (scores[i] * weight[:, None]).T @ scores[j]
    return scores.T @ scores + half + half.T


def serial(scores, unit, time, lag):
    """(k, k) serial Bartlett sum within units by brute force."""
    gap = np.abs(time[:, None] - time[None, :])
    same = (unit[:, None] == unit[None, :]) & (gap > 0) & (gap <= lag)
    return scores.T @ np.where(same, 1 - gap / (lag + 1), 0.0) @ scores
