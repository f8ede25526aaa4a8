"""Exceptions, warnings and the few argument checks that every room shares. Standard library only."""

import contextlib
import contextvars
import difflib
import math
import numbers
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_R_MISSING_INTEGER = -2147483648


class CausalsatError(Exception):
    """Base of every error raised on purpose."""


class OptionError(CausalsatError, ValueError):
    """An argument, option, command line or study file that is not allowed (exit code 2)."""


class DataError(CausalsatError, ValueError):
    """Data that cannot be used as asked: columns, tables, rasters, joins (exit code 3)."""


class NumericalError(CausalsatError, ArithmeticError):
    """A computation that has no usable answer on these data (exit code 4)."""


class TreatmentLeakError(DataError):
    """A covariate equals, or is built from, the treatment."""


class ImageSplitError(DataError):
    """One image, or overlapping images, would stand on both sides of a cross-fitting split."""


class UndatedImageryError(DataError):
    """The treatment is dated and the imagery is not."""


class PostTreatmentImageryError(DataError):
    """Imagery dated at or after treatment."""


class IdentificationError(DataError):
    """Instruments that cannot determine the effect."""


class SingularWindowError(DataError):
    """A bandwidth whose window holds too few distinct values of the running variable."""


class RasterReadError(DataError):
    """A raster file that cannot be read; names the file, the window, the place and the cause."""


class UnfinishedJobError(DataError):
    """An embedding job whose manifest is not written yet."""


class CausalsatWarning(UserWarning):
    """Base of every warning issued on purpose."""


class DroppedRowsWarning(CausalsatWarning):
    """Rows with missing roles were left out."""


class ImputedValuesWarning(CausalsatWarning):
    """Missing covariate values were imputed inside the training folds."""


class TextMissingWarning(CausalsatWarning):
    """A role column holds the text "NA"."""


class WeakOverlapWarning(CausalsatWarning):
    """Treated and controls hardly overlap given the adjustment set."""


class SingleArmImagesWarning(CausalsatWarning):
    """Most images hold one arm only while rows are treated as independent."""


class DuplicateImageWarning(CausalsatWarning):
    """Different keys carry identical or nearly identical images."""


class UndatedImageryWarning(CausalsatWarning):
    """Nobody said when the imagery was taken."""


class BootstrapFailureWarning(CausalsatWarning):
    """More than one bootstrap draw in a hundred failed."""


class BootstrapBiasWarning(CausalsatWarning):
    """Bootstrap draws centre away from the estimate."""


class FewClustersWarning(CausalsatWarning):
    """Fewer than 30 clusters."""


class SplitClusterWarning(CausalsatWarning):
    """Clusters with rows on both sides of a split that is meant to keep them whole."""


class UnusedWarning(CausalsatWarning):
    """An argument that the other arguments leave without a use."""


class SpatialCutoffWarning(CausalsatWarning):
    """A distance cutoff that reaches no neighbour, or that the data could not settle."""


class MovingUnitWarning(CausalsatWarning):
    """Units of a panel change their coordinates over time."""


class FootprintWarning(CausalsatWarning):
    """Projects that treat no cell."""


class PenaltyEdgeWarning(CausalsatWarning):
    """A penalty was chosen at the edge of its grid."""


class WeakInstrumentWarning(CausalsatWarning):
    """Instruments move the treatment too little for intervals around an estimate."""


class WeakFirstStageWarning(CausalsatWarning):
    """The treatment jumps too little at the cutoff for intervals around an effect per unit of it."""


class ManyInstrumentsWarning(CausalsatWarning):
    """More than one instrument per ten rows."""


class EmbeddingInstrumentWarning(CausalsatWarning):
    """An instrument was derived from images, which mostly move the outcome as well."""


class CollinearWarning(CausalsatWarning):
    """Columns that others determine were left out."""


class AboveThresholdWarning(CausalsatWarning):
    """The radius is so large that the limit of DRIVE is not the effect."""


