"""Distances to a border: an array of metres that tells in words what was measured."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from causalsat.facts import as_html, as_text, counted
from causalsat.public import public


@public
@dataclass(frozen=True, eq=False, repr=False)
class SignedDistance(NDArrayOperatorsMixin):
    """Distance of each place to a border; an array of metres wherever an array is asked for.

    ``places["distance_m"] = result``, ``np.asarray(result)`` and ``polars.Series("d", result)`` give ``metres``;
    ``result / 1000``, ``result > 0``, ``result[0]`` and ``result[result > 0]`` are operations on them and return plain
    arrays and numbers. Printed, it tells how many places lie on each side and how far, and how long the border is.

    Attributes
    ----------
    metres : ndarray (n,) float64
        Geodesic, positive on the treated side, 0 on the line, NaN for places without geometry.
    segment : ndarray (n,) int64 or None
        Stretch of the border that holds the nearest point, from 0; −1 for places without geometry; None unless
        ``segment_km`` was given.
    nearest : ndarray (n, 2) float64
        Nearest point of the border, degrees WGS84, longitudes in [−180, 180].
    border_km : float
        Geodesic length of the border that was measured to; NaN unknown.
    excluded_km : float
        Length that ``exclude`` cut out of it; NaN unknown.
    """

    metres: np.ndarray
    segment: np.ndarray | None
    nearest: np.ndarray
    border_km: float = math.nan
    excluded_km: float = 0.0

    def __len__(self) -> int:
        return len(self.metres)

    def __repr__(self) -> str:
        return as_text(*_told(self))

    def _repr_html_(self) -> str:
        return as_html(*_told(self))

    def __iter__(self) -> Iterator[float]:
        return iter(self.metres.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        metres = self.metres if dtype is None else self.metres.astype(dtype)
        return metres.copy() if copy or metres is self.metres else metres

    def __getitem__(self, which: Any) -> Any:
        """Metres at a position, a slice, positions or a mask."""
        return self.metres[which]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        written = options.get("out", ())
        if any(isinstance(o, SignedDistance) for o in written):
            # ``result /= 1000`` makes a plain array: the distances measured stay as they are.
            if inputs[0] is not self or written != (self,):
                return NotImplemented
            options = {name: value for name, value in options.items() if name != "out"}
        plain = [i.metres if isinstance(i, SignedDistance) else i for i in inputs]
        return getattr(ufunc, method)(*plain, **options)


# Polars reads any sequence; inheritance would bring comparisons of whole sequences along.
Sequence.register(SignedDistance)


def _told(found: SignedDistance) -> tuple[str, list[tuple[str, str]]]:
    """Headline and facts of a printed distance."""
    metres = found.metres
    facts = [
        ("treated side", _reach(metres[metres > 0.0])),
        ("other side", _reach(-metres[metres < 0.0])),
        ("on the border", counted(int((metres == 0.0).sum()), "place")),
    ]
    lost = int(np.isnan(metres).sum())
    if lost:
        facts.append(("no geometry", f"{counted(lost, 'place')}, distance NaN"))
    if not math.isnan(found.border_km):
        cut = f"; {found.excluded_km:.1f} km more excluded" if found.excluded_km >= 0.05 else ""
        cut = "; a part of unknown length excluded" if math.isnan(found.excluded_km) else cut
        facts.append(("border", f"{found.border_km:.1f} km{cut}"))
    if found.segment is not None:
        held = np.unique(found.segment[found.segment >= 0], return_counts=True)[1]
        each = f", each to {held.min()} to {held.max()} places" if held.size else ""
        facts.append(("segments", f"{held.size} are nearest to some place{each}"))
    return f"SignedDistance: {counted(len(found), 'place')}, metres to the border, positive on the treated side", facts


def _reach(away: np.ndarray) -> str:
    many = counted(away.size, "place")
    if not away.size:
        return many
    low, high = f"{away.min():.1f}", f"{away.max():.1f}"
    return f"{many}, {low} m away" if low == high else f"{many}, {low} to {high} m away"
