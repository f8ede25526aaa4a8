"""The R boundary: only plain Python leaves, matrices travel as bytes.

reticulate converts exact built-ins (``float, int, str, bool, list, dict, bytearray``) on every version; NumPy and
pandas objects only on some. Nothing here knows a verb: R calls the verbs themselves and passes what they return
through :func:`plain`, or reads ``table.to_dict()``, which follows the same rules.
"""

import dataclasses
import datetime
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError

LARGEST_INTEGER = 2**31 - 1
MISSING_INTEGER = -(2**31)


def r_companion_path() -> str:
    """Path of the R companion script; in R: ``source(cs$r_companion_path())``.

    Examples
    --------
    >>> r_companion_path().endswith("causalsat.R")
    True
    """
    return str(Path(__file__).resolve().parent.parent / "r" / "causalsat.R")


def plain(value: Any) -> Any:
    """``value`` as exact built-ins that R receives unharmed.

    Tables become their ``to_dict()``; data classes, mappings and data frames become dicts with text keys; sequences
    and vectors become lists; matrices become ``{"data": bytearray, "shape": [n, d]}`` (see :func:`matrix_to_bytes`);
    NumPy and JAX scalars become numbers; dates ISO text; paths text. Inside a list, numbers of mixed kind become
    float, missing numbers NaN, missing text ``""``. An integer beyond 2^31 - 1, which R would wrap silently, becomes
    float (with all of its list). A ``None`` in a dict is left out, because R drops it; alone it stays ``None``.

    Raises
    ------
    DataError
        For an object that has no plain form; the message names its type.

    Examples
    --------
    >>> plain({"n": 3_000_000_000, "x": (1, 2.5, None), "gone": None})
    {'n': 3000000000.0, 'x': [1.0, 2.5, nan]}
    """
    if value is None or type(value) in (str, bool, bytearray):
        return value
    if hasattr(value, "to_dict") and not isinstance(value, type):
        return _table(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {_key(name): plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, (bytes, memoryview)):
        return bytearray(value)
    if hasattr(value, "__array__") and not isinstance(value, (str, np.generic)):
        return _array(np.asarray(value))
    if isinstance(value, Iterable) and not isinstance(value, (str, np.str_)):
        return plain_list(list(value))
    return _scalar(value)


def plain_list(values: Sequence[Any]) -> list[Any]:
    """A list whose elements are all float, all int, all bool or all text where that is possible."""
    items = [plain(item) for item in values]
    present = [item for item in items if item is not None]
    if not present:
        return [math.nan] * len(items)
    if all(isinstance(item, str) for item in present):
        return ["" if item is None else item for item in items]
    if len(present) == len(items) and len({type(item) for item in items}) == 1 and not isinstance(items[0], float):
        return items
    if all(isinstance(item, (bool, int, float)) for item in present):
        return [math.nan if item is None else float(item) for item in items]
    return [item for item in items if item is not None]


def _table(value: Any) -> Any:
    try:
        return plain(value.to_dict(orient="list"))
    except TypeError:
        return plain(value.to_dict())


def _key(name: Any) -> str:
    if isinstance(name, (str, numbers.Real)):
        return str(name)
    raise DataError(f"A key of type {type(name).__name__} cannot cross to R; use text.")


def _array(array: np.ndarray) -> Any:
    if array.ndim == 0:
        return _scalar(array.item())
    if array.ndim == 1:
        kind = array.dtype.kind
        if kind == "M":
            return ["" if np.isnat(item) else str(item) for item in array]
        return plain_list(array.tolist())
    if array.ndim == 2 and array.dtype.kind in "iufb":
        return {"data": matrix_to_bytes(array), "shape": [int(length) for length in array.shape]}
    raise DataError(f"An array of {array.dtype} with shape {array.shape} cannot cross to R; pass vectors or matrices.")


def _scalar(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value) if abs(int(value)) <= LARGEST_INTEGER else float(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, (str, np.str_, Path)):
        return str(value)
    if isinstance(value, (datetime.date, datetime.datetime, np.datetime64)):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    raise DataError(f"A {type(value).__name__} has no plain form for R; convert it to numbers, text, lists or dicts.")


def draws_of(table: Any) -> dict[str, Any] | None:
    """The bootstrap draws (b, k) of a table as ``{"data", "shape"}``, or None."""
    return None if table.draws is None else plain(table.draws)


def matrix_to_bytes(matrix: Any) -> bytearray:
    """A matrix as little-endian float64 bytes, column by column.

    R: ``matrix(readBin(b, "double", n = prod(shape), size = 8, endian = "little"), nrow = shape[[1]])``. It must be a
    ``bytearray``: reticulate before 1.39 leaves ``bytes`` opaque.

    Examples
    --------
    >>> matrix_from_bytes(matrix_to_bytes([[1.0, 2.0]]), [1, 2])
    array([[1., 2.]])
    """
    array = np.asarray(matrix, dtype="<f8")
    if array.ndim != 2:
        raise DataError(f"matrix_to_bytes() needs a matrix; this has shape {array.shape}.")
    return bytearray(array.tobytes(order="F"))


def matrix_from_bytes(buffer: bytes | bytearray | memoryview, shape: Sequence[float]) -> np.ndarray:
    """The matrix (n, d), C-ordered float64, whose column-major bytes R wrote with ``writeBin(..., size = 8)``.

    Raises
    ------
    DataError
        The number of bytes is not 8 n d.
    """
    n, d = whole_numbers("shape", shape)
    if len(buffer) != 8 * n * d:
        raise DataError(f"buffer holds {len(buffer)} bytes; a {n} x {d} matrix of doubles has {8 * n * d}.")
    return np.array(np.frombuffer(buffer, dtype="<f8").reshape((n, d), order="F"), dtype=np.float64, order="C")


def whole_numbers(argument: str, values: Sequence[Any] | np.ndarray) -> list[int]:
    """Whole numbers as ints; R's missing integer is refused with its fix.

    Raises
    ------
    OptionError
        A number that is not whole, or -2147483648, which is how NA_integer_ arrives from R.
    """
    found = []
    for value in values:
        number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
        if not math.isfinite(number) or number != math.floor(number):
            raise OptionError(f"{argument} holds {value!r}; whole numbers are needed.")
        if number == MISSING_INTEGER:
            raise OptionError(
                f"{argument} holds {MISSING_INTEGER}, which is how R's missing integer (NA_integer_) arrives; "
                "in R, use as.numeric(x), or remove the missing values."
            )
        found.append(int(number))
    return found
