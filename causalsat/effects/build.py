"""Validating the parts of an effect table and freezing them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalsat.effects.carried import Carried, matrix, read_only, vector
from causalsat.effects.plain import is_missing, plain_meta
from causalsat.effects.statistic_names import name_column
from causalsat.effects.table import RESERVED, EffectTable
from causalsat.effects.uncertainty import Tests, compute_tests
from causalsat.errors import DataError, number

Reasons = dict[int, dict[str, str]]
Given = Mapping[str, Sequence[Any] | np.ndarray]


def build(
    index: Given,
    *,
    term: str | Sequence[str] | np.ndarray,
    estimate: ArrayLike,
    std_error: ArrayLike,
    n_obs: ArrayLike,
    level: float,
    df: ArrayLike | None,
    covariance: ArrayLike | None,
    draws: ArrayLike | None,
    influence: ArrayLike | None,
    interval: str,
    conf: tuple[ArrayLike, ArrayLike] | None,
    p_value: ArrayLike | None,
    statistic: ArrayLike | None,
    statistic_name: str | Sequence[str] | None,
    unavailable: Mapping[int, str] | None,
    places: ArrayLike | None,
    meta: Mapping[str, Any] | None,
    acceleration: ArrayLike | None,
    draw_std_error: ArrayLike | None,
    null: ArrayLike,
) -> EffectTable:
    """See :meth:`causalsat.EffectTable.build`, which documents every argument."""
    effect = vector("estimate", estimate, None)
    k = effect.shape[0]
    carried = Carried(
        df=vector("df", np.inf if df is None else df, k),
        null=vector("null", null, k),
        covariance=matrix("covariance", covariance, (k, k)),
        draws=matrix("draws", draws, (None, k)),
        influence=matrix("influence", influence, (None, k)),
        places=matrix("places", places, (k, 2)),
        acceleration=None if acceleration is None else vector("acceleration", acceleration, k),
        draw_std_error=matrix("draw_std_error", draw_std_error, (None, k)),
    )
    facts = {**plain_meta({} if meta is None else meta), "level": number("level", level, 0.0, 1.0)}
    facts["interval"] = str(interval)
    given = [name for name, value in (("conf", conf), ("p_value", p_value)) if value is not None]
    _check_covariance(carried.covariance, vector("std_error", std_error, k))
    error, reasons = _checked_errors(effect, vector("std_error", std_error, k), unavailable)
    tests = compute_tests(
        interval, effect, error, carried, level=facts["level"], n_clusters=facts.get("n_clusters"),
        conf=None if conf is None else (vector("conf", conf[0], k), vector("conf", conf[1], k)),
        p_value=None if p_value is None else vector("p_value", p_value, k),
    )  # fmt: skip
    if statistic is not None:
        tests = replace(tests, statistic=vector("statistic", statistic, k))
    columns = _columns(index, term, effect, error, tests, _counts(n_obs, k))
    columns |= name_column(statistic_name, tests.statistic, statistic is not None)
    return assemble(tuple(index), columns, facts, carried, reasons=reasons, tests=tests, supplied=given)


def assemble(
    index_names: tuple[str, ...],
    columns: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    carried: Carried,
    *,
    reasons: Mapping[int, str],
    tests: Tests | None = None,
    supplied: Iterable[str] = (),
) -> EffectTable:
    """Freeze validated columns into a table, adding the reason of every NaN to ``meta["unavailable"]``."""
    facts = {name: value for name, value in meta.items() if name not in ("unavailable", "supplied")}
    if supplied:
        facts["supplied"] = list(supplied)
    facts["unavailable"] = all_reasons(columns, reasons, {} if tests is None else tests.unavailable)
    return freeze(index_names, columns, facts, carried)


def freeze(
    index_names: tuple[str, ...], columns: Mapping[str, np.ndarray], meta: dict[str, Any], carried: Carried
) -> EffectTable:
    """A table of read-only columns in which no two rows are the same effect."""
    frozen = {name: read_only(values) for name, values in columns.items()}
    refuse_repeats(index_names, frozen)
    return EffectTable(index_names, frozen, meta, carried)


def _columns(
    index: Given,
    term: str | Sequence[str] | np.ndarray,
    estimate: np.ndarray,
    std_error: np.ndarray,
    tests: Tests,
    n_obs: np.ndarray,
) -> dict[str, np.ndarray]:
    k = estimate.shape[0]
    columns = {name: index_column(name, values, k) for name, values in index.items()}
    words = np.full(k, term) if isinstance(term, str) else np.asarray(term, dtype=str)
    if words.shape != (k,):
        raise DataError(f"term has shape {words.shape}; the table needs {k} texts, one per row, or one text.")
    return columns | {
        "term": words,
        "estimate": estimate,
        "std_error": std_error,
        "statistic": tests.statistic,
        "p_value": tests.p_value,
        "conf_low": tests.low,
        "conf_high": tests.high,
        "n_obs": n_obs,
    }


def index_column(name: str, values: Sequence[Any] | np.ndarray, k: int) -> np.ndarray:
    """An index column as text, int64, float64 or bool of length k."""
    if not isinstance(name, str) or not name or name in RESERVED or name.startswith("_"):
        raise DataError(f"{name!r} cannot name an index column; it is empty, reserved or starts with an underscore.")
    array = np.asarray([str(v) for v in values] if any(isinstance(v, str) for v in values) else values)
    if array.shape != (k,):
        raise DataError(f'Index column "{name}" has shape {array.shape}; the table needs {k} values, one per row.')
    kinds = {"U": np.str_, "T": np.str_, "i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}
    if array.dtype.kind not in kinds:
        if k == 0:
            return array.astype(np.str_)
        raise DataError(f'Index column "{name}" holds {array.dtype}; it must be text, numbers or booleans.')
    return array.astype(kinds[array.dtype.kind] if array.dtype.kind != "U" else array.dtype)


def _counts(n_obs: ArrayLike, k: int) -> np.ndarray:
    counts = vector("n_obs", n_obs, k)
    whole = np.isfinite(counts)
    if not whole.all() or (counts < 0).any() or (counts != np.floor(counts)).any():
        raise DataError(f"n_obs={counts.tolist()} must be whole numbers of at least 0.")
    return counts.astype(np.int64)


def _checked_errors(
    estimate: np.ndarray, std_error: np.ndarray, unavailable: Mapping[int, str] | None
) -> tuple[np.ndarray, dict[int, str]]:
    """Standard errors (NaN wherever the estimate is) and the reasons given, complete and in range."""
    reasons = {int(row): str(text) for row, text in (unavailable or {}).items()}
    outside = sorted(row for row in reasons if not 0 <= row < estimate.shape[0])
    if outside:
        raise DataError(f"unavailable names rows {outside}; the table has rows 0 to {estimate.shape[0] - 1}.")
    if (std_error < 0).any():
        raise DataError(f"std_error is negative in rows {np.flatnonzero(std_error < 0).tolist()}.")
    error = np.where(np.isnan(estimate), np.nan, std_error)
    silent = [int(row) for row in np.flatnonzero(np.isnan(error)) if not reasons.get(int(row))]
    if silent:
        raise DataError(
            f"Rows {silent} have a NaN estimate or std_error without a reason; pass unavailable={{row: why}}."
        )
    return error, reasons


def _check_covariance(covariance: np.ndarray | None, std_error: np.ndarray) -> None:
    """The diagonal of the covariance must be the squared standard errors, or contrasts would contradict the rows."""
    if covariance is None:
        return
    diagonal = np.diag(covariance)
    known = np.isfinite(diagonal) & np.isfinite(std_error)
    wrong = known & ~np.isclose(diagonal, std_error**2, rtol=1e-6, atol=0.0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"covariance[{row}, {row}]={diagonal[row]:.6g} is not the square of std_error[{row}]={std_error[row]:.6g}; "
            "scale both with the same small-sample factor."
        )


def all_reasons(
    columns: Mapping[str, np.ndarray], reasons: Mapping[int, str], from_interval: Mapping[int, str]
) -> dict[str, dict[str, str]]:
    """Row number as text → column → reason, for every NaN of a numeric result column."""
    found: dict[str, dict[str, str]] = {}
    for name in ("estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"):
        for row in np.flatnonzero(np.isnan(columns[name])):
            i = int(row)
            found.setdefault(str(i), {})[name] = _reason(name, i, columns, reasons, from_interval)
    return found


def _reason(
    name: str, row: int, columns: Mapping[str, np.ndarray], reasons: Mapping[int, str], other: Mapping[int, str]
) -> str:
    if np.isnan(columns["estimate"][row]):
        return reasons[row]
    if name == "std_error":
        return reasons[row]
    if name in ("conf_low", "conf_high", "p_value") and row in other:
        return other[row]
    if np.isnan(columns["std_error"][row]):
        return f"needs the standard error: {reasons[row]}"
    if columns["std_error"][row] == 0.0:
        return "the standard error is zero"
    return other.get(row, reasons.get(row, "not computed by this estimator"))


def refuse_repeats(index_names: tuple[str, ...], columns: Mapping[str, np.ndarray]) -> None:
    """DataError when two rows share every index value and the term."""
    seen: dict[tuple[Any, ...], int] = {}
    for i, key in enumerate(identities(index_names, columns)):
        if key in seen:
            named = dict(zip((*index_names, "term"), key))
            raise DataError(f"Rows {seen[key]} and {i} are both {named}; add an index column that tells them apart.")
        seen[key] = i


def identities(index_names: tuple[str, ...], columns: Mapping[str, np.ndarray]) -> list[tuple[Any, ...]]:
    """The index values and the term of each row; NaN stands as text so that it equals itself."""
    lists = [columns[name].tolist() for name in (*index_names, "term")]
    return [tuple("NaN" if is_missing(value) else value for value in key) for key in zip(*lists)]
