"""Chips per second from one large tiled GeoTIFF: ours beside a plain loop and rioxarray, in one process.

Answers are compared before anything is timed. CPU time counts, since wall time depends on who else uses the machine.
``CAUSALSAT_BENCH_SHORT=1`` makes the file and the number of chips smaller; ratios are lower there, because a small file
fits every cache.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from causalsat.raster.places import read_places
from causalsat.raster.plan import Plan, make_plan
from causalsat.raster.reader import ChipReader
from causalsat.raster.sources import open_sources

SHORT = os.environ.get("CAUSALSAT_BENCH_SHORT") == "1"
SIDE, N_CHIPS, N_SLOW = (2560, 400, 60) if SHORT else (10_240, 4000, 200)
SIZE = 256
CORNER = (500_000.0, 200_000.0)


def make_raster(path: Path, side: int = SIDE) -> Path:
    """Smooth terrain plus noise, three uint16 bands, 256-pixel tiles, deflate with predictor 2."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "crs": "EPSG:32636",
        "transform": from_origin(*CORNER, 10, 10), "tiled": True, "blockxsize": 256, "blockysize": 256,
        "compress": "deflate", "predictor": 2, "zlevel": 1, "interleave": "pixel",
    }  # fmt: skip
    columns = np.arange(side)
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, side, 256):
            rows = np.arange(row, min(row + 256, side))
            smooth = 1500 + 700 * np.sin(rows / 300.0)[:, None] * np.cos(columns / 410.0)[None, :]
            block = smooth[None] * np.array([1.0, 1.3, 0.8])[:, None, None] + rng.normal(0, 25, (3, len(rows), side))
            raster.write(block.astype("uint16"), window=Window(0, row, side, len(rows)))
    return path


def make_places(n: int, side: int = SIDE) -> dict[str, np.ndarray]:
    """Random places whose windows lie inside the raster."""
    rng = np.random.default_rng(1)
    x = CORNER[0] + 10 * rng.uniform(SIZE / 2 + 1, side - SIZE / 2 - 1, n)
    y = CORNER[1] - 10 * rng.uniform(SIZE / 2 + 1, side - SIZE / 2 - 1, n)
    lon, lat = Transformer.from_crs("EPSG:32636", "EPSG:4326", always_xy=True).transform(x, y)
    return {"longitude": lon, "latitude": lat}


def cpu(work: Callable[[], int]) -> tuple[float, float]:
    """CPU and wall milliseconds per chip of a function that returns how many chips it read."""
    start, wall = time.process_time(), time.perf_counter()
    n = work()
    return 1e3 * (time.process_time() - start) / n, 1e3 * (time.perf_counter() - wall) / n


def corners(plan: Plan, rows: np.ndarray) -> np.ndarray:
    """First column and row of each chip."""
    return np.round((plan.origin[rows] - np.array(CORNER)) / np.array([10.0, -10.0])).astype(int)


def ours(plan: Plan, rows: np.ndarray, threads: int) -> int:
    """Block-sorted reads through the plan, 64 MiB of cache."""
    with ChipReader(plan, threads=threads, cache_bytes=64 * 2**20) as reader:
        return sum(len(batch) for batch in reader.batches(rows, 8))


def plain_loop(path: Path, plan: Plan, rows: np.ndarray) -> int:
    """Open, window, read: one chip after the other in the order of the table."""
    for column, row in corners(plan, rows):
        with rasterio.open(path) as raster:
            raster.read(window=Window(column, row, SIZE, SIZE))
    return len(rows)


def one_handle(path: Path, plan: Plan, rows: np.ndarray) -> int:
    """The same loop with the file kept open and the cache that ours has."""
    with rasterio.Env(GDAL_CACHEMAX=64 * 2**20), rasterio.open(path) as raster:
        for column, row in corners(plan, rows):
            raster.read(window=Window(column, row, SIZE, SIZE))
    return len(rows)


def rioxarray_clips(path: Path, plan: Plan, rows: np.ndarray) -> int:
    """``clip_box`` on a lazily opened raster."""
    import rioxarray

    with rioxarray.open_rasterio(path) as cube:
        for row in rows:
            x, y = plan.origin[row]
            cube.rio.clip_box(x + 1, y - 10 * SIZE + 1, x + 10 * SIZE - 1, y - 1).to_numpy()
    return len(rows)


