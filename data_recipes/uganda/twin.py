"""Write a synthetic twin of the Uganda data: same files, columns, types and traps, invented numbers."""

import csv
import sys
from pathlib import Path

import numpy as np

N_SITES = 60


def write_twin(folder: Path, seed: int = 0) -> Path:
    """Write ``uganda/people.csv`` and ``uganda/chips/<site>.tif`` under ``folder``; returns the people file."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.warp import transform

    rng = np.random.default_rng(seed)
    chips = folder / "uganda" / "chips"
    chips.mkdir(parents=True, exist_ok=True)
    lon, lat = 31.5 + 2.5 * rng.uniform(size=N_SITES), 1.0 + 2.0 * rng.uniform(size=N_SITES)
    east, north = transform("EPSG:4326", "EPSG:32636", lon, lat)
    tone = rng.normal(size=N_SITES)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "width": 35, "height": 35, "crs": "EPSG:32636"}
    for site in range(N_SITES):
        pixels = np.clip(110 + 20 * tone[site] + rng.normal(0, 12, (3, 35, 35)), 0, 255).astype(np.uint8)
        corner = from_origin(east[site] - 525.0, north[site] + 525.0, 30.0, 30.0)
        with rasterio.open(chips / f"{site + 1}.tif", "w", transform=corner, **profile) as raster:
            raster.write(pixels)
    people = folder / "uganda" / "people.csv"
    with people.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["site", "longitude", "latitude", "treated", "outcome", "x1", "x2", "x3", "x4", "x5", "x6"])
        for site in range(N_SITES):
            arm = rng.uniform() < 1 / (1 + np.exp(-0.5 * tone[site]))
            mixed = site % 7 == 0
            for _ in range(rng.integers(3, 11)):
                w = int(rng.uniform() < 0.5) if mixed else int(arm)
                x1, x3, x5 = float(rng.uniform() < 0.3), rng.normal(), float(rng.uniform() < 0.5)
                y = max(-0.88, -0.6 + 0.7 * w + 0.2 * tone[site] + rng.normal())
                row = [site + 1, lon[site], lat[site], w, y, x1, x1 * w, x3, x3 * w, x5, x5 * w]
                if rng.uniform() < 0.01:
                    row[7] = row[8] = ""
                writer.writerow(row)
    return people


if __name__ == "__main__":
    write_twin(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
