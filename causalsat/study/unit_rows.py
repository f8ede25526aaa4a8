"""From a table of draws, or one row per unit beside its draws, to one row per unit."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, SmallUnitsWarning, warn
from causalsat.study.columns import Column
from causalsat.study.distributions import Histogram, QuantileMatrix
from causalsat.study.frame import Frame, read_frame
from causalsat.study.unit_draws import (
    BinnedDraws,
    MatrixDraws,
    UnitDraws,
    binned_draws,
    grouped_draws,
    matrix_draws,
    ragged_draws,
)

# Areas of pixels of 10 m and more share divisors that numbers of draws hardly ever do.
_SUSPECT = 10


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Units with their columns and draws.

    Attributes
    ----------
    frame : Frame
        One row per unit: the columns in use, and the places if all rows of a unit share one.
    draws : UnitDraws or None
        Draws of the units; None for a quantile matrix.
    matrix : QuantileMatrix or None
        Quantiles given by the caller.
    labels : ndarray (n,)
        Labels of the units; repeated where a unit stands at several cutoffs.
    unit : ndarray (n,) int64
        Codes of the labels.
    n_rows : int
        Rows of the table.
    lost : dict
        Reason to draws left out.
    data_hash : str
        SHA-256 of the columns in use and of the draws.
    """

    frame: Frame
    draws: UnitDraws | None
    matrix: QuantileMatrix | None
    labels: np.ndarray
    unit: np.ndarray
    n_rows: int
    lost: dict[str, int]
    data_hash: str


def open_units(
    data: Any,
    *,
    outcome: Any,
    unit: str | None,
    constant: Mapping[str, Sequence[str]],
    weights: Any = None,
    cutoff: str | None = None,
    count_weights: bool = False,
) -> UnitRows:
    """Bring any of the five shapes of data to one row per unit.

    Parameters
    ----------
    data : frame, mapping or path
        Long table of draws when ``outcome`` is a column name, else one row per unit.
    outcome : str, mapping, sequence, array (n, k), QuantileMatrix or Histogram
        Column of draws; unit label to draws; draws aligned with the rows; quantiles; counts.
    unit : str, optional
        Column that names the unit; None makes every row a unit.
    constant : mapping
        Role to columns that have one value per unit.
    weights : str, mapping, sequence or array, optional
        Weights of the draws, in the shape of ``outcome``.
    cutoff : str, optional
        Column of cutoffs: a unit then stands once at each of its cutoffs.
    count_weights : bool
        Weights are numbers of draws.

    Raises
    ------
    DataError
        A column that varies inside a unit (the first unit is named), a unit in several rows, draws that do not match
        the rows, infinite draws, negative weights.
    """
    frame = read_frame(data)
    if isinstance(outcome, str):
        _refuse_shared(outcome, weights, constant)
        return _from_long(frame, outcome, unit, constant, weights, cutoff, count_weights)
    outcome = outcome.to_numpy() if hasattr(outcome, "to_numpy") else outcome
    weights = weights.to_numpy() if hasattr(weights, "to_numpy") else weights
    return _from_units(frame, outcome, unit, constant, weights, cutoff, count_weights)


def _from_long(
    frame: Frame,
    outcome: str,
    unit: str | None,
    constant: Mapping[str, Sequence[str]],
    weights: Any,
    cutoff: str | None,
    count_weights: bool,
) -> UnitRows:
    if weights is not None and not isinstance(weights, str):
        raise OptionError("weights must name a column when outcome does.")
    columns = _columns(frame, constant)
    column = frame.column(outcome, "outcome")
    values = column.numbers("outcome")
    weight_columns = [] if weights is None else [frame.column(weights, "weights")]
    own = weight_columns[0].numbers("weights") if weight_columns else None
    if count_weights and own is not None:
        _refuse_parts_of_draws(own)
    codes, labels = _codes(frame, unit)
    used = np.flatnonzero(codes >= 0)
    lost = {f"unit {unit} is missing": frame.n - used.size} if used.size < frame.n else {}
    if not used.size:
        raise DataError(f"unit column {unit!r} is missing in all {frame.n} rows.")
    codes = codes[used]
    at_cutoff = _split_by_cutoff(codes, columns[cutoff], used) if cutoff is not None else codes
    first, position = _first_rows(at_cutoff)
    _refuse_varying(columns, constant, used, first, position, labels[codes], unit)
    draws, missing = grouped_draws(
        values[used], position, first.size, None if own is None else own[used], counts=count_weights
    )
    if missing:
        lost["draw or its weight is missing"] = missing
    digest = _digest(frame, [*columns.values(), column, *weight_columns])
    digest.update(codes.astype("<i8").tobytes())
    rows = used[first]
    places = _common_places(frame.lonlat, used, rows, position)
    units = Frame(rows.size, tuple(columns), dict(columns), places, {k: _part(c, rows) for k, c in columns.items()})
    own_unit = codes[first]
    return UnitRows(units, draws, None, labels[own_unit], own_unit, frame.n, lost, digest.hexdigest())


