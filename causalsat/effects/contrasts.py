"""Linear combinations of the rows of a table."""

from collections.abc import Sequence

import numpy as np

from causalsat.effects.build import assemble
from causalsat.effects.carried import Carried
from causalsat.effects.expression import Linear, is_word, parse
from causalsat.effects.rows import copied, show_value
from causalsat.effects.table import EffectTable
from causalsat.effects.uncertainty import compute_tests, refusal, refuse_interval, without_statistic
from causalsat.errors import OptionError, number
from causalsat.inference.intervals import INTERVALS


def contrast(
    table: EffectTable, expression: str | Sequence[str], level: float | None, method: str | None
) -> EffectTable:
    """``L θ + c`` for each expression; see :meth:`causalsat.EffectTable.contrast`."""
    texts = [expression] if isinstance(expression, str) else list(expression)
    linear = [parse(text, table.labels) for text in texts]
    used = np.unique(np.concatenate([e.rows for e in linear])).astype(np.int64)
    kind = _method(table, method, used)
    width = number("level", table.level if level is None else level, 0.0, 1.0)
    carried = _carried(table, linear)
    estimate = np.array([_dot(e, table["estimate"]) + e.constant for e in linear])
    std_error, sources = _std_errors(table, linear, carried)
    reasons = _reasons(table, linear, estimate, std_error)
    std_error = np.where(np.isnan(estimate), np.nan, std_error)
    n_clusters = table.meta.get("n_clusters")
    tests = compute_tests(kind, estimate, std_error, carried, level=width, n_clusters=n_clusters)
    no_ratio = [refusal(table, "statistic", e.rows) for e in linear]
    tests = without_statistic(tests, np.array([bool(why) for why in no_ratio]), max(no_ratio, default=""))
    meta = {name: value for name, value in copied(table.meta).items() if name != "joint"}
    meta |= {"level": width, "interval": kind}
    if "refused_intervals" in meta:
        told = {name: refusal(table, name, used) for name in meta["refused_intervals"]}
        meta["refused_intervals"] = {name: why for name, why in told.items() if why}
    meta["contrast"] = {"expressions": [e.written(table.labels) for e in linear], "std_error": sources}
    columns = _index(table, linear) | {
        "estimate": estimate,
        "std_error": std_error,
        "statistic": tests.statistic,
        "p_value": tests.p_value,
        "conf_low": tests.low,
        "conf_high": tests.high,
        "n_obs": np.array([table["n_obs"][e.rows].min() for e in linear], dtype=np.int64),
    }
    return assemble(table.index_names, columns, meta, carried, reasons=reasons, tests=tests)


def _method(table: EffectTable, method: str | None, used: np.ndarray) -> str:
    kind = str(table.meta["interval"]) if method is None else method
    if method is None and kind not in INTERVALS:
        raise OptionError(
            f'The intervals of this table ("{kind}") came from the estimator and have no rule for a contrast; '
            f"{_offered(table, used)}."
        )
    refuse_interval(table, kind, used)
    return kind


def _offered(table: EffectTable, used: np.ndarray) -> str:
    """The methods that the estimator did not refuse for the rows in use, in words."""
    refused = [kind for kind in INTERVALS if refusal(table, kind, used)]
    drawn = " or ".join(f'"{kind}"' for kind in ("percentile", "basic") if kind not in refused)
    plain = "" if "normal" in refused else 'method="normal"'
    if not drawn:
        return f"pass {plain}" if plain else "none of the methods fits these rows"
    return f"pass {plain + ', or ' if plain else 'method='}{drawn} where the rows have draws"


def _dot(e: Linear, values: np.ndarray) -> float:
    """Only the rows named enter, so that a NaN elsewhere stays there."""
    return float(e.weights[e.rows] @ values[e.rows])


def _combined(values: np.ndarray | None, linear: Sequence[Linear]) -> np.ndarray | None:
    if values is None:
        return None
    return np.stack([values[:, e.rows] @ e.weights[e.rows] for e in linear], axis=1)


