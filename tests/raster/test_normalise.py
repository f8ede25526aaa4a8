"""Normalisers: declared numbers, fitted numbers, refusals."""

import json

import numpy as np
import pytest

from causalsat import Normalise
from causalsat.errors import DataError, OptionError
from causalsat.raster.normalise import FittedNormaliser, default_normalise, fit_normaliser, keyed_order


def chips(n=5, side=6, bands=2, seed=0):
    rng = np.random.default_rng(seed)
    return [(f"p{i}", rng.normal(1000.0, 30.0, (side, side, bands)), rng.random((side, side)) > 0.3) for i in range(n)]


def valid_pixels(sample):
    return np.concatenate([pixels[mask] for _, pixels, mask in sample])


def test_uint8_is_divided_by_255():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    scaled = default_normalise(np.uint8).resolve(np.uint8, 3).apply(pixels, np.ones((1, 2, 2), bool))
    np.testing.assert_array_equal(scaled, pixels.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32"])
def test_other_integers_need_their_divisor(dtype):
    with pytest.raises(OptionError, match=f"no divisor for {dtype}.*spread=10000"):
        default_normalise(dtype).resolve(dtype, 3)
    assert Normalise(spread=10000).resolve(dtype, 2).spread == (10000.0, 10000.0)


def test_floats_stay_as_they_are():
    pixels = np.random.default_rng(0).random((1, 3, 3, 2)).astype(np.float32)
    fitted = default_normalise(np.float32).resolve(np.float32, 2)
    np.testing.assert_array_equal(fitted.apply(pixels, np.ones((1, 3, 3), bool)), pixels)


@pytest.mark.parametrize("kind", ["scale", "log1p", "none"])
def test_invalid_pixels_become_zero_whatever_they_held(kind):
    fitted = Normalise(kind=kind, spread=10.0, clip=(0.1, 5.0)).resolve(np.float32, 1)
    pixels = np.array([np.nan, np.inf, -5.0, 20.0], np.float32).reshape(1, 2, 2, 1)
    mask = np.array([False, False, False, True]).reshape(1, 2, 2)
    out = fitted.apply(pixels, mask)
    assert out[~mask].tolist() == [[0.0]] * 3
    assert np.isfinite(out).all()


def test_log1p_of_negative_pixels_is_zero():
    fitted = Normalise(kind="log1p").resolve(np.float32, 1)
    out = fitted.apply(np.array([-3.0, np.e - 1], np.float32).reshape(1, 1, 2, 1), np.ones((1, 1, 2), bool))
    np.testing.assert_allclose(out.ravel(), [0.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("per_band", [True, False])
def test_zscore_equals_the_moments_of_all_valid_pixels(per_band):
    sample = chips()
    fitted = fit_normaliser(Normalise(kind="zscore", fit="sample", per_band=per_band), sample, 2, seed=0)
    pixels = valid_pixels(sample)
    axis = 0 if per_band else None
    np.testing.assert_allclose(fitted.centre, np.broadcast_to(pixels.mean(axis=axis), 2), rtol=1e-12)
    np.testing.assert_allclose(fitted.spread, np.broadcast_to(pixels.std(axis=axis), 2), rtol=1e-12)
    assert fitted.fit_ids == ("p0", "p1", "p2", "p3", "p4")


def test_percentiles_go_to_zero_and_one():
    sample = chips()
    fitted = fit_normaliser(Normalise(kind="percentile", fit="sample", percentiles=(10, 90)), sample, 2, seed=0)
    low, high = np.percentile(valid_pixels(sample), (10, 90), axis=0)
    ends = np.stack([low, high])[None, :, None, :]
    out = fitted.apply(ends, np.ones((1, 2, 1), bool))[0, :, 0]
    np.testing.assert_allclose(out, [[0, 0], [1, 1]], atol=1e-5)


def test_fitted_numbers_survive_json():
    fitted = fit_normaliser(Normalise(kind="zscore", fit="sample", clip=(-3, 3)), chips(), 2, seed=0)
    assert FittedNormaliser.from_spec(json.loads(json.dumps(fitted.spec()))) == fitted
    assert fitted.spec()["fit_ids_sha256"] != FittedNormaliser("none", (0.0,), (1.0,)).spec()["fit_ids_sha256"]


def test_a_constant_band_keeps_spread_one_and_an_empty_sample_is_refused():
    sample = [("a", np.full((3, 3, 1), 7.0), np.ones((3, 3), bool))]
    assert fit_normaliser(Normalise(kind="zscore", fit="sample"), sample, 1, seed=0).spread == (1.0,)
    with pytest.raises(DataError, match="no valid pixel"):
        fit_normaliser(Normalise(kind="zscore", fit="sample"), [("a", sample[0][1], np.zeros((3, 3), bool))], 1, seed=0)


def test_keyed_order_ignores_the_order_of_ids():
    ids = [f"site-{i}" for i in range(30)]
    forward = [ids[i] for i in keyed_order(0, ids)]
    assert [ids[::-1][i] for i in keyed_order(0, ids[::-1])] == forward
    assert [ids[i] for i in keyed_order(1, ids)] != forward


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "zscores"}, 'Did you mean "zscore"'),
        ({"kind": "scale", "fit": "sample"}, "only zscore and percentile"),
        ({"kind": "zscore"}, "needs centre= and spread="),
        ({"percentiles": (90, 10)}, "low < high"),
        ({"clip": (1, 0)}, "low < high"),
        ({"n_fit": 0}, "at least 1"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(OptionError, match=match):
        Normalise(**options)


def test_numbers_per_band_must_match_the_bands():
    with pytest.raises(OptionError, match="each of the 3 bands"):
        Normalise(spread=(1.0, 2.0)).resolve(np.uint16, 3)
    with pytest.raises(OptionError, match="must not be zero"):
        Normalise(spread=0.0).resolve(np.uint16, 3)
