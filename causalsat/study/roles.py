"""What each column is for: roles, their columns checked and turned into arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, TextMissingWarning, TreatmentLeakError, one_of, warn
from causalsat.study.columns import Column
from causalsat.study.frame import Frame

KINDS = ("numeric", "binary", "design", "codes", "weights", "date")
_MODELLED = ("numeric", "binary", "design", "weights")


@dataclass(frozen=True)
class Role:
    """A role of the study and the columns that play it.

    Attributes
    ----------
    name : str
        "outcome", "treatment", "covariates", "cluster", ...
    columns : str or sequence of str, optional
        Column names; None when the role is not played.
    kind : str
        "numeric" | "binary" (0 and 1) | "design" (numbers as they are; text, bool and categories as dummies without the
        first level) | "codes" (labels to integers) | "weights" (finite, non-negative, positive sum) | "date".
    many : bool
        The role may hold several columns; its array is then always (n, m).
    missing : str
        "drop" rows, "keep" NaN, or "error".
    constant : str
        "error" or "allow" one value in all rows. Of several binary columns some may be constant in any case.
    """

    name: str
    columns: str | Sequence[str] | None
    kind: str
    many: bool = False
    missing: str = "drop"
    constant: str = "error"

    def __post_init__(self) -> None:
        one_of(f"Role({self.name!r}).kind", self.kind, KINDS)
        one_of(f"Role({self.name!r}).missing", self.missing, ("drop", "keep", "error"))
        one_of(f"Role({self.name!r}).constant", self.constant, ("error", "allow"))

    def names(self) -> tuple[str, ...]:
        """Column names as a tuple; empty when the role is not played (raises OptionError)."""
        if self.columns is None:
            return ()
        several = isinstance(self.columns, Iterable) and not isinstance(self.columns, str)
        names: tuple[Any, ...] = tuple(self.columns) if several else (self.columns,)
        wrong = [name for name in names if not isinstance(name, str)]
        if wrong:
            raise OptionError(f"{self.name}={wrong[0]!r} must be the name of a column, not {type(wrong[0]).__name__}.")
        if len(names) > 1 and not self.many:
            raise OptionError(f"{self.name}={list(names)!r} names {len(names)} columns; this role takes one.")
        if not names:
            raise OptionError(f"{self.name} is an empty list; name a column, or leave the argument out.")
        return names


@dataclass(frozen=True, eq=False)
class RoleColumns:
    """A role with its columns, checked on all rows of the table."""

    role: Role
    columns: tuple[Column, ...]

    def missing(self) -> list[tuple[str, np.ndarray]]:
        """Reason and rows (n,) bool for every column with missing values that this role drops."""
        if self.role.missing != "drop":
            return []
        return [(f"{self.role.name} {c.name} is missing", c.missing) for c in self.columns if c.missing.any()]


def role_columns(frame: Frame, roles: Sequence[Role], shared: Sequence[str] = ()) -> tuple[RoleColumns, ...]:
    """Find the columns of all roles and refuse those that cannot play them.

    Parameters
    ----------
    frame : Frame
        The table.
    roles : sequence of Role
        Roles; those without columns are left out.
    shared : sequence of str
        Further columns in use (the embedding key, say), looked at for the text "NA" only.

    Returns
    -------
    tuple of RoleColumns

    Raises
    ------
    DataError
        Unknown columns, one column in two roles, missing throughout, not of the role's kind.
    """
    played = [role for role in roles if role.names()]
    found = [RoleColumns(role, tuple(frame.column(name, role.name) for name in role.names())) for role in played]
    _refuse_overlap(played)
    for item in found:
        for column in item.columns:
            _check_column(item.role, column)
    _warn_text_missing([c for item in found for c in item.columns] + [frame.column(n, "embedding_key") for n in shared])
    return tuple(found)


def numeric_array(item: RoleColumns, rows: np.ndarray) -> np.ndarray:
    """Numbers of the kept rows: (n,), or (n, m) for a role of many (raises DataError)."""
    role = item.role
    values = [column.numbers(role.name)[rows] for column in item.columns]
    lone_binary = role.kind == "binary" and len(values) == 1
    if role.constant == "error" and (role.kind == "numeric" or lone_binary):
        for column, numbers in zip(item.columns, values):
            refuse_constant(role.name, column.name, numbers[np.isfinite(numbers)])
    if role.kind == "weights" and not values[0].sum() > 0.0:
        raise DataError(f"{role.name} column {item.columns[0].name!r} sums to zero; some row needs a positive weight.")
    return np.column_stack(values) if role.many else values[0]


def design_array(item: RoleColumns, rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Design columns (n, m) of the kept rows and their names; labels become dummies ``name[level]``."""
    blocks: list[np.ndarray] = []
    names: list[str] = []
    for column in item.columns:
        if column.kind == "number":
            values = column.numbers(item.role.name)[rows]
            _refuse_constant_column(item.role, column, values[np.isfinite(values)])
            blocks.append(values[:, None])
            names.append(column.name)
        else:
            dummies, levels = _dummies(item.role, column, rows)
            blocks.append(dummies)
            names += [f"{column.name}[{level}]" for level in levels]
    return np.concatenate(blocks, axis=1), tuple(names)


