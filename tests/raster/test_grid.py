"""Chip geometry against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.errors import ChipSizeWarning, OptionError
from causalsat.raster.grid import chip_pixels, first_pixel, hilbert_index, laea, project, scale_factors, utm_epsg


@settings(max_examples=80, deadline=None)
@given(n=st.integers(1, 600), gsd=st.floats(0.05, 5000))
def test_whole_sizes_round_trip(n, gsd):
    assert chip_pixels(n * gsd, gsd) == (n, pytest.approx(n * gsd))


def test_sizes_that_are_not_whole_pixels_warn():
    with pytest.warns(ChipSizeWarning, match="pass size_m=990"):
        assert chip_pixels(1000, 30) == (33, 990)


def test_a_size_below_half_a_percent_does_not_warn():
    assert chip_pixels(1000.0, 999 / 333)[0] == 333


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), "1km", True])
def test_a_size_must_be_a_positive_number(size):
    with pytest.raises(OptionError, match="size_m"):
        chip_pixels(size, 10)


def test_odd_windows_centre_on_the_pixel_that_holds_the_place():
    assert first_pixel(np.array([10.0, 10.5, 10.999]), 5).tolist() == [8, 8, 8]


def test_even_windows_centre_on_the_nearest_pixel_edge():
    assert first_pixel(np.array([10.0, 10.49, 10.5, 10.9]), 4).tolist() == [8, 8, 9, 9]


def test_ties_do_not_hang_on_rounding():
    assert len(set(first_pixel(np.array([10.5 - 1e-9, 10.5, 10.5 + 1e-9]), 4).tolist())) == 1


@settings(max_examples=100, deadline=None)
@given(position=st.floats(-1000, 1000), n=st.integers(1, 300))
def test_the_centre_is_off_by_half_a_pixel_at_most(position, n):
    centre = first_pixel(np.array([position]), n)[0] + n / 2
    assert abs(centre - position) <= 0.5 + 1e-6


@settings(max_examples=60, deadline=None)
@given(position=st.floats(-500, 500), n=st.integers(1, 99), shift=st.integers(-1000, 1000))
def test_whole_shifts_move_the_window_by_as_much(position, n, shift):
    position = round(position, 5)
    assert first_pixel(np.array([position + shift]), n)[0] == first_pixel(np.array([position]), n)[0] + shift


def test_zones_cover_the_globe():
    lon = np.array([-180.0, -179.9, 179.99, 180.0, 33.0, 33.0, 10.0, 10.0])
    lat = np.array([1.0, -1.0, 1.0, 1.0, 2.0, -2.0, 84.5, -80.5])
    assert utm_epsg(lon, lat).tolist() == [32601, 32701, 32660, 32601, 32636, 32736, 32661, 32761]


def test_zones_are_true_to_scale_and_web_mercator_is_not():
    from pyproj import CRS

    zone, _ = scale_factors(CRS(32636), np.array([33.0, 30.0]), np.array([1.0, 1.0]))
    web, _ = scale_factors(CRS(3857), np.array([33.0]), np.array([45.0]))
    assert zone == pytest.approx([0.9996, 1.001], abs=2e-4)
    assert web[0] == pytest.approx(np.sqrt(2), rel=5e-3)


def test_the_local_projection_is_centred_on_its_place():
    x, y = project(laea(33.123456789, -1.5), np.array([33.123456789]), np.array([-1.5]))
    assert (abs(x[0]), abs(y[0])) < (1e-6, 1e-6)


def test_the_curve_visits_each_cell_once_and_steps_to_a_neighbour():
    x, y = (a.ravel() for a in np.meshgrid(np.arange(32), np.arange(32)))
    order = np.argsort(hilbert_index(x, y, 5))
    assert sorted(hilbert_index(x, y, 5)) == list(range(1024))
    assert set(np.abs(np.diff(x[order])) + np.abs(np.diff(y[order]))) == {1}