def bare_warp(path: Path, plan: Plan, rows: np.ndarray) -> int:
    """One WarpedVRT per chip on one handle."""
    with rasterio.open(path) as raster:
        for row in rows:
            grid = from_origin(*plan.origin[row], float(plan.step[row]), float(plan.step[row]))
            with WarpedVRT(
                raster, crs=plan.crs[plan.grid_crs[row]], transform=grid, width=SIZE, height=SIZE,
                resampling=Resampling.bilinear, add_alpha=True,
            ) as chip:  # fmt: skip
                chip.read()
    return len(rows)


def check_answers(path: Path, plan: Plan, rows: np.ndarray) -> None:
    """Our chips, a plain read and rioxarray agree bit for bit."""
    import rioxarray

    with ChipReader(plan, threads=1) as reader:
        batch = reader.read(rows)
    with rasterio.open(path) as raster, rioxarray.open_rasterio(path) as cube:
        for i, (column, row) in enumerate(corners(plan, rows)):
            plain = raster.read(window=Window(column, row, SIZE, SIZE))
            x, y = plan.origin[rows[i]]
            clip = cube.rio.clip_box(x + 1, y - 10 * SIZE + 1, x + 10 * SIZE - 1, y - 1).to_numpy()
            if not (np.array_equal(batch.pixels[i].transpose(2, 0, 1), plain) and np.array_equal(plain, clip)):
                raise SystemExit(f"chip {i} differs")


def report(name: str, times: tuple[float, float], ours_ms: float) -> None:
    print(f"{name:34s} {times[0]:8.2f} ms CPU {times[1]:8.2f} ms wall   ours is {times[0] / ours_ms:5.1f}x cheaper")


def report_warps(path: Path, plan: Plan) -> None:
    """Warped chips beside a bare warp of the same windows, the least of three turns each."""
    near = plan.order[:N_SLOW]
    turns = []
    for _ in range(3):
        with rasterio.Env(GDAL_CACHEMAX=64 * 2**20):
            bare = cpu(lambda: bare_warp(path, plan, near))[0]
        turns.append((cpu(lambda: ours(plan, near, 1))[0], bare))
    mine, bare = (min(turn[i] for turn in turns) for i in (0, 1))
    print(
        f"warped chips: ours {mine:.2f} ms CPU, a bare WarpedVRT per chip {bare:.2f}: {mine / bare:.2f} times (goal 1.2)"
    )


def main() -> None:
    """Run all cases and print milliseconds per chip and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = make_raster(Path(folder) / "scene.tif")
        places, sources = read_places(make_places(N_CHIPS)), open_sources(path)
        plan = make_plan(places, sources, size_m=SIZE * 10)
        warped = make_plan(places, sources, size_m=SIZE * 10, align="exact")
        few = np.arange(N_SLOW)
        check_answers(path, plan, few[:20])
        print(f"{N_CHIPS} chips of {SIZE} px from {SIDE} x {SIDE} x 3 uint16, {path.stat().st_size / 2**20:.0f} MiB")
        seen = plan.describe()
        print(f"plan: {seen['blocks']} blocks, {seen['decoded_bytes'] / 2**20:.0f} MiB decoded")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mine = cpu(lambda: ours(plan, plan.order, 1))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"memory: {before / 1024:.0f} MiB resident before, {peak / 1024:.0f} MiB at most while reading")
        report("ours, plan order, 1 thread", mine, mine[0])
        report("ours, plan order, 2 threads", cpu(lambda: ours(plan, plan.order, 2)), mine[0])
        report("ours, table order, 1 thread", cpu(lambda: ours(plan, few, 1)), mine[0])
        report("open, window, read", cpu(lambda: plain_loop(path, plan, few)), mine[0])
        report("one handle, 64 MiB cache", cpu(lambda: one_handle(path, plan, few)), mine[0])
        report("rioxarray clip_box", cpu(lambda: rioxarray_clips(path, plan, few[: N_SLOW // 4])), mine[0])
        report_warps(path, warped)
        loop = min(cpu(lambda: plain_loop(path, plan, few))[0] for _ in range(2))
        least = min(mine[0], cpu(lambda: ours(plan, plan.order, 1))[0])
        print(f"ours {least:.2f} ms CPU (goal 1.5), plain loop {loop:.2f}: ratio {loop / least:.1f} (goal 5)")


if __name__ == "__main__":
    main()