def _from_units(
    frame: Frame,
    outcome: Any,
    unit: str | None,
    constant: Mapping[str, Sequence[str]],
    weights: Any,
    cutoff: str | None,
    count_weights: bool,
) -> UnitRows:
    if isinstance(weights, str):
        raise OptionError(
            f"weights={weights!r} names a column, but outcome holds the draws themselves; give weights in the shape of "
            "outcome (for weights of units, unit_weights names the column)."
        )
    columns = _columns(frame, constant)
    codes, labels = _codes(frame, unit)
    if (codes < 0).any():
        raise DataError(f"unit column {unit!r} is missing in row {int(np.flatnonzero(codes < 0)[0])}.")
    key = _split_by_cutoff(codes, columns[cutoff], np.arange(frame.n)) if cutoff is not None else codes
    seen = np.bincount(key)
    if (seen > 1).any():
        row = int(np.flatnonzero(seen[key] > 1)[0])
        raise DataError(
            f"unit {labels[codes[row]]} stands in {int(seen[key[row]])} rows, but outcome gives one distribution per "
            "row; keep one row per unit, or pass a long table with a column of draws."
        )
    digest = _digest(frame, list(columns.values()))
    draws, matrix, missing = _given(outcome, weights, frame, labels, codes, digest, count_weights)
    units = Frame(frame.n, tuple(columns), dict(columns), frame.lonlat, dict(columns))
    lost = {"draw or its weight is missing": missing} if missing else {}
    return UnitRows(units, draws, matrix, labels[codes], codes, frame.n, lost, digest.hexdigest())


def _given(
    outcome: Any, weights: Any, frame: Frame, labels: np.ndarray, codes: np.ndarray, digest: Any, counts: bool
) -> tuple[UnitDraws | None, QuantileMatrix | None, int]:
    if isinstance(outcome, QuantileMatrix | Histogram):
        if weights is not None:
            raise OptionError(f"weights have no meaning for a {type(outcome).__name__}; leave them out.")
        _check_length(len(outcome), frame.n)
        if isinstance(outcome, Histogram):
            _update(digest, outcome.edges, outcome.counts)
            return _binned(outcome, digest), None, 0
        _update(digest, outcome.quantiles, outcome.values)
        return None, outcome, 0
    if isinstance(outcome, np.ndarray) and outcome.ndim == 2:
        _check_length(len(outcome), frame.n)
        _update(digest, outcome)
        weights = None if weights is None else np.asarray(weights)
        found, missing = matrix_draws(outcome, weights)
        if counts and weights is not None:
            _refuse_parts_of_draws(weights)
        return MatrixDraws(found.values, found.index, found.sizes, found.weights, counts), None, missing
    parts = _parts("outcome", outcome, labels, codes, frame.n)
    own = None if weights is None else _parts("weights", weights, labels, codes, frame.n)
    if counts and own is not None:
        _refuse_parts_of_draws(np.concatenate([np.zeros(0), *own]))
    ragged, missing = ragged_draws(parts, own, counts=counts)
    _update(digest, ragged.values, ragged.sizes)
    return ragged, None, missing


