"""Aid projects on a grid: two funders, three sectors, districts treated as a whole, spillovers, an image confounder."""

from typing import Any

import numpy as np

from causalsat.errors import OptionError, count
from causalsat.study.embeddings import Embeddings

CELL_KM = 6.7
REACH_KM = 25.0
DISTRICT = 5
PERIODS = 3
FUNDERS = 2
SECTORS = 3
TASTE = (1.5, 0.5)
EFFECTS = ((4.0, 2.0, 0.0), (1.0, 1.0, -1.0))
WIDTH = 16
PRECISIONS = ("exact", "near", "adm2")
EARTH_KM = 6371.01
CENTRE = (32.0, 1.0)


def aid_grid(side: int = 40, seed: int = 0) -> tuple[dict[str, np.ndarray], Embeddings, dict[str, Any]]:
    """Cells of 6.7 km in districts (ADM2) of 5 x 5 cells over three periods; 2 funders x 3 sectors of projects.

    Image factor of a cell: v = district mean + N(0, .5^2), district means N(0, 1). A funder f treats whole districts,
    independently per sector and period, with probability sigmoid(-1 + a_f vbar), vbar the district's average of v,
    a = (1.5, .5). Tabular covariate x = vbar + N(0, 1) per cell; embedding M (16 wide) = fixed loading of v +
    .5 N(0, I). Y = 40 + 5 v + sum over programmes delta_fs W_fs + exposure + N(0, 3^2), where exposure is the share of
    the other cells within 25 km with any project in the period and delta = ((4, 2, 0), (1, 1, -1)).
    Linear adjustment estimates for delta_11 = 4 about: none 9.9, tabular 7.6, both 4.4; assignment uses vbar, so with
    district means of M added 4.2, and with exposure as a covariate 4.0.

    Parameters
    ----------
    side : int
        Cells per side of the square grid, a multiple of 5.
    seed : int
        Seed of the generator.

    Returns
    -------
    data : dict of str to np.ndarray
        One row per cell and period: y, x, exposure and funder1_sector1 ... funder2_sector3 (float64); cell, adm2
        (str), period (int64), longitude, latitude (degrees).
    embeddings : Embeddings
        (cells, 16), keyed by cell.
    truth : dict
        effects (programme -> effect), v (cells,), radius_km, cell_km, and projects: a dict of columns project, adm2,
        period, funder, sector, precision ("exact" 30%, "near" 30%, "adm2" 40%), longitude, latitude; one project per
        treated district, period and programme, placed at the centre of a random cell of it.

    Raises
    ------
    OptionError
        ``side`` is not a multiple of 5.

    Examples
    --------
    >>> data, images, truth = aid_grid(side=10)
    >>> len(data["y"]), images.d, truth["effects"]["funder1_sector1"]
    (300, 16, 4.0)
    """
    side = count("side", side, minimum=2 * DISTRICT)
    if side % DISTRICT:
        raise OptionError(f"side={side} must be a multiple of {DISTRICT}, the cells per side of a district.")
    rng = np.random.default_rng(count("seed", seed))
    blocks = side // DISTRICT
    v = _spread(rng.standard_normal((blocks, blocks))) + 0.5 * rng.standard_normal((side, side))
    vbar = v.reshape(blocks, DISTRICT, blocks, DISTRICT).mean(axis=(1, 3))
    chance = 1.0 / (1.0 + np.exp(-(-1.0 + np.array(TASTE)[:, None, None] * vbar[None, :, :])))
    treated = rng.random((PERIODS, FUNDERS, SECTORS, blocks, blocks)) < chance[None, :, None, :, :]
    w = _spread(treated.astype(np.float64))
    exposure = np.stack([neighbour_share(layer) for layer in w.max(axis=(1, 2))])
    x = _spread(vbar) + rng.standard_normal((side, side))
    loading = rng.standard_normal(WIDTH)
    matrix = v.reshape(-1, 1) * loading[None, :] + 0.5 * rng.standard_normal((side * side, WIDTH))
    effect = np.einsum("fs,tfsij->tij", np.array(EFFECTS), w)
    y = 40.0 + 5.0 * v[None, :, :] + effect + exposure + 3.0 * rng.standard_normal((PERIODS, side, side))
    lonlat, cells, adm2 = _places(side)
    data = {
        "y": y.ravel(),
        "x": np.tile(x.ravel(), PERIODS),
        "exposure": exposure.ravel(),
        "cell": np.tile(cells, PERIODS),
        "adm2": np.tile(adm2, PERIODS),
        "period": np.repeat(np.arange(PERIODS), side * side),
        "longitude": np.tile(lonlat[:, 0], PERIODS),
        "latitude": np.tile(lonlat[:, 1], PERIODS),
    } | {_programme(f, s): w[:, f, s].ravel() for f in range(FUNDERS) for s in range(SECTORS)}
    truth = {
        "effects": {_programme(f, s): EFFECTS[f][s] for f in range(FUNDERS) for s in range(SECTORS)},
        "v": v.ravel(),
        "radius_km": REACH_KM,
        "cell_km": CELL_KM,
        "projects": _projects(treated, lonlat, adm2, rng),
    }
    return data, Embeddings.from_matrix(matrix, cells, lonlat=lonlat), truth


