"""causalsat: causal inference with satellite images.

Pixels → embeddings → study → fit → effect table. Names load when they are first used, so
``import causalsat`` stays fast and changes no global state.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "embed": "causalsat.raster.job",
    "Bands": "causalsat.raster.encoders.bands",
    "Rcf": "causalsat.raster.encoders.rcf",
    "Normalise": "causalsat.raster.normalise",
    "Dates": "causalsat.raster.dates",
    "Embeddings": "causalsat.study.embeddings",
    "Folds": "causalsat.study.folds",
    "QuantileMatrix": "causalsat.study.distributions",
    "Histogram": "causalsat.study.distributions",
    "Exposure": "causalsat.study.exposure",
    "footprints": "causalsat.study.footprints",
    "Bootstrap": "causalsat.inference.options",
    "Sandwich": "causalsat.inference.options",
    "EffectTable": "causalsat.effects.table",
    "CheckResult": "causalsat.checks.result",
    "image_ate": "causalsat.estimators.image_ate",
    "AteResult": "causalsat.estimators.ate_result",
    "AteSensitivity": "causalsat.estimators.ate_after",
    "Eligibility": "causalsat.estimators.ate_options",
    "drive": "causalsat.estimators.drive",
    "DriveOptions": "causalsat.estimators.drive_options",
    "DriveResult": "causalsat.estimators.drive_result",
    "DriveSensitivity": "causalsat.estimators.drive_sensitivity",
    "group_shapley": "causalsat.estimators.group_shapley",
    "swap_value": "causalsat.estimators.group_shapley",
    "SwapValue": "causalsat.estimators.group_shapley",
    "r3d": "causalsat.estimators.r3d",
    "R3dResult": "causalsat.estimators.r3d_result",
    "Bandwidth": "causalsat.estimators.r3d_options",
    "pixel_distributions": "causalsat.raster.zonal",
    "PixelDistributions": "causalsat.raster.zonal",
    "signed_distance": "causalsat.study.boundary",
    "SignedDistance": "causalsat.study.boundary",
    "run_study": "causalsat.run",
    "r_companion_path": "causalsat.interop.r",
}

__all__ = ["__version__", *_HOMES]

logging.getLogger("causalsat").addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from causalsat.checks.result import CheckResult as CheckResult
    from causalsat.effects.table import EffectTable as EffectTable
    from causalsat.estimators.ate_options import Eligibility as Eligibility
    from causalsat.estimators.ate_result import AteResult as AteResult
    from causalsat.estimators.drive import drive as drive
    from causalsat.estimators.drive_options import DriveOptions as DriveOptions
    from causalsat.estimators.drive_result import DriveResult as DriveResult
    from causalsat.estimators.drive_sensitivity import DriveSensitivity as DriveSensitivity
    from causalsat.estimators.group_shapley import SwapValue as SwapValue
    from causalsat.estimators.group_shapley import group_shapley as group_shapley
    from causalsat.estimators.group_shapley import swap_value as swap_value
    from causalsat.estimators.image_ate import image_ate as image_ate
    from causalsat.estimators.r3d import r3d as r3d
    from causalsat.estimators.r3d_options import Bandwidth as Bandwidth
    from causalsat.estimators.r3d_result import R3dResult as R3dResult
    from causalsat.inference.options import Bootstrap as Bootstrap
    from causalsat.inference.options import Sandwich as Sandwich
    from causalsat.interop.r import r_companion_path as r_companion_path
    from causalsat.raster.dates import Dates as Dates
    from causalsat.raster.encoders.bands import Bands as Bands
    from causalsat.raster.encoders.rcf import Rcf as Rcf
    from causalsat.raster.job import embed as embed
    from causalsat.raster.normalise import Normalise as Normalise
    from causalsat.raster.zonal import PixelDistributions as PixelDistributions
    from causalsat.raster.zonal import pixel_distributions as pixel_distributions
    from causalsat.study.boundary import SignedDistance as SignedDistance
    from causalsat.study.boundary import signed_distance as signed_distance
    from causalsat.study.distributions import Histogram as Histogram
    from causalsat.study.distributions import QuantileMatrix as QuantileMatrix
    from causalsat.study.embeddings import Embeddings as Embeddings
    from causalsat.study.exposure import Exposure as Exposure
    from causalsat.study.folds import Folds as Folds
    from causalsat.study.footprints import footprints as footprints


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in {"raster", "study", "simulate", "checks", "effects", "inference", "estimators", "kernels", "interop"}:
        return importlib.import_module(f"causalsat.{name}")
    raise AttributeError(f"module 'causalsat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
