"""Names of functionals of a distribution: "gini", "range(.1,.9)", "unit:exceed(30)", or a callable."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalsat.errors import OptionError, nearest

KINDS = {
    "mean": 0, "variance": 0, "sd": 0, "iqr": 0, "range": 2, "gini": 0, "lorenz": 1, "share_top": 1,
    "share_bottom": 1, "exceed": 1, "w2": 0,
}  # fmt: skip
LINEAR = ("mean", "iqr", "range")
POSITIVE = ("gini", "lorenz", "share_top", "share_bottom")
_NAME = re.compile(r"(unit:)?\s*([a-z_0-9]+)\s*(?:\(([^()]*)\))?")


@dataclass(frozen=True)
class Functional:
    """One functional of a distribution.

    Attributes
    ----------
    name : str
        As printed: "gini", "range(0.1,0.9)", "unit:exceed(30)".
    kind : str
        A key of KINDS, or "callable".
    arguments : tuple of float
        Its numbers.
    unit : bool
        True: discontinuity of the units' own functional; False: functional of the two average distributions.
    call : callable, optional
        ``call(values (m,), levels (m,)) -> number`` of kind "callable".
    """

    name: str
    kind: str
    arguments: tuple[float, ...] = ()
    unit: bool = False
    call: Callable[[np.ndarray, np.ndarray], Any] | None = None

    @property
    def linear(self) -> bool:
        """Whether it is a linear map of the quantile function, so that a unit-level column gives it exactly."""
        return self.unit or self.kind in LINEAR

    @property
    def needs_curve(self) -> bool:
        """Whether it needs the average quantile functions on all of (0, 1)."""
        return not self.linear


def parsed_functionals(functionals: Sequence[Any], thresholds: Sequence[float] = ()) -> tuple[Functional, ...]:
    """Functionals by name or callable; every threshold adds "unit:exceed(z)".

    "exceed" and "unit:exceed" without a number stand for all ``thresholds``, and then say how these are read. A bare
    "exceed(z)" is the share of the average distribution above z; "unit:exceed(z)" the average share of a unit's draws
    above z.

    Raises
    ------
    OptionError
        A name, or a number in it, that is not allowed.

    Examples
    --------
    >>> [f.name for f in parsed_functionals(("range(.1, .9)", "unit:gini"), (30.0,))]
    ['range(0.1,0.9)', 'unit:gini', 'unit:exceed(30)']
    """
    found: list[Functional] = []
    for item in functionals:
        found += [_called(item, len(found))] if callable(item) else _named(item, thresholds)
    if not any(isinstance(item, str) and item.replace(" ", "") in ("exceed", "unit:exceed") for item in functionals):
        found += [Functional(_printed("exceed", (z,), True), "exceed", (float(z),), True) for z in thresholds]
    unique: dict[str, Functional] = {}
    for f in found:
        if f.call is None:
            unique.setdefault(f.name, f)
            continue
        name = f.name if f.name not in unique else f"{f.name} {len(unique) + 1}"
        unique[name] = replace(f, name=name)
    return tuple(unique.values())


def _called(item: Callable[..., Any], position: int) -> Functional:
    name = getattr(item, "__name__", "")
    if name in ("", "<lambda>"):
        name = f"functional {position + 1}"
    return Functional(name, "callable", call=item)


def _named(item: Any, thresholds: Sequence[float]) -> list[Functional]:
    match = _NAME.fullmatch(item.strip()) if isinstance(item, str) else None
    if match is None or match.group(2) not in KINDS:
        stem = match.group(2) if match is not None else item
        raise OptionError(
            f"functionals={item!r} is not known; allowed: {', '.join(_examples())}, each also as "
            f'"unit:<name>" except w2, or a callable of (values, levels).{nearest(stem, KINDS)}'
        )
    unit, kind = match.group(1) is not None, match.group(2)
    if unit and kind == "w2":
        raise OptionError('functionals="unit:w2" does not exist: w2 compares the two average distributions; use "w2".')
    if kind == "exceed" and match.group(3) is None:
        if not thresholds:
            raise OptionError('functionals="exceed" needs a number: write "exceed(30)", or give thresholds=(30,).')
        return [Functional(_printed(kind, (z,), unit), kind, (float(z),), unit) for z in thresholds]
    arguments = _arguments(item, kind, match.group(3))
    return [Functional(_printed(kind, arguments, unit), kind, arguments, unit)]


def _arguments(item: str, kind: str, text: str | None) -> tuple[float, ...]:
    parts = [] if text is None or not text.strip() else text.split(",")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = (math.nan,)
    if len(parts) != KINDS[kind] or not all(math.isfinite(v) for v in numbers):
        raise OptionError(
            f'functionals="{item}" takes {KINDS[kind]} number{"s" * (KINDS[kind] != 1)}, as in "{_example(kind)}".'
        )
    if kind != "exceed" and not all(0.0 < v < 1.0 for v in numbers):
        raise OptionError(f'functionals="{item}": its numbers are shares strictly between 0 and 1.')
    if kind == "range" and not numbers[0] < numbers[1]:
        raise OptionError(f'functionals="{item}": the first level must be below the second.')
    return numbers


def _example(kind: str) -> str:
    return {
        "range": "range(.1,.9)", "lorenz": "lorenz(.5)", "share_top": "share_top(.1)",
        "share_bottom": "share_bottom(.5)", "exceed": "exceed(30)",
    }.get(kind, kind)  # fmt: skip


def _examples() -> list[str]:
    return [_example(kind) for kind in KINDS]


def _printed(kind: str, arguments: tuple[float, ...], unit: bool) -> str:
    inside = f"({','.join(f'{v:.12g}' for v in arguments)})" if arguments else ""
    return f"{'unit:' * unit}{kind}{inside}"
