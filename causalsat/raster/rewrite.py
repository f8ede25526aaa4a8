"""Rewrite a raster in the layout that chips are cheap to read from."""

from pathlib import Path

import numpy as np

from causalsat.errors import DataError, OptionError, RasterReadError, count
from causalsat.files import whole_file
from causalsat.raster.handles import SETTINGS, read_errors


def retile(src: str | Path, dst: str | Path, *, block: int = 256, overviews: bool = True) -> Path:
    """Copy a raster to a tiled, deflate-compressed GeoTIFF with overviews.

    Pixels, nodata, masks, descriptions and georeference stay as they are. The copy is written aside and renamed, so
    ``dst`` appears whole or not at all.

    Parameters
    ----------
    src, dst : path
        Raster to read; file to write, which must be another one.
    block : int
        Side of a tile in pixels, a multiple of 16.
    overviews : bool
        Add reduced copies for viewers (chips never read them).

    Returns
    -------
    Path
        ``dst``.

    Raises
    ------
    OptionError
        ``block`` is not a positive multiple of 16.
    DataError
        ``dst`` is ``src``.
    RasterReadError
        ``src`` cannot be read.
    """
    import rasterio
    from rasterio.shutil import copy

    if count("block", block, 16) % 16:
        raise OptionError(f"block={block} must be a multiple of 16, which TIFF asks of tiles; 256 suits most chips.")
    src, dst = Path(src), Path(dst)
    if src.resolve() == dst.resolve():
        raise DataError(f"retile would write {dst} over its own source; name another file.")
    options = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate", "BIGTIFF": "IF_SAFER"}
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, **SETTINGS), whole_file(dst) as aside:
            with rasterio.open(src, sharing=False) as raster:
                kind = np.dtype(raster.dtypes[0])
                levels = [2**k for k in range(1, 8) if min(raster.width, raster.height) // 2**k >= block]
                copy(raster, aside, driver="GTiff", predictor=3 if kind.kind == "f" else 2, **options)
            if overviews and levels:
                with rasterio.open(aside, "r+") as made:
                    made.build_overviews(levels)
    except read_errors() as error:
        raise RasterReadError(f"{src.name} cannot be rewritten to {dst.name}: {error}.") from error
    return dst
