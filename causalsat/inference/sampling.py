"""What the rows of a study are: independent draws, members of clusters, places, panel cells."""

from dataclasses import dataclass

import numpy as np

from causalsat.errors import DataError


@dataclass(frozen=True)
class Sampling:
    """The dependence structure of n rows, as arrays aligned with them.

    Attributes
    ----------
    n : int
        Number of rows.
    cluster : np.ndarray, optional
        (n,) int64 cluster codes; equal codes may be dependent.
    second : np.ndarray, optional
        (n,) int64 codes of the second way of a two-way clustering.
    lonlat : np.ndarray, optional
        (n, 2) float64 longitude and latitude in degrees, WGS84.
    time : np.ndarray, optional
        (n,) int64 periods; differences of one are neighbouring periods.
    unit : np.ndarray, optional
        (n,) int64 codes of the units of a panel.

    Raises
    ------
    DataError
        A length other than n, codes that are not whole numbers, coordinates that are missing or outside the globe.

    Examples
    --------
    >>> Sampling(3, cluster=np.array([0, 0, 1])).cluster
    array([0, 0, 1])
    """

    n: int
    cluster: np.ndarray | None = None
    second: np.ndarray | None = None
    lonlat: np.ndarray | None = None
    time: np.ndarray | None = None
    unit: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise DataError(f"a covariance needs rows; n={self.n}.")
        for name in ("cluster", "second", "time", "unit"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _codes(name, getattr(self, name), self.n))
        if self.lonlat is not None:
            object.__setattr__(self, "lonlat", _lonlat(self.lonlat, self.n))


def _codes(name: str, values: np.ndarray, n: int) -> np.ndarray:
    codes = np.asarray(values)
    if codes.shape != (n,):
        raise DataError(f"{name} has shape {codes.shape}; one code per row, ({n},), is needed.")
    if codes.dtype.kind not in "iub":
        raise DataError(f"{name} has dtype {codes.dtype}; whole-number codes are needed (number the labels first).")
    return codes.astype(np.int64)


def _lonlat(values: np.ndarray, n: int) -> np.ndarray:
    lonlat = np.asarray(values, dtype=np.float64)
    if lonlat.shape != (n, 2):
        raise DataError(f"lonlat has shape {lonlat.shape}; longitude and latitude per row, ({n}, 2), are needed.")
    missing = int((~np.isfinite(lonlat)).any(axis=1).sum())
    if missing:
        raise DataError(f"{missing} of {n} rows have no coordinates; a distance needs all of them. Drop those rows.")
    if (np.abs(lonlat[:, 1]) > 90.0).any() or (np.abs(lonlat[:, 0]) > 360.0).any():
        raise DataError(
            "coordinates must be degrees: longitude first within [-360, 360], latitude second within [-90, 90]; "
            f"received longitudes {lonlat[:, 0].min():g} to {lonlat[:, 0].max():g} and latitudes "
            f"{lonlat[:, 1].min():g} to {lonlat[:, 1].max():g}."
        )
    return lonlat