def code_array(item: RoleColumns, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (n,) of the kept rows, -1 where missing is kept, and the sorted labels (g,) in use.

    Several columns make one joint code with labels ``a|b``.
    """
    role = item.role
    codes, labels = item.columns[0].codes(role.name)
    for column in item.columns[1:]:
        more, names = column.codes(role.name)
        joint = np.where((codes < 0) | (more < 0), -1, codes * max(len(names), 1) + more)
        used = np.unique(joint[joint >= 0])
        labels = np.array([f"{labels[j // len(names)]}|{names[j % len(names)]}" for j in used.tolist()], dtype=str)
        codes = np.where(joint < 0, -1, np.searchsorted(used, joint))
    kept = codes[rows]
    used = np.unique(kept[kept >= 0])
    if role.constant == "error" and len(used) == 1:
        name = item.columns[0].name
        raise DataError(
            f"{role.name} column {name!r} has the one label {labels[used].tolist()[0]!r} in all rows in use; nothing "
            "can be told from one group. Name another column, or leave the argument out."
        )
    return np.where(kept < 0, -1, np.searchsorted(used, kept)).astype(np.int64), labels[used]


def refuse_constant(role: str, name: str, values: np.ndarray) -> None:
    """Refuse a column with one value in all rows in use (raises DataError)."""
    if len(values) and bool((values == values[0]).all()):
        raise DataError(
            f"{role} column {name!r} is constant: {values[0]:g} in all {len(values)} rows in use. Nothing can be "
            "estimated from a column that does not vary; name another column, or drop it."
        )


def _check_column(role: Role, column: Column) -> None:
    if len(column.missing) and column.missing.all():
        raise DataError(
            f"{role.name} column {column.name!r} is missing in all {len(column.missing)} rows; was it lost in a join?"
        )
    if role.missing == "error" and column.missing.any():
        raise DataError(
            f"{role.name} column {column.name!r} is missing in {int(column.missing.sum())} of {len(column.missing)} "
            f"rows (first: row {int(np.flatnonzero(column.missing)[0])}); it must be complete. Fill it or drop those "
            "rows."
        )
    if role.kind == "binary":
        _check_binary(role, column)
    elif role.kind in ("numeric", "weights"):
        numbers = column.numbers(role.name)
        if role.kind == "weights" and bool((numbers < 0.0).any()):
            row = int(np.flatnonzero(numbers < 0.0)[0])
            raise DataError(
                f"{role.name} column {column.name!r} is negative in {int((numbers < 0.0).sum())} rows (first: row "
                f"{row}, {numbers[row]:g}); weights are zero or positive."
            )
    elif role.kind == "date":
        column.dates(role.name)
    elif role.kind == "codes" or column.kind not in ("number", "bool"):
        column.codes(role.name)
    else:
        column.numbers(role.name)


def _check_binary(role: Role, column: Column) -> None:
    if column.kind in ("text", "category", "mixed", "date"):
        levels = sorted({repr(value) for value in column.values[~column.missing].tolist()})
        raise DataError(
            f"{role.name} column {column.name!r} holds {', '.join(levels[:5])}; {role.name} must be 0 or 1. Recode "
            f"it, for example data[{column.name!r}] = (data[{column.name!r}] == {levels[-1]}).astype(int)."
        )
    numbers = column.numbers(role.name)
    odd = np.unique(numbers[~np.isin(numbers, (0.0, 1.0)) & ~np.isnan(numbers)])
    if len(odd):
        rows = int(np.isin(numbers, odd).sum())
        shown = ", ".join(f"{value:g}" for value in odd[:5]) + (", ..." if len(odd) > 5 else "")
        raise DataError(
            f"{role.name} column {column.name!r} holds {shown} in {rows} of {len(numbers)} rows; {role.name} must be "
            "0 or 1. A dose needs another method (panel_dml takes continuous treatments); for several levels give "
            "one 0/1 column per level, missing for the rows of the other levels."
        )


def _refuse_overlap(roles: Sequence[Role]) -> None:
    seen: dict[str, Role] = {}
    for role in roles:
        if len(set(role.names())) < len(role.names()):
            twice = next(name for name in role.names() if role.names().count(name) > 1)
            raise DataError(f"{role.name} names column {twice!r} twice; name each column once.")
        for name in role.names():
            other = seen.get(name)
            if other is None:
                seen[name] = role
                continue
            if _may_share(role, other):
                continue
            pair = {role.name, other.name}
            leak = "treatment" in pair and "covariates" in pair
            raise (TreatmentLeakError if leak else DataError)(
                f"Column {name!r} is both {other.name} and {role.name}; a column plays one of these roles. Drop it "
                "from one."
            )


def _may_share(a: Role, b: Role) -> bool:
    """Labels may serve several roles (cluster and covariate, say); the outcome or treatment is no label."""
    if a.kind in _MODELLED and b.kind in _MODELLED:
        return False
    return not ({a.kind, b.kind} & {"binary", "weights"} or "outcome" in (a.name, b.name))


def _warn_text_missing(columns: Sequence[Column]) -> None:
    holds = {column.name: column.count_text("NA") for column in columns}
    named = ", ".join(f"{name!r} ({rows} rows)" for name, rows in holds.items() if rows)
    if named:
        warn(
            f'The text "NA" stands in column {named} and counts as a value. From R it is a missing text '
            "(NA_character_): "
            'blank it in R, for example x[is.na(x)] <- "", or replace "NA" by None. If it is a code such as '
            "Namibia's, "
            "all is well.",
            TextMissingWarning,
        )


def _refuse_constant_column(role: Role, column: Column, values: np.ndarray) -> None:
    if role.constant == "error":
        refuse_constant(role.name, column.name, values)


def _dummies(role: Role, column: Column, rows: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    codes, labels = column.codes(role.name)
    if column.kind == "bool":
        labels = labels.astype(bool)
    kept = codes[rows]
    used = np.unique(kept[kept >= 0])
    if len(used) == 1 and role.constant == "error":
        raise DataError(
            f"{role.name} column {column.name!r} is constant: {labels[used[0]]} in all {len(rows)} rows in use. Drop "
            "it."
        )
    if len(used) > 10 and len(used) > len(rows) / 2:
        raise DataError(
            f"{role.name} column {column.name!r} holds {len(used)} different texts in {len(rows)} rows; that is a "
            "name rather than a category. Drop it, group its levels, or convert it to numbers."
        )
    dummies = (kept[:, None] == used[None, 1:]).astype(np.float64)
    dummies[kept < 0] = np.nan
    return dummies, labels[used[1:]].tolist()