class NearThresholdWarning(CausalsatWarning):
    """The radius is so close to its threshold that the limit law diverges."""


class ConvergenceWarning(CausalsatWarning):
    """An iterative fit stopped before its tolerance."""


class BandwidthWarning(CausalsatWarning):
    """A bandwidth with hardly a unit inside, or wider than the data."""


class FewDrawsWarning(CausalsatWarning):
    """So few draws that bands and p-values are coarse."""


class SmallUnitsWarning(CausalsatWarning):
    """Units with so few draws that their quantiles are biased towards the middle."""


class CompatibilityWarning(CausalsatWarning):
    """Numbers made the way other software makes them, known defects included."""


class RasterLayoutWarning(CausalsatWarning):
    """The layout of a raster makes chips expensive; the cure is named."""


class ChipSizeWarning(CausalsatWarning):
    """The chip size is not a whole number of pixels."""


class RasterCoverageWarning(CausalsatWarning):
    """Places without usable pixels."""


class EmbeddingQualityWarning(CausalsatWarning):
    """Embeddings with dead, constant or missing features."""


_collector: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("causalsat_warnings", default=None)


def warn(message: str, category: type[CausalsatWarning]) -> None:
    """Issue ``message`` once at the first caller's line outside the package, and note it for ``meta``."""
    notes = _collector.get()
    if notes is not None:
        if message in notes:
            return
        notes.append(message)
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the text of every warning issued by :func:`warn` inside the block (for ``meta["warnings"]``)."""
    notes: list[str] = []
    token = _collector.set(notes)
    try:
        yield notes
    finally:
        _collector.reset(token)


def nearest(value: object, allowed: Iterable[str]) -> str:
    """`` Did you mean "x"?`` for the closest allowed name, or an empty text."""
    match = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1, cutoff=0.5)
    return f' Did you mean "{match[0]}"?' if match else ""


def one_of(argument: str, value: Any, allowed: Iterable[str]) -> str:
    """``value`` if it is one of ``allowed``; else an :class:`OptionError` that lists them and suggests one."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    listed = ", ".join(f'"{n}"' for n in names)
    raise OptionError(f"{argument}={value!r} is not known; allowed: {listed}.{nearest(value, names)}")


def count(argument: str, value: Any, minimum: int = 0, maximum: int | None = None) -> int:
    """A whole number as ``int``: 200 and 200.0 pass; True, 200.5, NaN and R's missing integer do not."""
    fine = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or float(value) != int(value):
        raise OptionError(f"{argument}={value!r} must be a whole number of at least {minimum}.")
    if int(value) == _R_MISSING_INTEGER:
        raise OptionError(
            f"{argument}={value!r} is R's missing integer (NA_integer_); pass a number, or as.numeric(x) in R."
        )
    if int(value) < minimum or (maximum is not None and int(value) > maximum):
        upper = "" if maximum is None else f" and at most {maximum}"
        raise OptionError(f"{argument}={value!r} must be at least {minimum}{upper}.")
    return int(value)


def flag(argument: str, value: Any) -> bool:
    """True or False, NumPy's among them, as ``bool``; a text such as "no" or a number does not pass."""
    array = getattr(value, "ndim", None) == 0 and str(getattr(value, "dtype", "")) == "bool"
    if not isinstance(value, bool) and not array:
        raise OptionError(f"{argument}={value!r} must be True or False.")
    return bool(value)


def number(argument: str, value: Any, low: float, high: float, *, open_ends: bool = True) -> float:
    """A finite number inside ``(low, high)`` (``[low, high]`` when ``open_ends`` is false) as ``float``."""
    fine = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    inside = fine and ((low < value < high) if open_ends else (low <= value <= high))
    if not inside:
        left, right = ("(", ")") if open_ends else ("[", "]")
        raise OptionError(f"{argument}={value!r} must be a number in {left}{low:g}, {high:g}{right}.")
    return float(value)
