"""Which equation, and which treatment of it, a question about a result of `drive` is asked of: by name or number."""

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

from causalsat.errors import OptionError, nearest

if TYPE_CHECKING:
    from causalsat.estimators.drive_equation import Equation


def equation_at(equations: Sequence["Equation"], wanted: int | str) -> "Equation":
    """The equation with that number, counted from 0, or the one that holds the treatment of that name.

    Raises
    ------
    OptionError
        No such equation; the message lists them.
    """
    if isinstance(wanted, str):
        for equation in equations:
            if wanted in equation.rows.treatments:
                return equation
    elif _is_number(wanted) and 0 <= wanted < len(equations):
        return equations[int(wanted)]
    listed = "; ".join(f"{i}: {', '.join(e.rows.treatments)}" for i, e in enumerate(equations))
    names = [name for e in equations for name in e.rows.treatments]
    raise OptionError(
        f"equation={wanted!r} is no equation of this result. Give its number or the name of a treatment in it; there "
        f"are {listed}.{nearest(wanted, names) if isinstance(wanted, str) else ''}"
    )


def treatment_at(names: Sequence[str], wanted: int | str) -> int:
    """Position of a treatment given by its name or its number in the equation, counted from 0.

    Raises
    ------
    OptionError
        No such treatment; the message lists them.
    """
    if isinstance(wanted, str):
        if wanted in names:
            return list(names).index(wanted)
    elif _is_number(wanted) and 0 <= wanted < len(names):
        return int(wanted)
    raise OptionError(
        f"treatment={wanted!r} is no treatment of this equation. Give its name or its number; there are "
        f"{', '.join(f'{i}: {name}' for i, name in enumerate(names))}."
        f"{nearest(wanted, names) if isinstance(wanted, str) else ''}"
    )


def _is_number(wanted: object) -> bool:
    return isinstance(wanted, numbers.Integral) and not isinstance(wanted, bool)