def _binned(outcome: Histogram, digest: Any) -> BinnedDraws:
    """Draws of a histogram; its numbers are counts, or areas and shares of ``n_pixels``."""
    if outcome.n_pixels is not None:
        _update(digest, outcome.n_pixels)
        totals = outcome.counts.sum(axis=1)
        same = bool((np.abs(totals - outcome.n_pixels) <= 1e-6 * totals).all()) and _common_divisor(outcome.counts) > 0
        return binned_draws(outcome.centres, outcome.counts, None if same else outcome.n_pixels)
    divisor = _common_divisor(outcome.counts)
    how = "Histogram(..., n_pixels=...), from the column n_pixels of the summary of pixel_distributions"
    if divisor == 0:
        raise DataError(
            "outcome is a Histogram whose counts are not whole numbers, so they are areas or shares of pixels, and "
            f'how many pixels stand behind each unit is not known: say it by {how}, or ask for weight="count".'
        )
    if divisor >= _SUSPECT:
        warn(
            f"every count of the Histogram is a multiple of {divisor}. If the numbers are areas, the units have "
            f"far fewer draws than they say, and warnings of small units and the grid of quantiles miss it: use {how}.",
            SmallUnitsWarning,
        )
    return binned_draws(outcome.centres, outcome.counts)


