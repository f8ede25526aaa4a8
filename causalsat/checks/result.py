"""What every diagnostic returns."""

from dataclasses import dataclass, field
from typing import Any

from causalsat.public import public


@public
@dataclass(frozen=True)
class CheckResult:
    """The outcome of one diagnostic.

    Attributes
    ----------
    name : str
        Short name, unique within a result: "overlap[treated, image]".
    passed : bool or None
        None when the check cannot judge; ``text`` then says why.
    statistic : float
        The number to quote (NaN when there is none).
    text : str
        One or two sentences a referee can read: what was found, and what to do.
    table : dict of str to list
        Plain columns of equal length (empty when there is none).
    """

    name: str
    passed: bool | None
    statistic: float
    text: str
    table: dict[str, list[Any]] = field(default_factory=dict)
