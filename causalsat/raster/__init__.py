"""Rasters and places in, one row of embeddings per place out. Names load when they are first used."""

import importlib
from typing import Any

_HOMES = {
    "read_places": "causalsat.raster.places",
    "open_sources": "causalsat.raster.sources",
    "make_plan": "causalsat.raster.plan",
    "ChipReader": "causalsat.raster.reader",
    "retile": "causalsat.raster.rewrite",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'causalsat.raster' has no attribute {name!r}")
