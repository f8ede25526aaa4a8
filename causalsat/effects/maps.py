"""Maps of places: coloured points, no tiles, no network."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from causalsat.effects.carried import matrix, vector
from causalsat.effects.plots import GREY, new_axes
from causalsat.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalsat.effects.table import EffectTable


def plot_map(table: "EffectTable", ax: "Axes | None" = None, column: str = "estimate") -> "Axes":
    """A column of the table at the places of its rows.

    Parameters
    ----------
    table : EffectTable
        Built with ``places``. Rows without a place are left out and counted in the title; rows without a number
        are crosses.
    ax : matplotlib Axes, optional
        None draws on a new figure.
    column : str
        A numeric column.
    """
    if table.places is None:
        raise DataError("A map needs places: build the table with places=(k, 2) longitude and latitude.")
    if table[column].dtype.kind not in "if":
        raise DataError(f'Column "{column}" holds text; a map needs numbers.')
    return plot_places(table.places, table[column], ax=ax, label=column)


def plot_places(
    lonlat: ArrayLike,
    values: ArrayLike,
    *,
    ax: "Axes | None" = None,
    label: str = "",
    outside: ArrayLike | None = None,
) -> "Axes":
    """Values (effects, weights, propensities) at places.

    Values of both signs get a diverging scale centred at zero, others a sequential one. One degree of longitude is
    drawn ``cos(latitude)`` times as long as one of latitude.

    Parameters
    ----------
    lonlat : array-like (n, 2)
        Longitude and latitude, degrees WGS84.
    values : array-like (n,)
        Numbers to colour by; NaN is drawn as a cross.
    ax : matplotlib Axes, optional
        None draws on a new figure.
    label : str
        Text at the colour bar.
    outside : array-like (n,) of bool, optional
        Places outside the support of the training images: drawn hollow.
    """
    number = vector("values", values, None)
    place = matrix("lonlat", lonlat, (number.shape[0], 2))
    faded = np.zeros(number.shape[0], dtype=bool) if outside is None else np.asarray(outside, dtype=bool)
    located = np.zeros(0, dtype=bool) if place is None else np.isfinite(place).all(axis=1)
    if place is None or not located.any():
        raise DataError("No place has a longitude and a latitude.")
    axes = new_axes(6.4, 5.2) if ax is None else ax
    known = located & np.isfinite(number)
    _points(axes, place, number, known, faded, label)
    gone = located & ~known
    if gone.any():
        axes.scatter(place[gone, 0], place[gone, 1], marker="x", c=GREY, s=18, linewidths=0.8)
    if not located.all():
        axes.set_title(f"{int((~located).sum())} rows have no place", fontsize="small", color=GREY)
    latitude = float(place[located, 1].mean())
    axes.set_aspect(1.0 / max(np.cos(np.radians(latitude)), 0.05), adjustable="box")
    axes.set_xlabel("longitude")
    axes.set_ylabel("latitude")
    return axes


def _points(
    ax: "Axes", place: np.ndarray, number: np.ndarray, known: np.ndarray, faded: np.ndarray, label: str
) -> None:
    if not known.any():
        return
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = float(number[known].min()), float(number[known].max())
    both = low < 0.0 < high
    reach = max(-low, high)
    scale = Normalize(-reach, reach) if both else Normalize(low, high if high > low else low + 1.0)
    colours = ScalarMappable(scale, "PuOr" if both else "viridis")
    shades = colours.to_rgba(number)
    size = float(np.clip(4000.0 / known.sum(), 6.0, 60.0))
    full, hollow = known & ~faded, known & faded
    ax.scatter(place[full, 0], place[full, 1], c=shades[full], s=size, edgecolors="#5a5a5a", linewidths=0.3)
    ax.scatter(place[hollow, 0], place[hollow, 1], facecolors="none", edgecolors=shades[hollow], s=size)
    figure = ax.get_figure()
    if figure is not None:
        figure.colorbar(colours, ax=ax, label=label, shrink=0.85)
