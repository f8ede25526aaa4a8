"""Districts on both sides of a wavy border, their pixels and the files a study of them starts from."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import count, number
from causalsat.simulate.r3d import DECILES

if TYPE_CHECKING:
    import geopandas as gpd

CRS = "EPSG:32636"
CORNER = (500_000.0, 300_000.0)
_WAVES = 200
_STEPS = 8
_NAMES = {"raster": "lights.tif", "zones": "districts.gpkg", "border": "border.gpkg"}


def border(
    folder: str | Path,
    *,
    rows: int = 40,
    columns: int = 8,
    size_m: float = 1000.0,
    pixel_m: float = 100.0,
    wave_m: float = 2500.0,
    effect: float = 1.0,
    spread: float = 0.5,
    noise: float = 0.5,
    range_km: float = 6.0,
    seed: int = 0,
    quantiles: Sequence[float] = DECILES,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a raster of lights, districts and a border line; east of the line a programme runs.

    A district i at signed distance x_i has pixels Z = 5 + 1.5 x_i / reach + f(place) + u_i + effect D_i + (1 + spread
    D_i) e, e ~ N(0, 1) for each pixel, f a smooth Gaussian field with standard deviation ``noise`` and range
    ``range_km``, u_i ~ N(0, noise^2 / 4). The field is the same on both sides of the line, so that neighbours resemble
    each other and tau(q) = effect + spread z_q. Districts follow the line and never cross it; a pixel belongs to the
    district that holds its centre.

    Parameters
    ----------
    folder : path
        Where the files go; made if absent.
    rows, columns : int
        Districts along the line, and away from it on each side.
    size_m, pixel_m : float
        Extent of a district and of a pixel, metres.
    wave_m : float
        Amplitude of the line.
    effect, spread : float
        Shift of the mean and of the standard deviation of pixels east of the line.
    noise, range_km : float
        Standard deviation and range of the field.
    seed : int
        Seed of the generator.
    quantiles : sequence of float
        Levels of ``truth["tau"]``.

    Returns
    -------
    files : dict
        Paths raster (GeoTIFF), zones (GeoPackage: zone, province, lon, lat, polygons), border (GeoPackage, one line),
        and treated_side, a point east of the line in degrees.
    truth : dict
        quantiles, tau (M,), mean, sd, distance (n,) planar signed distance in metres, treated (n,), zone (n,).

    Examples
    --------
    >>> import tempfile
    >>> files, truth = border(tempfile.mkdtemp(), rows=4, columns=2)
    >>> len(truth["zone"]), truth["mean"]
    (16, 1.0)
    """
    from scipy.stats import norm

    rows, columns = count("rows", rows, 1), count("columns", columns, 1)
    size = number("size_m", size_m, 0.0, 1e6)
    pixel = number("pixel_m", pixel_m, 0.0, size)
    rng = np.random.default_rng(count("seed", seed))
    zones, line = _districts(rows, columns, size, number("wave_m", wave_m, 0.0, 1e6, open_ends=False), rng)
    inner = zones.geometry.representative_point()
    east = zones["column"].to_numpy() > 0
    distance = inner.distance(line.geometry.iloc[0]).to_numpy() * np.where(east, 1.0, -1.0)
    field = _field(np.column_stack([inner.x, inner.y]), noise, range_km, rng) + 0.5 * noise * rng.normal(
        size=len(zones)
    )
    location = 5.0 + 1.5 * distance / (columns * size) + field + effect * east
    lonlat = inner.to_crs("EPSG:4326")
    zones["lon"], zones["lat"] = lonlat.x.to_numpy(), lonlat.y.to_numpy()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {name: str(folder / file) for name, file in _NAMES.items()}
    _write_raster(files["raster"], zones, location, 1.0 + spread * east, pixel, rng)
    zones.drop(columns="column").to_file(files["zones"], driver="GPKG")
    line.to_file(files["border"], driver="GPKG")
    files["treated_side"] = lonlat.iloc[int(np.argmax(distance))]
    levels = np.asarray(quantiles, dtype=np.float64)
    truth = {
        "quantiles": levels, "tau": effect + spread * norm.ppf(levels), "mean": float(effect), "sd": float(spread),
        "distance": distance, "treated": east, "zone": zones["zone"].to_numpy(),
    }  # fmt: skip
    return files, truth


def _districts(
    rows: int, columns: int, size: float, wave: float, rng: np.random.Generator
) -> tuple["gpd.GeoDataFrame", "gpd.GeoDataFrame"]:
    """Polygons between lines parallel to the border, of uneven width, and the border itself."""
    import geopandas as gpd
    import shapely

    north = np.linspace(0.0, rows * size, rows * _STEPS + 1)
    turn = 2.0 * np.pi * north / (12.0 * size)
    east = wave * (np.sin(turn) + 0.4 * np.sin(2.7 * turn + 1.0))
    corner = np.array(CORNER)
    line = np.column_stack([east, north]) + corner[None, :]
    shapes, names, province, column = [], [], [], []
    for row in range(rows):
        piece = line[row * _STEPS : (row + 1) * _STEPS + 1]
        for side in (-1, 1):
            edges = side * np.concatenate([[0.0], np.cumsum(size * rng.uniform(0.6, 1.4, size=columns))])
            for k in range(columns):
                near, far = (piece + np.array([[at, 0.0]]) for at in edges[k : k + 2])
                shapes.append(shapely.Polygon(np.concatenate([near, far[::-1]])))
                names.append(f"d{row:03d}{'e' if side > 0 else 'w'}{k:02d}")
                province.append(row // 4)
                column.append(side * (k + 1))
    table = {"zone": names, "province": province, "column": column}
    line_frame = gpd.GeoDataFrame({"name": ["border"]}, geometry=[shapely.LineString(line)], crs=CRS)
    return gpd.GeoDataFrame(table, geometry=shapes, crs=CRS), line_frame


def _field(places: np.ndarray, noise: float, range_km: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) Gaussian field with squared-exponential correlation, by random waves."""
    frequency = rng.normal(size=(2, _WAVES)) / (1000.0 * range_km)
    phase = rng.uniform(0.0, 2.0 * np.pi, size=_WAVES)
    waves = np.cos((places - places.mean(axis=0)[None, :]) @ frequency + phase[None, :])
    return np.asarray(noise * np.sqrt(2.0 / _WAVES) * (waves @ rng.normal(size=_WAVES)))


def _write_raster(
    path: str,
    zones: "gpd.GeoDataFrame",
    location: np.ndarray,
    scale: np.ndarray,
    pixel: float,
    rng: np.random.Generator,
) -> None:
    """One band of pixels, NaN outside the districts."""
    import rasterio
    from rasterio.features import rasterize
    from rasterio.transform import from_origin

    west, south, east, north = zones.total_bounds
    width, height = int(np.ceil((east - west) / pixel)), int(np.ceil((north - south) / pixel))
    grid = from_origin(west, north, pixel, pixel)
    shapes = [(shape, k) for k, shape in enumerate(zones.geometry)]
    owner = rasterize(shapes, out_shape=(height, width), fill=-1, transform=grid, dtype="int32")
    values = location[owner] + scale[owner] * rng.normal(size=owner.shape)
    values = np.where(owner >= 0, values, np.nan).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=1, dtype="float32", crs=CRS, transform=grid,
        nodata=np.nan,
    ) as raster:  # fmt: skip
        raster.write(values, 1)
