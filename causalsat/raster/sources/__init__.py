"""Rasters in: what can be opened, scanned once, and described."""

from causalsat.raster.sources.collection import Sources, open_sources
from causalsat.raster.sources.header import Item

__all__ = ["Item", "Sources", "open_sources"]
