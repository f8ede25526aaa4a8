"""What the plots of an `R3dResult` show."""

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.effects import rd_plots
from causalsat.effects.rd_plots import Curve, Scatter
from causalsat.effects.table import EffectTable
from causalsat.errors import DataError, OptionError, count
from causalsat.estimators.r3d_estimate import R3dEstimate, refitted
from causalsat.estimators.r3d_options import R3dChoices, finite_numbers
from causalsat.estimators.r3d_units import POOLED, number_labels
from causalsat.estimators.r3d_words import heading
from causalsat.study.boundary_lines import line_of, read_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalsat.estimators.r3d_result import R3dResult

_STEPS = 200
_WIDTHS = (0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0)
OPTIONS = {"rd": ("levels", "bins", "equal_counts"), "bandwidth": ("levels", "factors"), "map": ("border",)}


def draw(result: "R3dResult", kind: str, ax: "Axes | None", options: dict[str, Any]) -> "Axes":
    """Dispatch of `R3dResult.plot`."""
    split = result.estimates[0].design.split
    taken = (*OPTIONS.get(kind, ()), *((split,) if len(result.estimates[0].design.parts) > 1 else ()))
    unknown = set(options) - set(taken)
    if unknown:
        allowed = ", ".join(taken) or "none"
        raise OptionError(f"plot(kind={kind!r}) has no option {', '.join(sorted(unknown))}; allowed: {allowed}.")
    found, choices = _chosen(result, options.pop(split, POOLED)), result.choices
    title = heading(found, choices)
    if kind == "effect":
        return rd_plots.plot_effect(_curve(result.table, "laqte", found.cutoff), title, ax)
    if kind == "averages":
        table = result.average_quantiles
        return rd_plots.plot_averages([_curve(table, term, found.cutoff) for term in ("above", "below")], title, ax)
    if kind == "rd":
        return rd_plots.plot_rd(scatters(found, choices, **options), title, ax)
    if kind == "bandwidth":
        ax = rd_plots.plot_bandwidths(*bandwidth_path(found, choices, **options), ax)
        ax.set_title(title, fontsize="medium")
        return ax
    h = found.h.max(axis=1) if found.h.ndim == 2 else found.h
    if kind == "density":
        return rd_plots.plot_running(found.design.x, (float(h[0]), float(h[1])), title, ax, found.design.treated)
    lonlat = found.design.sampling.lonlat
    if lonlat is None:
        raise DataError('plot(kind="map") needs the places of the units: r3d(..., coords=("longitude", "latitude")).')
    lines = None if options.get("border") is None else border_lines(options["border"])
    return rd_plots.plot_units(lonlat, found.design.treated, found.window, title, ax, lines)


def _chosen(result: "R3dResult", label: Any) -> R3dEstimate:
    """The set of units with a label: a text, or the number of a cutoff."""
    split = result.estimates[0].design.split
    wanted = str(label)
    if isinstance(label, numbers.Real):
        wanted = number_labels(np.array([float(label)]))[0]
    for one in result.estimates:
        if one.cutoff in (wanted, str(label)):
            return one
    for failure in result.failed:
        if failure.cutoff in (wanted, str(label)):
            raise DataError(f"{split} {failure.cutoff} has no estimate to plot: {failure.reason}")
    known = ", ".join(one.cutoff for one in result.estimates)
    raise OptionError(f"{split}={label!r} is none of the sets of units: {known}.")


def border_lines(border: Any) -> list[np.ndarray]:
    """Pieces (m, 2) of a border in degrees WGS84, from what `signed_distance` takes as one."""
    import shapely
    from pyproj import Transformer

    layer = read_shape(border, "border")
    convert = Transformer.from_crs(layer.crs, "EPSG:4326", always_xy=True)
    pieces = [shapely.get_coordinates(part) for part in shapely.get_parts(line_of(layer))]
    return [np.column_stack(convert.transform(piece[:, 0], piece[:, 1])) for piece in pieces]


def _curve(table: EffectTable, term: str, part: str) -> Curve:
    """Rows of one term and one set of units along the quantiles."""
    rows = table["term"] == term
    for split in ("cutoff", "segment"):
        if split in table.columns:
            rows &= table[split] == part
    at = np.flatnonzero(rows)
    nothing = np.full(at.size, np.nan)
    low, high = (table[name][at] if name in table.columns else nothing for name in ("band_low", "band_high"))
    return Curve(
        table["quantile"][at], table["estimate"][at], table["conf_low"][at], table["conf_high"][at], low, high, term
    )


