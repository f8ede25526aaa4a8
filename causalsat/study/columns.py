"""One column as numbers, labels or dates, with its missing values found whatever the frame calls them."""

import datetime
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError

_R_MISSING_INTEGER = -2147483648


@dataclass(frozen=True, eq=False)
class Column:
    """A column of n rows.

    Attributes
    ----------
    name : str
        Column name.
    kind : str
        "number", "bool", "text", "category", "date" or "mixed".
    values : ndarray (n,)
        int64 or float64, bool, object (str), datetime64[us]; undefined where missing.
    missing : ndarray (n,) bool
        Null, NaN, NaT or None.
    """

    name: str
    kind: str
    values: np.ndarray
    missing: np.ndarray

    def numbers(self, role: str) -> np.ndarray:
        """The column as float64 (n,), NaN where missing (raises DataError for text, dates, infinite, R's NA)."""
        if self.kind not in ("number", "bool"):
            raise DataError(_not_numeric(self, role))
        found = self.values.astype(np.float64)
        found[self.missing] = np.nan
        if np.isinf(found).any():
            rows = np.flatnonzero(np.isinf(found))
            raise DataError(
                f"{role} column {self.name!r} is infinite in {len(rows)} of {len(found)} rows (first: row "
                f"{int(rows[0])}, {found[rows[0]]}); a division by zero or log(0)? Set them to missing, or drop "
                "those rows."
            )
        self._refuse_r_missing(role)
        return found

    def codes(self, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes (n,) int64 of the sorted labels (g,), -1 where missing; whole floats and integers are one label."""
        if self.kind == "mixed":
            self._refuse_unknown_type(role)
            raise DataError(
                f"{role} column {self.name!r} mixes types ({_types(self.values, self.missing)}), so 1 and '1' could "
                "be two labels or one; convert it to text or to whole numbers."
            )
        self._refuse_r_missing(role)
        present = self.values[~self.missing]
        codes = np.full(len(self.values), -1, np.int64)
        if self.kind in ("text", "category"):
            labels = np.array(sorted(set(present.tolist())), dtype=str)
            where = {label: code for code, label in enumerate(labels.tolist())}
            codes[~self.missing] = np.fromiter((where[v] for v in present.tolist()), np.int64, len(present))
            return codes, labels
        if self.kind == "bool" or (self.kind == "number" and present.dtype.kind == "f" and _whole(present)):
            present = present.astype(np.int64)
        elif self.kind == "date":
            days = present.astype("datetime64[D]")
            present = days if bool((days == present).all()) else present
        labels, found = np.unique(present, return_inverse=True)
        codes[~self.missing] = found
        return codes, labels

    def dates(self, role: str) -> np.ndarray:
        """The column as datetime64[D] (n,), NaT where missing: dates, ISO text, or whole years."""
        found = np.full(len(self.values), np.datetime64("NaT"), "datetime64[D]")
        present = self.values[~self.missing]
        try:
            if self.kind == "number":
                self._refuse_r_missing(role)
                if not _whole(present) or not bool(((present >= 1000) & (present <= 9999)).all()):
                    raise ValueError("numbers must be four-digit years")
                days = (present.astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[D]")
            elif self.kind in ("date", "text", "category"):
                days = present.astype("datetime64[D]")
            else:
                raise ValueError(f"it holds {self.kind} values")
        except ValueError as error:
            raise DataError(
                f"{role} column {self.name!r} cannot be read as dates ({error}); give dates, ISO text such as "
                "2015-06-30, or whole years."
            ) from error
        found[~self.missing] = days
        return found

    def count_text(self, text: str) -> int:
        """How many rows hold exactly this text."""
        if self.kind not in ("text", "category"):
            return 0
        return int((self.values == text).sum())

    def _refuse_unknown_type(self, role: str) -> None:
        types = _types(self.values, self.missing)
        if ", " not in types:
            raise DataError(
                f"{role} column {self.name!r} holds values of type {types}, which are no labels; convert it to text, "
                "whole numbers or dates."
            )

    def _refuse_r_missing(self, role: str) -> None:
        if self.kind != "number":
            return
        rows = np.flatnonzero((self.values == _R_MISSING_INTEGER) & ~self.missing)
        if len(rows):
            raise DataError(
                f"{role} column {self.name!r} holds {_R_MISSING_INTEGER} in {len(rows)} of {len(self.values)} rows "
                f"(first: row {int(rows[0])}): that is R's missing integer (NA_integer_) after crossing into Python. "
                f"In R write data${self.name} <- as.numeric(data${self.name}) before the call."
            )


def column_of(series: Any, name: str) -> Column:
    """A narwhals series or a NumPy array as a :class:`Column`."""
    if isinstance(series, np.ndarray):
        return _from_array(series, name)
    import narwhals as nw

    dtype, missing = series.dtype, np.asarray(series.is_null().to_numpy(), dtype=bool)
    if dtype.is_integer():
        values = series.fill_null(0).to_numpy() if missing.any() else series.to_numpy()
        return _integers(np.asarray(values), missing, name)
    if dtype.is_float() or dtype == nw.Decimal:
        values = np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
        return Column(name, "number", values, missing | np.isnan(values))
    if dtype == nw.Boolean:
        values = np.asarray(series.fill_null(False).to_numpy() if missing.any() else series.to_numpy(), dtype=bool)
        return Column(name, "bool", values, missing)
    if dtype == nw.Datetime or dtype == nw.Date:
        return Column(name, "date", _times(series), missing)
    if dtype == nw.Categorical or dtype == nw.Enum:
        return Column(name, "category", _texts(series.to_list(), missing), missing)
    if dtype == nw.String:
        return Column(name, "text", _texts(series.to_list(), missing), missing)
    return _from_array(np.array(_objects(series.to_list()), dtype=object), name)


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _times(series: Any) -> np.ndarray:
    values = np.asarray(series.to_numpy())
    if values.dtype.kind != "M":
        values = np.array([np.datetime64("NaT") if v is None or v != v else np.datetime64(v) for v in values.tolist()])
    return values.astype("datetime64[us]")


def _texts(values: list[Any], missing: np.ndarray) -> np.ndarray:
    return _objects(["" if absent else _text(value) for value, absent in zip(values, missing.tolist())])


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def _integers(values: np.ndarray, missing: np.ndarray, name: str) -> Column:
    if values.dtype.kind not in "iu":
        values = values.astype(np.float64)
        values = np.where(np.isnan(values), 0.0, values)
    if values.dtype == np.uint64 and len(values) and int(values.max()) > np.iinfo(np.int64).max:
        # Hashes as 64-bit ids do not fit a signed integer; as text they stay apart.
        return Column(name, "text", _objects([str(value) for value in values.tolist()]), missing)
    return Column(name, "number", values.astype(np.int64), missing)


def _from_array(array: np.ndarray, name: str) -> Column:
    none = np.zeros(len(array), dtype=bool)
    if array.dtype.kind in "iu":
        return _integers(array, none, name)
    if array.dtype.kind == "f":
        values = array.astype(np.float64)
        return Column(name, "number", values, np.isnan(values))
    if array.dtype.kind == "b":
        return Column(name, "bool", array, none)
    if array.dtype.kind == "M":
        return Column(name, "date", array.astype("datetime64[us]"), np.isnat(array))
    return _from_objects(_objects(array.tolist()), name)


def _from_objects(array: np.ndarray, name: str) -> Column:
    values = array.tolist()
    missing = np.array([_is_missing(value) for value in values], dtype=bool)
    present = [value for value, absent in zip(values, missing.tolist()) if not absent]
    filled = array.copy()
    if all(isinstance(value, (bool, np.bool_)) for value in present):
        # A column with nothing in it counts as numbers: it is refused later as all missing.
        if not present:
            return Column(name, "number", np.full(len(values), np.nan), missing)
        filled[missing] = False
        return Column(name, "bool", filled.astype(bool), missing)
    if all(isinstance(value, numbers.Integral) and not isinstance(value, bool) for value in present):
        filled[missing] = 0
        return Column(name, "number", filled.astype(np.int64), missing)
    if all(isinstance(value, numbers.Number) and not isinstance(value, (bool, complex)) for value in present):
        filled[missing] = np.nan
        return Column(name, "number", filled.astype(np.float64), missing)
    if all(isinstance(value, str) for value in present):
        filled[missing] = ""
        return Column(name, "text", filled, missing)
    if all(isinstance(value, (datetime.date, np.datetime64)) for value in present):
        filled[missing] = np.datetime64("NaT")
        return Column(name, "date", filled.astype("datetime64[us]"), missing)
    return Column(name, "mixed", array, missing)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, (float, np.floating, np.datetime64)) or type(value).__name__ in ("NAType", "NaTType"):
        return type(value).__name__ == "NAType" or bool(value != value)
    return False


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.floor(values)).all() and (np.abs(values) < 2.0**53).all())


def _types(values: np.ndarray, missing: np.ndarray) -> str:
    return ", ".join(sorted({type(value).__name__ for value in values[~missing].tolist()}))


def _not_numeric(column: Column, role: str) -> str:
    present = column.values[~column.missing]
    texts = [value for value in present.tolist() if isinstance(value, str)]
    odd = [value for value in texts if not _parses(value)]
    shown = repr(odd[0] if odd else (texts[0] if texts else str(present[0])))
    if column.kind == "date":
        cure = "Give a number, for example the year."
    elif odd and len(odd) < len(present):
        cure = f"{len(odd)} rows hold no number; mend or blank them and convert the column."
    elif odd:
        cure = "Recode it to numbers, or use it as a covariate or cluster, where text is allowed."
    elif not texts:
        cure = "Convert it to numbers first."
    else:
        cure = f"Its texts look like numbers: convert it, for example data[{column.name!r}].astype(float)."
    return f"{role} column {column.name!r} is not numeric: it holds {column.kind} values such as {shown}. {cure}"


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
