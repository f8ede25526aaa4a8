"""The baseline encoder against NumPy, and its index expressions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat import Bands
from causalsat.errors import OptionError
from causalsat.raster.encoders.indices import band_variables, parse_index


def fitted(names=("red", "nir"), **options):
    return Bands(**options).restore({}, {"band_names": list(names)})


def batch(seed=0, n=3, side=7, bands=2):
    rng = np.random.default_rng(seed)
    return rng.random((n, side, side, bands), dtype=np.float32), rng.random((n, side, side)) > 0.3


def test_equals_numpy_over_valid_pixels():
    pixels, mask = batch()
    encoder = fitted(indices={"ndvi": "(nir - red) / (nir + red)"})
    features = encoder.encode(pixels, mask)
    for i in range(3):
        red, nir = pixels[i][mask[i]].astype(np.float64).T
        rows = [red, nir, (nir - red) / (nir + red)]
        expected = [[v.mean(), v.std(), *np.quantile(v, (0.05, 0.25, 0.5, 0.75, 0.95))] for v in rows]
        np.testing.assert_allclose(features[i], np.ravel(expected), rtol=1e-6)
    assert encoder.feature_names[:3] == ("bands/red/mean", "bands/red/sd", "bands/red/q0.05")
    assert encoder.feature_names[-1] == "bands/ndvi/q0.95"
    assert len(encoder.feature_names) == features.shape[1] == 21


def test_zero_denominators_are_left_out_and_never_zero():
    pixels = np.zeros((2, 2, 2, 2), np.float32)
    pixels[0, 0, 0] = (1.0, 3.0)
    features = fitted(indices={"ndvi": "(nir-red)/(nir+red)"}, quantiles=()).encode(pixels, np.ones((2, 2, 2), bool))
    assert features[0, 4:].tolist() == [0.5, 0.0]
    assert np.isnan(features[1, 4:]).all()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), fill=st.floats(-1e6, 1e6, width=32))
def test_invalid_pixels_and_places_of_pixels_do_not_matter(seed, fill):
    pixels, mask = batch(seed)
    other = pixels.copy()
    other[~mask] = fill
    order = np.random.default_rng(seed).permutation(49)
    moved = pixels.reshape(3, 49, 2)[:, order].reshape(pixels.shape)
    moved_mask = mask.reshape(3, 49)[:, order].reshape(mask.shape)
    encoder = fitted()
    expected = encoder.encode(pixels, mask)
    np.testing.assert_array_equal(encoder.encode(other, mask), expected)
    np.testing.assert_array_equal(encoder.encode(moved, moved_mask), expected)


def test_rows_do_not_depend_on_the_batch():
    pixels, mask = batch(n=8)
    whole = fitted().encode(pixels, mask)
    np.testing.assert_array_equal(
        np.concatenate([fitted().encode(pixels[i : i + 2], mask[i : i + 2]) for i in (0, 2, 4, 6)]), whole
    )


def test_all_invalid_is_nan():
    pixels, mask = batch()
    mask[1] = False
    assert np.isnan(fitted().encode(pixels, mask)[1]).all()


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')",
        "red.real",
        "red ** 2",
        "red if nir else 0",
        "[red]",
        "red < nir",
        "lambda: 0",
        "'text'",
        "True",
    ],
)
def test_expressions_hold_arithmetic_only(expression):
    with pytest.raises(OptionError, match="allowed are numbers, band names, brackets"):
        Bands(indices={"x": expression})


def test_unknown_bands_are_refused_with_the_nearest_name():
    with pytest.raises(OptionError, match=r'"nirr".*|Did you mean "nir"'):
        fitted(indices={"x": "nirr / red"})
    with pytest.raises(OptionError, match="is not an arithmetic expression"):
        parse_index("x", "(red")
    with pytest.raises(OptionError, match="which a band is called already"):
        fitted(indices={"red": "nir / 2"})


def test_band_numbers_always_work():
    assert band_variables(("Band 1", "nir"))["b2"] == 1
    pixels, mask = batch()
    one, other = (
        fitted(names=("Band 1", "nir"), indices={"x": e}).encode(pixels, mask) for e in ("b1/b2", "Band_1/nir")
    )
    np.testing.assert_array_equal(one, other)