def _common_divisor(counts: np.ndarray) -> int:
    """Greatest whole number that divides all counts (1 where all are zero); 0 where some are not whole."""
    found = 0
    step = max(1, (1 << 20) // counts.shape[1])
    for first in range(0, len(counts), step):
        whole = np.rint(counts[first : first + step])
        if (np.abs(whole - counts[first : first + step]) > 1e-9 * np.maximum(whole, 1.0)).any():
            return 0
        if found != 1:
            found = int(np.gcd(found, np.gcd.reduce(whole.astype(np.int64), axis=None)))
    return max(found, 1)


def _refuse_parts_of_draws(weights: np.ndarray) -> None:
    """Refuse weights that are said to be numbers of draws and are not whole (raises DataError)."""
    given = np.where(np.isfinite(weights), weights, 0.0)
    odd = np.abs(given - np.rint(given)) > 1e-9
    if odd.any():
        raise DataError(
            f"count_weights=True says that weights are numbers of draws, but {given[odd].flat[0]:g} is not whole "
            f"({int(odd.sum())} such weights). Leave count_weights out: weights are then shares or areas of draws."
        )


def _parts(argument: str, given: Any, labels: np.ndarray, codes: np.ndarray, n: int) -> list[np.ndarray]:
    if isinstance(given, Mapping):
        by_text = {str(key): value for key, value in given.items()}
        if len(by_text) < len(given):
            texts = sorted(str(key) for key in given)
            twice = next(text for text, after in pairwise(texts) if text == after)
            keys = ", ".join(repr(key) for key in given if str(key) == twice)
            raise DataError(
                f"{argument} has several entries for the unit {twice!r} (keys {keys}): keys are compared as text. Keep "
                "one of them."
            )
        absent = [str(label) for label in labels.tolist() if str(label) not in by_text]
        if absent:
            raise DataError(f"{argument} has no entry for unit {absent[0]!r} ({len(absent)} such units).")
        rows = [by_text[str(labels[code])] for code in codes.tolist()]
    elif isinstance(given, Sequence) or (isinstance(given, np.ndarray) and given.ndim == 1):
        _check_length(len(given), n, argument)
        rows = list(given)
    else:
        raise DataError(
            f"{argument} is a {type(given).__name__}; give a column name, a mapping of unit to draws, a list of "
            "arrays, an array (n, k), a QuantileMatrix or a Histogram."
        )
    parts = []
    for i, row in enumerate(rows):
        try:
            part = np.atleast_1d(np.asarray(row, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise DataError(f"{argument} of row {i} cannot be read as numbers ({error}).") from error
        if part.ndim != 1:
            raise DataError(f"{argument} of row {i} has shape {part.shape}; give one-dimensional draws.")
        parts.append(part)
    return parts


def _columns(frame: Frame, constant: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    return {name: frame.column(name, role) for role, names in constant.items() for name in names}


def _codes(frame: Frame, unit: str | None) -> tuple[np.ndarray, np.ndarray]:
    if unit is None:
        return np.arange(frame.n), np.arange(frame.n)
    return frame.column(unit, "unit").codes("unit")


def _split_by_cutoff(codes: np.ndarray, column: Column, rows: np.ndarray) -> np.ndarray:
    """Codes of unit and cutoff together, in the order of units."""
    own = column.numbers("cutoff")[rows]
    levels, which = np.unique(own, return_inverse=True)
    return np.unique(codes * max(levels.size, 1) + which, return_inverse=True)[1].astype(np.int64)


def _first_rows(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, first, position = np.unique(codes, return_index=True, return_inverse=True)
    return first.astype(np.int64), position.astype(np.int64)


def _refuse_shared(outcome: str, weights: Any, constant: Mapping[str, Sequence[str]]) -> None:
    for role, names in constant.items():
        for other, name in (("outcome", outcome), ("weights", weights)):
            if isinstance(name, str) and name in names:
                raise DataError(f"Column {name!r} is both {other} and {role}; a column plays one of these roles.")
    if outcome == weights:
        raise DataError(f"Column {outcome!r} is both outcome and weights; a column plays one of these roles.")


def _refuse_varying(
    columns: Mapping[str, Column],
    constant: Mapping[str, Sequence[str]],
    used: np.ndarray,
    first: np.ndarray,
    position: np.ndarray,
    labels: np.ndarray,
    unit: str | None,
) -> None:
    if first.size == used.size:
        return
    for role, names in constant.items():
        for name in names:
            values, missing = columns[name].values[used], columns[name].missing[used]
            start = first[position]
            differs = (missing != missing[start]) | (~missing & ~missing[start] & (values != values[start]))
            if differs.any():
                where = np.flatnonzero(differs)
                row = int(where[np.argmin(position[where])])
                raise DataError(
                    f"{role} column {name!r} varies inside unit {labels[row]} of {unit!r} "
                    f"({_shown(values, missing, int(start[row]))} and {_shown(values, missing, row)}; "
                    f"{np.unique(position[where]).size} of {first.size} units vary). It must have one value per unit: "
                    "summarise it by unit first, or name another unit."
                )


def _shown(values: np.ndarray, missing: np.ndarray, row: int) -> str:
    return "missing" if missing[row] else str(values[row])


def _common_places(
    lonlat: np.ndarray | None, used: np.ndarray, rows: np.ndarray, position: np.ndarray
) -> np.ndarray | None:
    """Places of the units when all rows of a unit share one; a table of pixels has none of its units."""
    if lonlat is None:
        return None
    places = lonlat[rows]
    same = (lonlat[used] == places[position]) | (np.isnan(lonlat[used]) & np.isnan(places[position]))
    return places if bool(same.all()) else None


def _part(column: Column, rows: np.ndarray) -> Column:
    return Column(column.name, column.kind, column.values[rows], column.missing[rows])


def _check_length(found: int, n: int, argument: str = "outcome") -> None:
    if found != n:
        raise DataError(f"{argument} holds {found} units and data {n} rows; give one distribution per row.")


def _digest(frame: Frame, columns: Sequence[Column]) -> Any:
    digest = hashlib.sha256()
    for column in sorted(columns, key=lambda column: column.name):
        digest.update(f"{column.name}\0".encode())
        if column.kind in ("number", "bool"):
            numbers = np.where(column.missing, np.nan, column.values.astype(np.float64))
            _update(digest, numbers)
        else:
            codes, labels = column.codes("data")
            digest.update("\0".join(str(label) for label in labels.tolist()).encode())
            digest.update(codes.astype("<i8").tobytes())
    if frame.lonlat is not None:
        _update(digest, frame.lonlat)
    return digest


def _update(digest: Any, *arrays: np.ndarray) -> None:
    for array in arrays:
        step = max(1, (1 << 20) // max(1, int(np.prod(array.shape[1:]))))
        for first in range(0, len(array), step):
            digest.update(np.ascontiguousarray(array[first : first + step]).tobytes())
