"""Plots return axes, show what the table holds and change nothing global."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causalsat.effects.maps import plot_map, plot_places
from causalsat.effects.plots import plot_table
from causalsat.effects.svg import inline_svg
from causalsat.errors import DataError, OptionError
from tests.effects.tables import make_table

PLACES = np.array([[30.0, 0.0], [31.0, 1.0], [32.0, 60.0], [33.0, 1.0]])


def segments(ax):
    """Horizontal lines as (low, high, width)."""
    found = [(line.get_xdata(), line.get_ydata(), line.get_linewidth()) for line in ax.lines]
    return [(x[0], x[1], width) for x, y, width in found if len(x) == 2 and y[0] == y[1]]


def test_coefficient_plot_draws_intervals_and_the_null(table):
    ax = plot_table(table)
    assert isinstance(ax, Axes)
    drawn = {(low, high) for low, high, _ in segments(ax)}
    assert {(low, high) for low, high in zip(table["conf_low"], table["conf_high"])} == drawn
    assert any(list(line.get_xdata()) == [0.0, 0.0] for line in ax.lines)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["none", "tabular", "image", "both"]
    assert "95% interval" in ax.get_xlabel()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_simultaneous_bands_are_thinner_and_wider(table):
    lines = segments(plot_table(table.joint()))
    widths = sorted({width for *_, width in lines})
    assert len(widths) == 2
    thin = {(low, high) for low, high, width in lines if width == widths[0]}
    joined = table.joint()
    assert thin == set(zip(joined["band_low"], joined["band_high"]))


def test_given_axes_are_used_and_returned(table):
    ax = Figure().add_subplot()
    assert plot_table(table, ax) is ax
    assert table.plot(ax=ax) is ax


def test_missing_rows_keep_their_place_and_say_so():
    table = make_table(estimate=[1.0, np.nan, 2.0, 3.0], unavailable={1: "no overlap"})
    ax = plot_table(table)
    assert [text.get_text() for text in ax.texts] == ["not available"]
    assert len(ax.get_yticklabels()) == 4


def test_two_differing_columns_become_categories_and_series():
    table = make_table(index={"funder": ["a", "a", "b", "b"], "adjust": ["none", "image", "none", "image"]})
    ax = plot_table(table)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none", "image"]
    assert ax.get_legend().get_title().get_text() == "adjust"


def test_a_number_alone_runs_along_the_x_axis():
    table = make_table(index={"quantile": [0.9, 0.1, 0.5, 0.3]}).joint()
    ax = plot_table(table)
    assert ax.get_xlabel() == "quantile"
    assert [0.1, 0.3, 0.5, 0.9] in [list(line.get_xdata()) for line in ax.lines]


def test_one_row_is_named_by_its_term(table):
    assert [text.get_text() for text in plot_table(table.take([0])).get_yticklabels()] == ["road"]


def test_unknown_kinds_are_refused(table):
    with pytest.raises(OptionError, match='Did you mean "coef"'):
        plot_table(table, kind="coeff")
    with pytest.raises(DataError, match="needs places"):
        plot_table(table, kind="map")


def test_map_draws_points_with_the_aspect_of_the_latitude():
    ax = plot_table(make_table(places=PLACES), kind="map")
    assert ax.get_aspect() == pytest.approx(1 / np.cos(np.radians(15.5)))
    points = ax.collections[0].get_offsets()
    assert np.allclose(points, PLACES)
    assert {axes.get_ylabel() for axes in ax.figure.axes} >= {"latitude", "estimate"}


def test_map_marks_missing_numbers_places_and_support():
    ax = plot_places(
        [[30.0, 1.0], [31.0, 1.0], [np.nan, 1.0], [32.0, 2.0]],
        [1.0, np.nan, 3.0, -4.0],
        outside=[False, False, True, True],
    )
    assert ax.get_title() == "1 rows have no place"
    assert [len(group.get_offsets()) for group in ax.collections[:3]] == [1, 1, 1]
    with pytest.raises(DataError, match="No place"):
        plot_places([[np.nan, np.nan]], [1.0])
    with pytest.raises(DataError, match="holds text"):
        plot_map(make_table(places=PLACES), column="adjust")


def test_no_plot_touches_global_state(table):
    before = dict(matplotlib.rcParams)
    for drawn in (plot_table(table), plot_table(make_table(places=PLACES), kind="map")):
        inline_svg(drawn, "a")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported():
    code = (
        "import sys, io\nfrom tests.effects.tables import make_table\nfrom causalsat.effects.svg import inline_svg\n"
        "ax = make_table().plot()\ninline_svg(ax, 'a')\nax.figure.savefig(io.BytesIO(), format='png')\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_svg_is_deterministic_and_refers_to_nothing_outside(table):
    ax = plot_table(table.joint())
    first = inline_svg(ax, "p")
    assert first == inline_svg(ax, "p") == inline_svg(plot_table(table.joint()), "p")
    assert "http" not in first
    assert "<metadata" not in first
    assert first.startswith("<svg")
    assert "none" in first
    assert 'id="p-' in first