def _carried(table: EffectTable, linear: Sequence[Linear]) -> Carried:
    draws = _combined(table.draws, linear)
    if draws is not None:
        draws = draws + np.array([e.constant for e in linear])[None, :]
    return Carried(
        df=np.array([table.carried.df[e.rows].min() for e in linear]),
        null=np.zeros(len(linear)),
        covariance=_covariance(table, linear),
        draws=draws,
        influence=_combined(table.influence, linear),
    )


def _covariance(table: EffectTable, linear: Sequence[Linear]) -> np.ndarray | None:
    """``L V L'``, entry by entry over the rows named, so that an unknown covariance spoils only its own entries."""
    if table.covariance is None:
        return None
    found = np.empty((len(linear), len(linear)))
    for i, a in enumerate(linear):
        for j, b in enumerate(linear):
            block = table.covariance[np.ix_(a.rows, b.rows)]
            found[i, j] = a.weights[a.rows] @ block @ b.weights[b.rows]
    return found


def _std_errors(table: EffectTable, linear: Sequence[Linear], carried: Carried) -> tuple[np.ndarray, list[str]]:
    """Standard errors and where each comes from: "row", "covariance", "draws" or "" (not known)."""
    errors, sources = [], []
    for j, e in enumerate(linear):
        variance = np.nan if carried.covariance is None else carried.covariance[j, j]
        if e.rows.size == 1:
            errors.append(abs(float(e.weights[e.rows[0]])) * float(table["std_error"][e.rows[0]]))
            sources.append("row")
        elif np.isfinite(variance):
            errors.append(float(np.sqrt(max(variance, 0.0))))
            sources.append("covariance")
        else:
            spread = _spread(carried.draws, j)
            errors.append(spread)
            sources.append("" if np.isnan(spread) else "draws")
    return np.array(errors), sources


def _spread(draws: np.ndarray | None, j: int) -> float:
    fine = np.empty(0) if draws is None else draws[np.isfinite(draws[:, j]), j]
    return float(fine.std(ddof=1)) if fine.size > 1 else float("nan")


def _reasons(
    table: EffectTable, linear: Sequence[Linear], estimate: np.ndarray, std_error: np.ndarray
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for j, e in enumerate(linear):
        if np.isfinite(estimate[j]) and np.isfinite(std_error[j]):
            continue
        column = "estimate" if np.isnan(estimate[j]) else "std_error"
        bad = [int(r) for r in e.rows if np.isnan(table[column][r])]
        if bad:
            why = table.meta["unavailable"][str(bad[0])][column]
            reasons[j] = f"{table.labels[bad[0]]} is not available: {why}"
        else:
            reasons[j] = "the covariance between these rows is not known and the table carries no draws"
    return reasons


def _index(table: EffectTable, linear: Sequence[Linear]) -> dict[str, np.ndarray]:
    """Values that all rows of a contrast share are kept; others are written as the expression in those values.

    Where every value is shared (``2 * image``) the term is the expression, so that the row is not taken for another.
    """
    columns: dict[str, np.ndarray] = {}
    written = np.zeros(len(linear), dtype=bool)
    for name in (*table.index_names, "term"):
        shown = [show_value(v) for v in table[name].tolist()]
        shared = np.array([len({shown[r] for r in e.rows}) == 1 for e in linear])
        if shared.all():
            columns[name] = table[name][np.array([e.rows[0] for e in linear])]
        else:
            columns[name] = np.array([shown[e.rows[0]] if one else e.written(shown) for e, one in zip(linear, shared)])
        written |= ~shared
    quoted = [label if is_word(label) else f"`{label}`" for label in table.labels]
    terms = [str(columns["term"][j]) if written[j] else e.written(quoted) for j, e in enumerate(linear)]
    return columns | {"term": np.array(terms)}
