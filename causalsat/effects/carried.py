"""The arrays that travel with an effect table so that nothing has to be fitted again."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from causalsat.errors import DataError

BY_DRAW = ("draws", "draw_std_error")


@dataclass(frozen=True, eq=False)
class Carried:
    """Arrays along the k rows of a table (shapes as in :class:`causalsat.EffectTable`); read-only float64."""

    df: np.ndarray
    null: np.ndarray
    covariance: np.ndarray | None = None
    draws: np.ndarray | None = None
    influence: np.ndarray | None = None
    places: np.ndarray | None = None
    acceleration: np.ndarray | None = None
    draw_std_error: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            array = getattr(self, field.name)
            if array is not None:
                object.__setattr__(self, field.name, read_only(array))

    def take(self, rows: np.ndarray) -> "Carried":
        """The same arrays for the rows at these positions."""
        taken: dict[str, np.ndarray | None] = {}
        for field in fields(self):
            array = getattr(self, field.name)
            if array is None:
                taken[field.name] = None
            elif field.name == "covariance":
                taken[field.name] = array[np.ix_(rows, rows)]
            elif field.name in (*BY_DRAW, "influence"):
                taken[field.name] = array[:, rows]
            else:
                taken[field.name] = array[rows]
        return Carried(**taken)  # type: ignore[arg-type]


def read_only(array: np.ndarray) -> np.ndarray:
    """A C-ordered array that refuses to be written; a writable one is copied, so nobody else can change it."""
    if not array.flags.writeable and array.flags.c_contiguous:
        return array
    frozen = np.array(array, order="C")
    frozen.setflags(write=False)
    return frozen


def vector(name: str, values: ArrayLike, k: int | None) -> np.ndarray:
    """``values`` as float64 (k,); a single number is repeated. Another length is a DataError."""
    array = _floats(name, values)
    if array.ndim == 0 and k is not None:
        array = np.full(k, float(array))
    if array.ndim != 1 or (k is not None and array.shape[0] != k):
        wanted = "one number per row" if k is None else f"{k} numbers, one per row"
        raise DataError(f"{name} has shape {array.shape}; the table needs {wanted}.")
    return array


def matrix(name: str, values: ArrayLike | None, shape: tuple[int | None, int]) -> np.ndarray | None:
    """``values`` as float64 with this shape (None is free), or None. Another shape is a DataError."""
    if values is None:
        return None
    array = _floats(name, values)
    if array.ndim != 2 or array.shape[1] != shape[1] or (shape[0] is not None and array.shape[0] != shape[0]):
        rows = "any number of" if shape[0] is None else str(shape[0])
        raise DataError(f"{name} has shape {array.shape}; it needs {rows} rows and {shape[1]} columns.")
    return array


def _floats(name: str, values: ArrayLike) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must hold numbers only ({error}).") from error
