"""The values of all coalitions: reading keys, calling once per coalition, checking draws."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError, nearest
from causalsat.progress import Progress, progress_bar

MOST = 16
TOTAL = "(total)"
_SHOWN = 4


@dataclass(frozen=True)
class Values:
    """What is known about every coalition.

    Attributes
    ----------
    groups : tuple of str
        Names; bit j of a coalition's number is group j.
    point : np.ndarray
        (2^m,) float64, NaN where a value is missing.
    draws : list or None
        Per coalition the draws (b,) float64, None where the value is missing; None when no value has draws.
    n_called : int
        Coalitions computed by this call.
    """

    groups: tuple[str, ...]
    point: np.ndarray
    draws: list[np.ndarray | None] | None
    n_called: int

    @property
    def known(self) -> np.ndarray:
        """(2^m,) bool: whether the value of the coalition is there."""
        return np.asarray(np.isfinite(self.point))

    @property
    def n_draws(self) -> int:
        """Draws per coalition, 0 without draws."""
        return 0 if self.draws is None else next(d.size for d in self.draws if d is not None)


def group_names(groups: Sequence[str]) -> tuple[str, ...]:
    """The names checked: 1 to 16 different texts."""
    if isinstance(groups, str):
        raise OptionError(f"groups={groups!r} is one text; pass a list of names such as [{groups!r}].")
    names = tuple(groups)
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong or not names:
        raise OptionError(f"groups={list(names)!r} must list at least one name, each a text that is not empty.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or TOTAL in names:
        raise OptionError(
            f"groups={list(names)!r}: "
            + (f"{repeated} stands more than once; names must differ." if repeated else f'"{TOTAL}" is reserved.')
        )
    if len(names) > MOST:
        raise OptionError(
            f"groups lists {len(names)} names, which needs 2^{len(names)} = {2 ** len(names):,} values; at most {MOST} "
            "groups are allowed. Merge groups that you would not interpret apart into one component."
        )
    return names


def coalition(groups: tuple[str, ...], key: Any) -> int:
    """The number of the coalition that a key names.

    A key is a set, frozenset, tuple or list of group names; or a text: "" for none, one name, or names joined by "+".
    """
    if isinstance(key, str):
        parts = [key] if key in groups else [part.strip() for part in key.split("+")] if key.strip() else []
    elif isinstance(key, Iterable):
        parts = list(key)
    else:
        raise OptionError(
            f"{key!r} does not name a coalition; use a frozenset or tuple of group names, or a text such as "
            f'"{"+".join(groups[:2])}" ("" for no group).'
        )
    number = 0
    for part in parts:
        if part not in groups:
            listed = ", ".join(groups)
            raise OptionError(f"{key!r} names {part!r}, which is no group; groups: {listed}.{nearest(part, groups)}")
        number |= 1 << groups.index(part)
    return number


def members(groups: tuple[str, ...], number: int) -> frozenset[str]:
    """The names in a coalition."""
    return frozenset(name for j, name in enumerate(groups) if number >> j & 1)


def show(groups: tuple[str, ...], number: int) -> str:
    """A coalition as text, in the order of the groups."""
    return "{" + ", ".join(name for j, name in enumerate(groups) if number >> j & 1) + "}"


def by_coalition(groups: tuple[str, ...], given: Mapping[Any, Any], what: str) -> dict[int, Any]:
    """A mapping with keys of any accepted form as one with coalition numbers; two keys for one set are an error."""
    found: dict[int, Any] = {}
    for key, item in given.items():
        number = coalition(groups, key)
        if number in found:
            raise OptionError(f"{what} has two keys for the coalition {show(groups, number)}; keep one of them.")
        found[number] = item
    return found


def read_values(
    value: Callable[..., Any] | Mapping[Any, Any],
    groups: tuple[str, ...],
    *,
    cache: MutableMapping[Any, Any] | None,
    seed: int,
    progress: Progress,
) -> Values:
    """The values of all 2^m coalitions, each computed at most once."""
    if isinstance(value, Mapping):
        if cache is not None:
            raise OptionError("cache= remembers the results of a callable; value is already a mapping. Leave one out.")
        raw, n_called = by_coalition(groups, value, "value"), 0
    elif callable(value):
        raw, n_called = _called(value, groups, cache, seed, progress)
    else:
        raise OptionError(
            f"value is a {type(value).__name__}; pass a mapping from coalitions to numbers, or a "
            "callable on a frozenset."
        )
    pairs = {number: _pair(item, show(groups, number)) for number, item in raw.items()}
    point = np.full(2 ** len(groups), np.nan)
    for number, (estimate, _) in pairs.items():
        point[number] = estimate
    if not np.isfinite(point).any():
        raise DataError("No coalition has a value; at least one is needed.")
    return Values(groups, point, _checked_draws(groups, pairs), n_called)


def _called(
    value: Callable[..., Any],
    groups: tuple[str, ...],
    cache: MutableMapping[Any, Any] | None,
    seed: int,
    progress: Progress,
) -> tuple[dict[int, Any], int]:
    store: MutableMapping[Any, Any] = {} if cache is None else cache
    done = by_coalition(groups, store, "cache")
    todo = [s for s in sorted(range(2 ** len(groups)), key=lambda s: (s.bit_count(), s)) if s not in done]
    options = {"seed": seed} if takes(value, "seed") else {}
    bar = progress_bar(len(todo), "coalitions", progress)
    try:
        for number in todo:
            names = members(groups, number)
            done[number] = value(names, **options)
            # Stored at once: what an interrupted run has computed stays with the caller.
            store[names] = done[number]
            bar.update()
    finally:
        bar.close()
    return done, len(todo)


def takes(call: Callable[..., Any], name: str) -> bool:
    """Whether a callable has a parameter of this name (``**kwargs`` does not count)."""
    try:
        return name in inspect.signature(call).parameters
    except (TypeError, ValueError):
        return False


def _pair(item: Any, where: str) -> tuple[float, np.ndarray | None]:
    """Estimate (NaN when missing) and draws of one result."""
    if item is None:
        return math.nan, None
    if isinstance(item, EffectTable):
        if len(item) != 1:
            raise DataError(f"The value of {where} is a table of {len(item)} rows; take one with table.where(...).")
        item = (item["estimate"][0], None if item.draws is None else item.draws[:, 0])
    estimate, draws = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if isinstance(estimate, np.ndarray) and estimate.ndim == 0:
        estimate = estimate.item()
    if not isinstance(estimate, numbers.Real) or isinstance(estimate, bool):
        raise DataError(
            f"The value of {where} is {item!r:.80}; it must be a number, a pair (number, draws), an effect table "
            "of one row, or None when it cannot be computed."
        )
    number = float(estimate)
    if math.isinf(number):
        raise DataError(f"The value of {where} is {number}; values must be finite, or None when they are missing.")
    if draws is None or math.isnan(number):
        return number, None
    return number, _draws(draws, where)


def _draws(draws: Any, where: str) -> np.ndarray:
    try:
        values = np.asarray(draws, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"The draws of {where} must be numbers ({error}).") from error
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"The draws of {where} have shape {values.shape}; one row (b,) of at least one draw is needed.")
    if not np.isfinite(values).any():
        raise DataError(
            f"None of the {values.size} draws of {where} is a number. A table may hold rows without draws: take the "
            'row that carries them (of DRIVE: table.where(method="drive", interval="recentred")), or pass the '
            "estimates alone."
        )
    return np.where(np.isfinite(values), values, np.nan)


def _checked_draws(
    groups: tuple[str, ...], pairs: Mapping[int, tuple[float, np.ndarray | None]]
) -> list[np.ndarray | None] | None:
    """Draws by coalition; every known value has as many of them as any other, or none has any."""
    known = {number: draws for number, (estimate, draws) in sorted(pairs.items()) if math.isfinite(estimate)}
    sizes = {number: 0 if draws is None else draws.size for number, draws in known.items()}
    reference = next(iter(sizes))
    for number, size in sizes.items():
        if size != sizes[reference]:
            raise DataError(
                f"{show(groups, reference)} has {sizes[reference]} draws and {show(groups, number)} has {size}; draw r "
                "must come from the same resample in every coalition. Use one seed and one number of draws "
                "(numpy.full(b, value) for a value without sampling error)."
            )
    if sizes[reference] == 0:
        return None
    return [known.get(number) for number in range(2 ** len(groups))]


def refuse_missing(values: Values) -> None:
    """DataError naming missing coalitions."""
    absent = np.flatnonzero(~values.known)
    if absent.size:
        shown = ", ".join(show(values.groups, int(s)) for s in absent[:_SHOWN])
        more = "" if absent.size <= _SHOWN else f" and {absent.size - _SHOWN} more"
        raise DataError(
            f"{absent.size} of {values.point.size} coalitions have no value: {shown}{more}. Compute them, or use "
            'missing="bounds" (what the known values imply) or missing="min_norm" (one completion by convention).'
        )