def _programme(funder: int, sector: int) -> str:
    return f"funder{funder + 1}_sector{sector + 1}"


def _spread(districts: np.ndarray) -> np.ndarray:
    """District values (..., k, k) on the cells (..., 5k, 5k)."""
    return np.repeat(np.repeat(districts, DISTRICT, axis=-2), DISTRICT, axis=-1)


def neighbour_share(layer: np.ndarray, radius_km: float = REACH_KM) -> np.ndarray:
    """Share of the other cells with centres within ``radius_km`` that are 1 in ``layer`` (side, side)."""
    reach = int(radius_km // CELL_KM)
    side = layer.shape[0]
    padded, present = np.pad(layer, reach), np.pad(np.ones_like(layer), reach)
    total, cells = np.zeros_like(layer), np.zeros_like(layer)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            if 0 < (i * i + j * j) * CELL_KM**2 <= radius_km**2:
                window = (slice(reach + i, reach + i + side), slice(reach + j, reach + j + side))
                total += padded[window]
                cells += present[window]
    return np.asarray(total / cells)


def _places(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (cells, 2) in degrees, cell names and district names; rows run south to north near the equator."""
    km = (np.arange(side) - (side - 1) / 2.0) * CELL_KM
    degree = np.pi * EARTH_KM / 180.0
    latitude = CENTRE[1] + km / degree
    longitude = CENTRE[0] + km / (degree * np.cos(np.radians(CENTRE[1])))
    row, column = np.divmod(np.arange(side * side), side)
    cells = np.array([f"c{i:03d}_{j:03d}" for i, j in zip(row, column)])
    adm2 = np.array([f"d{i // DISTRICT:02d}_{j // DISTRICT:02d}" for i, j in zip(row, column)])
    return np.column_stack([longitude[column], latitude[row]]), cells, adm2


def _projects(
    treated: np.ndarray, lonlat: np.ndarray, adm2: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    names = np.unique(adm2)
    period, funder, sector, block_row, block_column = np.nonzero(treated)
    district = names[block_row * treated.shape[-1] + block_column]
    members = {name: np.flatnonzero(adm2 == name) for name in names}
    place = np.array([rng.choice(members[name]) for name in district], dtype=np.int64)
    return {
        "project": np.array([f"p{i:05d}" for i in range(place.size)]),
        "adm2": district,
        "period": period,
        "funder": funder + 1,
        "sector": sector + 1,
        "precision": rng.choice(np.array(PRECISIONS), size=place.size, p=[0.3, 0.3, 0.4]),
        "longitude": lonlat[place, 0],
        "latitude": lonlat[place, 1],
    }