def scatters(
    found: R3dEstimate,
    choices: R3dChoices,
    levels: float | Sequence[float] = (0.1, 0.5, 0.9),
    bins: int = 20,
    equal_counts: bool = False,
) -> list[Scatter]:
    """Binned unit quantiles at the levels nearest to ``levels`` with the fitted polynomials."""
    design = found.design
    columns = _nearest(design.quantiles, levels)
    bins = count("bins", bins, minimum=1)
    made = []
    for j in columns:
        h = found.h[:, j] if found.h.ndim == 2 else found.h
        bin_x, bin_y = _bins(design.x, design.Q[:, j], design.treated, bins, equal_counts)
        fit_x, fit_y = _polynomials(found, choices, j, h)
        name = f"q = {design.quantiles[j]:.3g}"
        made.append(Scatter(design.x, design.Q[:, j], bin_x, bin_y, fit_x, fit_y, (float(h[0]), float(h[1])), name))
    return made


def _nearest(quantiles: np.ndarray, levels: Any) -> list[int]:
    """Positions of the levels in use nearest to one or several levels in (0, 1)."""
    wanted = np.atleast_1d(finite_numbers("levels", levels))
    if not ((wanted > 0.0) & (wanted < 1.0)).all():
        raise OptionError(f"levels={levels!r} must lie in (0, 1).")
    return sorted({int(np.argmin(np.abs(quantiles - level))) for level in wanted.tolist()})


def _bins(
    x: np.ndarray, y: np.ndarray, right: np.ndarray, bins: int, equal_counts: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Means of x and y in bins of each side."""
    at, value = [], []
    for side in (~right, right):
        if equal_counts:
            edges = np.quantile(x[side], np.linspace(0.0, 1.0, bins + 1))
        else:
            edges = np.linspace(x[side].min(), x[side].max(), bins + 1)
        which = np.clip(np.searchsorted(edges, x[side], side="right") - 1, 0, bins - 1)
        size = np.bincount(which, minlength=bins)
        kept = size > 0
        at.append((np.bincount(which, x[side], bins) / np.maximum(size, 1))[kept])
        value.append((np.bincount(which, y[side], bins) / np.maximum(size, 1))[kept])
    return np.concatenate(at), np.concatenate(value)


def _polynomials(found: R3dEstimate, choices: R3dChoices, j: int, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The local polynomial of one level on both sides, as fitted: at the mean of the covariates in the window."""
    design = found.design
    k = found.fit.columns.weights
    k = k[j] if k.ndim == 2 else k
    centred = design.covariates - (k @ design.covariates / k.sum())[None, :]
    outcome = design.Q[:, j] - centred @ found.fit.columns.slopes[:, j]
    at, value = [], []
    for side, reach in ((~design.treated, -h[1]), (design.treated, h[0])):
        own = side & (k > 0.0)
        root = np.sqrt(k[own])
        columns = np.vander(design.x[own], choices.order + 1, increasing=True)
        beta = np.linalg.lstsq(columns * root[:, None], outcome[own] * root, rcond=None)[0]
        grid = np.linspace(reach, -1e-12, _STEPS) if reach < 0.0 else np.linspace(0.0, reach, _STEPS)
        at.append(grid)
        value.append(np.vander(grid, choices.order + 1, increasing=True) @ beta)
    return np.concatenate(at), np.concatenate(value)


def bandwidth_path(
    found: R3dEstimate,
    choices: R3dChoices,
    levels: float | Sequence[float] = (0.1, 0.5, 0.9),
    factors: float | Sequence[float] = _WIDTHS,
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray, float]:
    """Effects at some levels and the p-value of no effect, refitted at multiples of the bandwidth."""
    from causalsat.errors import SingularWindowError

    design = found.design
    columns = _nearest(design.quantiles, levels)
    multiples = np.atleast_1d(finite_numbers("factors", factors))
    if not (multiples > 0.0).all():
        raise OptionError(f"factors={factors!r} must be positive.")
    effects: dict[str, list[float]] = {f"q = {design.quantiles[j]:.3g}": [] for j in columns}
    widths, p_values = [], []
    for factor in multiples.tolist():
        try:
            own = None if found.h_treatment is None else found.h_treatment * factor
            again = refitted(
                found, choices, bandwidth=found.h * factor, bandwidth_treatment=own, tests=("nullity",),
                functionals=(), thresholds=(),
            )  # fmt: skip
        except SingularWindowError:
            continue
        widths.append(float(np.mean(found.h * factor)))
        p_values.append(again.inference.tests[0].p_value)
        for name, j in zip(effects, columns, strict=True):
            effects[name].append(float(again.inference.curve.estimate[j]))
    curves = {name: np.array(values) for name, values in effects.items()}
    return np.array(widths), curves, np.array(p_values), float(np.mean(found.h))
