"""Plain values: what may stand in ``meta``, and how a column leaves as a list of exact built-ins."""

import datetime
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from causalsat.errors import DataError

_R_LARGEST_INTEGER = 2**31 - 1


def plain_meta(value: Any, where: str = "meta") -> Any:
    """``value`` as plain JSON-able Python (dict, list, str, int, float, bool, None); the input is not shared.

    Tuples and arrays become lists, NumPy scalars numbers, dates ISO text.

    Raises
    ------
    DataError
        For anything else; the message gives the place inside ``meta``.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise DataError(f"{where} has the key {key!r}; keys must be text. Use str(key).")
        return {str(key): plain_meta(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain_meta(value.tolist(), where)
    if isinstance(value, (list, tuple)):
        return [plain_meta(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return _plain_scalar(value, where)


def _plain_scalar(value: Any, where: str) -> Any:
    for kind, numpy_kind in ((bool, np.bool_), (int, np.integer), (float, np.floating), (str, np.str_)):
        if isinstance(value, (kind, numpy_kind)):
            return kind(value)
    raise DataError(f"{where} is a {type(value).__name__}, which JSON cannot hold; pass text, numbers, lists or dicts.")


def plain_column(values: np.ndarray) -> list[Any]:
    """A column as a list of one exact built-in type: all float, all int, all bool or all text.

    Integers beyond 2^31 - 1 make the whole column float, because R would wrap them silently.
    """
    if values.dtype.kind == "b":
        return [bool(v) for v in values]
    if values.dtype.kind in "iu":
        if values.size and int(np.abs(values).max()) > _R_LARGEST_INTEGER:
            return [float(v) for v in values]
        return [int(v) for v in values]
    if values.dtype.kind == "f":
        return [float(v) for v in values]
    return [str(v) for v in values]


def is_missing(value: Any) -> bool:
    """Whether a scalar is a floating NaN."""
    return isinstance(value, (float, np.floating)) and math.isnan(value)
