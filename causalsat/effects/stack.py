"""Stacking tables."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from causalsat.effects.build import freeze
from causalsat.effects.carried import Carried
from causalsat.effects.rows import copied, show_value
from causalsat.effects.statistic_names import stacked
from causalsat.effects.table import CORE, EffectTable
from causalsat.effects.uncertainty import refusals
from causalsat.errors import OptionError

_SAME_WEIGHTS = ("seed", "resampling", "n_boot", "data_hash")
_OWN = ("unavailable", "supplied", "joint", "warnings", "interval", "refused_intervals")


def concat(tables: Sequence[EffectTable]) -> EffectTable:
    """Stack tables whose intervals have one level.

    Draws stay when all tables were resampled with the same weights (equal ``seed``, ``resampling``, ``n_boot`` and
    ``data_hash`` in their meta), influence values when they belong to the same rows (equal ``data_hash`` and n).
    The covariance between rows of different tables is not known: NaN. Facts that differ move to ``meta["parts"]``;
    what a table refuses for its rows stays refused for these rows, with its reason.
    """
    if not tables:
        raise OptionError("concat() needs at least one table.")
    levels = sorted({table.level for table in tables})
    if len(levels) > 1:
        raise OptionError(f"concat() needs one level, the tables have {levels}; call interval(level=...) first.")
    names = tuple(dict.fromkeys(name for table in tables for name in table.index_names))
    columns = {name: _stacked_index(tables, name) for name in names}
    columns |= {name: np.concatenate([table[name] for table in tables]) for name in CORE}
    columns |= stacked(tables)
    meta, refused = _meta(tables), _refused(tables, {name: columns[name].astype(str) for name in (*names, "term")})
    return freeze(names, columns, meta | ({"refused_intervals": refused} if refused else {}), _carried(tables))


def _stacked_index(tables: Sequence[EffectTable], name: str) -> np.ndarray:
    kinds = {table[name].dtype.kind for table in tables if name in table.columns}
    absent = any(name not in table.columns for table in tables)
    as_text = "U" in kinds or (kinds != {"b"} and "b" in kinds) or (kinds == {"b"} and absent)
    parts = []
    for table in tables:
        if name not in table.columns:
            parts.append(np.full(len(table), "" if as_text else np.nan))
        elif as_text:
            parts.append(np.array([show_value(v) for v in table[name].tolist()], dtype=str))
        else:
            parts.append(table[name])
    return np.concatenate(parts)


def _same(tables: Sequence[EffectTable], facts: Sequence[str]) -> bool:
    told = [tuple(json.dumps(table.meta.get(fact)) for fact in facts) for table in tables]
    return "null" not in told[0] and len(set(told)) == 1


def _carried(tables: Sequence[EffectTable]) -> Carried:
    same_draws = len(tables) == 1 or _same(tables, _SAME_WEIGHTS)
    same_rows = len(tables) == 1 or _same(tables, ("data_hash",))
    parts = [table.carried for table in tables]
    draws = _side_by_side([p.draws for p in parts]) if same_draws else None
    return Carried(
        df=np.concatenate([p.df for p in parts]),
        null=np.concatenate([p.null for p in parts]),
        covariance=_blocks(tables),
        draws=draws,
        influence=_side_by_side([p.influence for p in parts]) if same_rows else None,
        places=_places(tables),
        acceleration=_joined([p.acceleration for p in parts], np.concatenate),
        draw_std_error=None if draws is None else _side_by_side([p.draw_std_error for p in parts]),
    )


def _joined(arrays: Sequence[np.ndarray | None], join: Callable[[list[np.ndarray]], np.ndarray]) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return join(present) if len(present) == len(arrays) else None


def _side_by_side(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    if len({array.shape[0] for array in arrays if array is not None}) != 1:
        return None
    return _joined(arrays, np.hstack)


def _blocks(tables: Sequence[EffectTable]) -> np.ndarray | None:
    if all(table.covariance is None for table in tables):
        return None
    k = sum(len(table) for table in tables)
    found = np.full((k, k), np.nan)
    start = 0
    for table in tables:
        rows = slice(start, start + len(table))
        if table.covariance is None:
            found[np.arange(k)[rows], np.arange(k)[rows]] = table["std_error"] ** 2
        else:
            found[rows, rows] = table.covariance
        start += len(table)
    return found


def _places(tables: Sequence[EffectTable]) -> np.ndarray | None:
    if all(table.places is None for table in tables):
        return None
    return np.concatenate([np.full((len(t), 2), np.nan) if t.places is None else t.places for t in tables])


def _meta(tables: Sequence[EffectTable]) -> dict[str, Any]:
    facts = [copied(table.meta) for table in tables]
    names = dict.fromkeys(name for fact in facts for name in fact if name not in _OWN)
    common = [n for n in names if all(n in f and json.dumps(f[n]) == json.dumps(facts[0][n]) for f in facts)]
    meta: dict[str, Any] = {name: facts[0][name] for name in common}
    methods = list(dict.fromkeys(str(fact["interval"]) for fact in facts))
    supplied = list(dict.fromkeys(name for fact in facts for name in fact.get("supplied", [])))
    meta["interval"] = methods[0] if len(methods) == 1 else "mixed"
    if len(methods) > 1:
        supplied = ["conf", "p_value"]
    if supplied:
        meta["supplied"] = supplied
    if any("warnings" in fact for fact in facts):
        meta["warnings"] = list(dict.fromkeys(text for fact in facts for text in fact.get("warnings", [])))
    starts = np.cumsum([0, *(len(table) for table in tables)]).tolist()
    meta["unavailable"] = {
        str(int(row) + start): why for fact, start in zip(facts, starts) for row, why in fact["unavailable"].items()
    }
    parts = [
        {"first_row": start, "last_row": stop - 1, **{n: v for n, v in fact.items() if n not in (*common, *_OWN)},
         "interval": fact["interval"]}
        for fact, start, stop in zip(facts, starts, starts[1:])
    ]  # fmt: skip
    if any(len(part) > 3 for part in parts) or len(methods) > 1:
        meta["parts"] = parts
    return meta


def _refused(tables: Sequence[EffectTable], words: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the tables refuse, kind by kind, each reason for the rows of the stack that it was given for."""
    k = sum(len(table) for table in tables)
    masks: dict[str, dict[str, np.ndarray]] = {}
    start = 0
    for table in tables:
        for kind in table.meta.get("refused_intervals", {}):
            for reason, meant in refusals(table, kind).items():
                mask = masks.setdefault(kind, {}).setdefault(reason, np.zeros(k, dtype=bool))
                mask[start : start + len(table)] |= meant
        start += len(table)
    found: dict[str, Any] = {}
    for kind, reasons in masks.items():
        told = [one for reason, mask in reasons.items() if mask.any() for one in _told(reason, mask, words)]
        if told:
            found[kind] = told[0] if len(told) == 1 else told
    return found


def _told(reason: str, mask: np.ndarray, words: dict[str, np.ndarray]) -> list[str | dict[str, Any]]:
    """A refusal of some rows by values of one index column where these suffice, of all columns, or row by row."""
    if mask.all():
        return [reason]
    for names in (*((name,) for name in words), tuple(words)):
        rows = {name: list(dict.fromkeys(words[name][mask].tolist())) for name in names}
        if np.array_equal(np.logical_and.reduce([np.isin(words[n], values) for n, values in rows.items()]), mask):
            return [{"reason": reason, "rows": rows}]
    return [
        {"reason": reason, "rows": {name: [values[i]] for name, values in words.items()}} for i in np.flatnonzero(mask)
    ]
