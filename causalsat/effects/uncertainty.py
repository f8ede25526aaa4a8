"""Intervals, p-values, simultaneous bands and adjusted p-values of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects.carried import Carried
from causalsat.effects.statistic_names import COLUMN
from causalsat.errors import OptionError, nearest, number, one_of
from causalsat.inference.intervals import INTERVALS, acceleration, interval

if TYPE_CHECKING:
    from causalsat.effects.table import EffectTable
    from causalsat.inference.joint import Wald

JOINT_COLUMNS = ("band_low", "band_high", "p_adjusted")


@dataclass(frozen=True)
class Tests:
    """Statistic, p-value and interval of each row, arrays (k,), with the reason of each NaN by row."""

    statistic: np.ndarray
    p_value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    unavailable: Mapping[int, str]


def compute_tests(
    method: str,
    estimate: np.ndarray,
    std_error: np.ndarray,
    carried: Carried,
    *,
    level: float,
    n_clusters: object = None,
    conf: tuple[np.ndarray, np.ndarray] | None = None,
    p_value: np.ndarray | None = None,
) -> Tests:
    """``statistic = (estimate - null) / std_error``, then the interval and its p-value, unless they are given."""
    usable = np.where(std_error > 0.0, std_error, np.nan)
    statistic = (estimate - carried.null) / usable
    if (conf is not None and p_value is not None) or estimate.shape[0] == 0:
        ends = (estimate, estimate) if conf is None else conf
        return Tests(statistic, estimate if p_value is None else p_value, *ends, {})
    if method not in INTERVALS and conf is None:
        listed = ", ".join(f'"{name}"' for name in INTERVALS)
        raise OptionError(f'interval="{method}" is not known; allowed: {listed}.{nearest(method, INTERVALS)}')
    low, high, p, why = _interval(
        method if method in INTERVALS else "normal", estimate, std_error, carried, level, n_clusters
    )
    if conf is not None:
        low, high = conf
    return Tests(statistic, p if p_value is None else p_value, low, high, why)


def _interval(
    method: str, estimate: np.ndarray, std_error: np.ndarray, carried: Carried, level: float, n_clusters: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Mapping[int, str]]:
    found = interval(
        method, estimate, std_error, level=level, draws=carried.draws, df=carried.df,
        acceleration=_acceleration(method, carried, n_clusters), draw_std_error=carried.draw_std_error,
        null=carried.null,
    )  # fmt: skip
    return found.low, found.high, found.p_value, found.unavailable


def _acceleration(method: str, carried: Carried, n_clusters: object) -> np.ndarray | None:
    """``ΣL³ / (6 (ΣL²)^{3/2})`` of the influence rows; with clusters only the estimator can sum them."""
    if method != "bca" or carried.acceleration is not None:
        return carried.acceleration
    if carried.influence is None or n_clusters not in (None, carried.influence.shape[0]):
        raise OptionError(
            'interval="bca" needs acceleration=, or influence= of independent rows; '
            'this table carries neither. Use "percentile", or refit with bca intervals.'
        )
    return acceleration(carried.influence)


def refusal(table: "EffectTable", kind: str, rows: np.ndarray | None = None) -> str:
    """Why the estimator said that ``kind`` is wrong for these rows (positions; None: all); "" when it did not.

    ``meta["refused_intervals"]`` maps a kind of interval, "joint" for bands or "statistic" for the ratio to a standard
    error, to its reason, to {"reason": ..., "rows": {index column: [values]}} when it concerns some rows only, or to a
    list of these.
    """
    asked = slice(None) if rows is None else rows
    return "; ".join(why for why, meant in refusals(table, kind).items() if meant[asked].any())


def refusals(table: "EffectTable", kind: str) -> dict[str, np.ndarray]:
    """Reason → (k,) bool: the rows for which the estimator refused ``kind``."""
    told = table.meta.get("refused_intervals", {}).get(kind) or []
    found: dict[str, np.ndarray] = {}
    for one in told if isinstance(told, list) else [told]:
        why, rows = (one, {}) if isinstance(one, str) else (str(one["reason"]), one["rows"])
        found[why] = _meant(table, rows) | found.get(why, False)
    return found


def refused_rows(table: "EffectTable", kind: str) -> np.ndarray:
    """(k,) bool: the rows for which the estimator refused ``kind``; all of them where a table lost the column."""
    meant = np.zeros(len(table), dtype=bool)
    for rows in refusals(table, kind).values():
        meant |= rows
    return meant


def _meant(table: "EffectTable", rows: Mapping[str, Any]) -> np.ndarray:
    """(k,) bool: the rows with one of these values in each of these index columns."""
    meant = np.ones(len(table), dtype=bool)
    for name, values in rows.items():
        if name in table.columns:
            meant &= np.isin(table[name].astype(str), [str(value) for value in values])
    return meant


def refuse_interval(table: "EffectTable", kind: str, rows: np.ndarray | None = None) -> None:
    """Raise OptionError when the estimator said that intervals of this kind ("joint": bands) are wrong for rows."""
    reason = refusal(table, kind, rows)
    if reason:
        what = "joint()" if kind == "joint" else f'interval method "{kind}"'
        raise OptionError(f"{what} is refused for these rows: {reason}")


def without_statistic(tests: Tests, refused: np.ndarray, reason: str) -> Tests:
    """``tests`` with NaN statistics, and why, where a ratio to a standard error is no statistic."""
    if not refused.any():
        return tests
    why = {int(i): reason for i in np.flatnonzero(refused)} | dict(tests.unavailable)
    return replace(tests, statistic=np.where(refused, np.nan, tests.statistic), unavailable=why)


def given_reasons(table: "EffectTable") -> dict[int, str]:
    """Row → the reason that was given for its missing estimate or standard error."""
    told = {int(row): why for row, why in table.meta["unavailable"].items()}
    return {row: why.get("estimate", why.get("std_error", "")) for row, why in told.items()}


def another_interval(table: "EffectTable", level: float | None, method: str | None) -> "EffectTable":
    """The same effects with another level or method; see :meth:`causalsat.EffectTable.interval`."""
    from causalsat.effects.build import assemble
    from causalsat.effects.rows import copied

    wanted = number("level", table.level if level is None else level, 0.0, 1.0)
    if method is None and wanted == table.level:
        return table
    kind = str(table.meta["interval"]) if method is None else one_of("method", method, INTERVALS)
    refuse_interval(table, kind)
    supplied = set(table.meta.get("supplied", []))
    if method is None and "conf" in supplied:
        other = 'or a method named here: method="normal", or "percentile" where there are draws'
        if refusal(table, "normal"):
            other = f"or result.with_level({wanted:g}) on the result that holds it"
        raise OptionError(
            f'The intervals of this table ("{kind}") came from the estimator, so another level needs a refit with '
            f"level={wanted:g}, {other}."
        )
    kept = table["p_value"] if method is None and "p_value" in supplied else None
    tests = compute_tests(
        kind, table["estimate"], table["std_error"], table.carried, level=wanted, p_value=kept,
        n_clusters=table.meta.get("n_clusters"),
    )  # fmt: skip
    tests = without_statistic(tests, refused_rows(table, "statistic"), refusal(table, "statistic"))
    fresh = {
        "statistic": tests.statistic,
        "p_value": tests.p_value,
        "conf_low": tests.low,
        "conf_high": tests.high,
    }
    columns = {n: fresh.get(n, v) for n, v in table.columns.items() if n not in (COLUMN, *JOINT_COLUMNS)}
    meta = {n: v for n, v in copied(table.meta).items() if n != "joint"} | {"level": wanted, "interval": kind}
    return assemble(
        table.index_names, columns, meta, table.carried, reasons=given_reasons(table), tests=tests,
        supplied=() if kept is None else ("p_value",),
    )  # fmt: skip


def joint(table: "EffectTable", level: float | None, method: str | None, seed: int) -> "EffectTable":
    """Bands and adjusted p-values over all rows; see :meth:`causalsat.EffectTable.joint`."""
    from causalsat.effects.build import freeze
    from causalsat.effects.rows import copied
    from causalsat.inference.joint import ADJUSTMENTS, adjusted_p_values, sup_t

    refuse_interval(table, "joint")
    base = table if level is None else another_interval(table, level, None)
    draws, covariance = base.draws, base.covariance
    kind = ("holm" if draws is None else "romano_wolf") if method is None else one_of("method", method, ADJUSTMENTS)
    bands = sup_t(
        base["estimate"], base["std_error"], level=base.level, draws=draws,
        covariance=covariance, seed=seed, df=float(base.carried.df.min()),
    )  # fmt: skip
    adjusted = adjusted_p_values(
        kind, base["estimate"], base["std_error"], base["p_value"], draws, null=base.carried.null
    )
    meta = copied(base.meta)
    meta["joint"] = {
        "level": base.level, "method": kind, "critical": bands.critical, "source": bands.source,
        "family": list(base.labels), "n_family": bands.n_family, "n_outside": len(base) - bands.n_family,
        "n_failed": bands.n_failed, "reason": bands.reason, "seed": seed,
    }  # fmt: skip
    columns = base.columns | {"band_low": bands.low, "band_high": bands.high, "p_adjusted": adjusted}
    return freeze(base.index_names, columns, meta, base.carried)


def with_bands(table: "EffectTable", low: np.ndarray, high: np.ndarray, critical: float, source: str) -> "EffectTable":
    """``table`` with simultaneous bands that its estimator computed; see :meth:`causalsat.EffectTable.with_bands`."""
    from causalsat.effects.build import freeze
    from causalsat.effects.carried import vector
    from causalsat.effects.rows import copied

    k = len(table)
    columns = table.columns | {"band_low": vector("band_low", low, k), "band_high": vector("band_high", high, k)}
    inside = np.isfinite(columns["band_low"])
    meta = copied(table.meta)
    meta["joint"] = {
        "level": table.level, "method": "none", "critical": float(critical), "source": source,
        "family": [name for name, kept in zip(table.labels, inside.tolist(), strict=True) if kept],
        "n_family": int(inside.sum()), "n_outside": int(k - inside.sum()), "n_failed": 0, "reason": "", "seed": 0,
    }  # fmt: skip
    return freeze(table.index_names, columns, meta, table.carried)


def wald_test(table: "EffectTable", expressions: Any) -> "Wald":
    """Joint test that all rows, or all expressions, equal their null; see :meth:`causalsat.EffectTable.wald`."""
    from causalsat.effects.contrasts import contrast
    from causalsat.inference.joint import wald

    tested = table if expressions is None else contrast(table, expressions, None, "normal")
    if tested.covariance is None:
        raise OptionError("wald() needs the covariance of the rows; this table carries none.")
    return wald(tested["estimate"] - tested.carried.null, tested.covariance)
