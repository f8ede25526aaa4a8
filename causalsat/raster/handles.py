"""GDAL for a job: its settings, its cache, and one handle per raster and thread."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rasterio import DatasetReader

# VRT sources open shared and would meet across threads; threads inside one small read cost more than they give.
SETTINGS = {"VRT_SHARED_SOURCE": 0, "GDAL_NUM_THREADS": 1}
MIN_CACHE = 64 * 2**20
HANDLES = 64


def read_errors() -> tuple[type[BaseException], ...]:
    """What rasterio raises when a file cannot be opened or read."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    return (RasterioError, CPLE_BaseError, OSError)


@contextlib.contextmanager
def gdal_cache(n_bytes: int) -> Iterator[None]:
    """GDAL's block cache, which the whole process shares, set to ``n_bytes`` and put back afterwards."""
    from rasterio.env import get_gdal_config, set_gdal_config

    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", int(n_bytes))
    try:
        yield
    finally:
        set_gdal_config("GDAL_CACHEMAX", int(before))


def memory_bytes() -> int:
    """Memory of this machine; 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def cache_size(threads: int, chip_blocks_bytes: int) -> int:
    """Twice the blocks under one chip and their ring for each thread, between 64 MiB and a quarter of memory."""
    return int(min(max(MIN_CACHE, 2 * threads * chip_blocks_bytes), max(MIN_CACHE, memory_bytes() // 4)))


def handles_per_thread(threads: int) -> int:
    """Rasters one thread may hold open: 64, or a share of half the process's file limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except ImportError:
        limit = 512
    return max(1, min(HANDLES, limit // (2 * threads)))


class Handles:
    """Open rasters of one thread, the least recently used closed first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open: OrderedDict[str, DatasetReader] = OrderedDict()

    def get(self, path: str) -> "DatasetReader":
        """The raster at ``path``, opened for this thread alone."""
        import rasterio

        if path in self.open:
            self.open.move_to_end(path)
            return self.open[path]
        while len(self.open) >= self.limit:
            self.open.popitem(last=False)[1].close()
        self.open[path] = rasterio.open(path, sharing=False)
        return self.open[path]

    def close(self) -> None:
        """Close all."""
        while self.open:
            self.open.popitem()[1].close()
