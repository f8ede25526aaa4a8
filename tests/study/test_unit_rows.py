"""Histograms of areas, counts that are none, and keys that mean the same unit."""

import numpy as np
import pandas as pd
import pytest

from causalsat.errors import DataError, OptionError, SmallUnitsWarning
from causalsat.study.distributions import Histogram
from causalsat.study.unit_cells import cell_means
from causalsat.study.unit_quantiles import sampling_variance, unit_quantiles
from causalsat.study.unit_rows import open_units

LEVELS = np.array([0.1, 0.37, 0.5, 0.8])
EDGES = np.arange(21) - 0.5


def draws_of(outcome, n, **options):
    frame = pd.DataFrame({"u": np.arange(n)})
    return open_units(frame, outcome=outcome, unit="u", constant={}, **options).draws


def sampled(n=12, k=10, seed=0):
    z = np.random.default_rng(seed).poisson(6.0, (n, k))
    return z.astype(float), np.stack([np.bincount(row, minlength=20) for row in z])


def test_a_histogram_of_areas_is_worth_its_pixels():
    _, counts = sampled()
    plain = draws_of(Histogram(EDGES, counts), 12)
    area = draws_of(Histogram(EDGES, counts * 900.25, n_pixels=np.full(12, 10)), 12)
    assert area.totals.tolist() == plain.totals.tolist() == [10.0] * 12
    np.testing.assert_allclose(unit_quantiles(area, LEVELS), unit_quantiles(plain, LEVELS), atol=1e-12)
    np.testing.assert_allclose(sampling_variance(area, LEVELS), sampling_variance(plain, LEVELS), atol=1e-12)
    edges = np.array([0.0, 0.3, 1.0])
    np.testing.assert_allclose(cell_means(area, edges).means, cell_means(plain, edges).means)
    np.testing.assert_allclose(area.take(np.arange(3)).totals, 10.0)
    with pytest.raises(OptionError, match="with weights use"):
        unit_quantiles(area, LEVELS, small_sample="half")
    same = draws_of(Histogram(EDGES, counts, n_pixels=np.full(12, 10)), 12)
    assert not same.weighted and area.weighted


def test_a_histogram_of_weights_is_the_table_of_weighted_draws():
    z, _ = sampled(k=30)
    weights = np.random.default_rng(1).uniform(0.2, 1.0, z.shape) * 900.0
    areas = np.stack([np.bincount(row.astype(int), own, 20) for row, own in zip(z, weights, strict=True)])
    binned = draws_of(Histogram(EDGES, areas, n_pixels=np.full(12, 30.0)), 12)
    long = draws_of(z, 12, weights=weights)
    np.testing.assert_allclose(unit_quantiles(binned, LEVELS), unit_quantiles(long, LEVELS), atol=1e-9)


def test_a_histogram_of_areas_without_pixels_is_refused_or_doubted():
    _, counts = sampled()
    with pytest.raises(DataError, match="areas or shares of pixels"):
        draws_of(Histogram(EDGES, counts * 0.37), 12)
    with pytest.warns(SmallUnitsWarning, match="multiple of 900"):
        draws_of(Histogram(EDGES, counts * 900), 12)


def test_pixels_behind_a_histogram():
    counts = np.array([[1.5, 0.5], [0.0, 0.0]])
    edges = np.array([0.0, 1.0, 2.0])
    assert draws_of(Histogram(edges, counts, n_pixels=[4, 0]), 2).sizes.tolist() == [4, 0]
    for n_pixels, message in (([4], "one number per unit"), ([0, 0], "row 0 is 0"), ([4, np.nan], "row 1 is nan")):
        with pytest.raises(DataError, match=message):
            Histogram(edges, counts, n_pixels=n_pixels)


@pytest.mark.parametrize("shape", ["matrix", "list", "long"])
def test_counts_that_are_not_whole_are_refused(shape):
    z = np.array([[1.0, 2.0], [3.0, 4.0]])
    w = np.array([[1.0, 2.0], [0.3, 1.0]])
    with pytest.raises(DataError, match=r"0\.3 is not whole \(1 such"):
        if shape == "long":
            frame = pd.DataFrame({"u": [0, 0, 1, 1], "z": z.ravel(), "w": w.ravel()})
            open_units(frame, outcome="z", unit="u", constant={}, weights="w", count_weights=True)
        elif shape == "list":
            draws_of(list(z), 2, weights=list(w), count_weights=True)
        else:
            draws_of(z, 2, weights=w, count_weights=True)


def test_keys_that_are_one_unit_as_text():
    with pytest.raises(DataError, match=r"several entries for the unit '0' .keys 0, '0'"):
        draws_of({0: [1.0, 2.0], "0": [3.0], 1: [4.0]}, 2)
    assert draws_of({0: [1.0, 2.0], "1": [4.0]}, 2).sizes.tolist() == [2, 1]
