"""The RCF sweep against a float64 NumPy golden, closed forms and its numerics contract."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalsat.kernels.precision import float64
from causalsat.kernels.rcf import rcf_features, window_valid


def golden(images, mask, filters, bias, patch):
    """Mean rectified responses in float64, written with windows and one product."""
    features = np.full((len(images), 2 * len(filters)), np.nan)
    for i, (image, valid) in enumerate(zip(images.astype(np.float64), mask)):
        windows = np.lib.stride_tricks.sliding_window_view(image, (patch, patch), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        whole = np.lib.stride_tricks.sliding_window_view(valid, (patch, patch)).all(axis=(2, 3))
        response = windows[whole].reshape(-1, filters.shape[1]) @ filters.astype(np.float64).T
        if whole.any():
            positive, negative = np.maximum(response - bias, 0), np.maximum(-response - bias, 0)
            features[i] = np.concatenate([positive.mean(axis=0), negative.mean(axis=0)])
    return features


def ours(images, mask, filters, bias, patch):
    with float64():
        return np.asarray(rcf_features(images, mask, filters, np.float32(bias), patch=patch))


def problem(seed, n=4, side=20, bands=3, patch=3, k=16, holes=0.0):
    rng = np.random.default_rng(seed)
    images = rng.random((n, side, side, bands), dtype=np.float32)
    mask = rng.random((n, side, side)) >= holes
    return images, mask, rng.standard_normal((k, patch * patch * bands)).astype(np.float32)


@pytest.mark.parametrize("bias", [0.0, 0.3, -0.2])
@pytest.mark.parametrize(("side", "bands", "patch"), [(20, 3, 3), (17, 1, 6), (35, 4, 5), (6, 2, 6), (9, 3, 1)])
def test_golden(side, bands, patch, bias):
    images, mask, filters = problem(1, side=side, bands=bands, patch=patch, holes=0.02)
    np.testing.assert_allclose(
        ours(images, mask, filters, bias, patch), golden(images, mask, filters, bias, patch), rtol=1e-5, atol=1e-6
    )


def test_golden_at_64_pixels_within_1e_5_relative():
    images, mask, filters = problem(2, side=64, patch=6, k=64)
    images -= np.float32(0.5)
    expected = golden(images, mask, filters, 0.0, 6)
    np.testing.assert_allclose(ours(images, mask, filters, 0.0, 6), expected, rtol=1e-5)


def test_constant_image_gives_v_times_the_sum_of_the_filter():
    _, mask, filters = problem(3)
    value = np.float32(0.37)
    images = np.full((4, 20, 20, 3), value, np.float32)
    response = value * filters.astype(np.float64).sum(axis=1)
    expected = np.concatenate([np.maximum(response, 0), np.maximum(-response, 0)])
    np.testing.assert_allclose(ours(images, mask, filters, 0.0, 3), np.tile(expected, (4, 1)), rtol=1e-5, atol=1e-6)


def test_one_patch_image_gives_one_inner_product():
    images, mask, filters = problem(4, side=5, patch=5)
    response = images.reshape(4, -1).astype(np.float64) @ filters.astype(np.float64).T
    features = ours(images, mask, filters, 0.0, 5)
    np.testing.assert_allclose(features[:, :16] - features[:, 16:], response, rtol=1e-5, atol=1e-6)


def test_zero_bias_difference_is_the_mean_response():
    images, mask, filters = problem(5)
    windows = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (3, 3), axis=(1, 2))
    mean = windows.mean(axis=(1, 2)).transpose(0, 2, 3, 1).reshape(4, -1) @ filters.T
    features = ours(images, mask, filters, 0.0, 3)
    np.testing.assert_allclose(features[:, :16] - features[:, 16:], mean, rtol=1e-4, atol=1e-5)


def test_the_kernel_is_not_flipped():
    images = np.zeros((2, 3, 3, 1), np.float32)
    images[:, 0, 1, 0] = 1.0
    filters = np.arange(1, 10, dtype=np.float32)[None]
    assert ours(images, np.ones((2, 3, 3), bool), filters, 0.0, 3)[0].tolist() == [2.0, 0.0]


def test_masked_equals_the_valid_sub_rectangle():
    images, mask, filters = problem(6, side=24)
    mask[:] = False
    mask[:, 3:19, 5:22] = True
    images[~mask] = np.nan
    inner = np.ascontiguousarray(images[:, 3:19, 5:22])
    expected = ours(inner, np.ones(inner.shape[:3], bool), filters, 0.1, 3)
    np.testing.assert_allclose(ours(images, mask, filters, 0.1, 3), expected, rtol=2e-6)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), fill=st.floats(-1e6, 1e6, width=32), bias=st.sampled_from([0.0, 0.2, -0.3]))
def test_fill_values_never_leak(seed, fill, bias):
    images, mask, filters = problem(seed, holes=0.05)
    other = images.copy()
    other[~mask] = fill
    np.testing.assert_array_equal(ours(images, mask, filters, bias, 3), ours(other, mask, filters, bias, 3))


def test_no_valid_window_is_nan_and_never_zero():
    images, mask, filters = problem(7)
    mask[1] = False
    mask[2] = (np.add.outer(np.arange(20), np.arange(20)) % 3) != 0
    features = ours(images, mask, filters, 0.0, 3)
    assert np.isnan(features[1:3]).all()
    assert np.isfinite(features[[0, 3]]).all()


def test_window_valid_is_the_and_of_every_window():
    rng = np.random.default_rng(8)
    mask = rng.random((5, 12, 15)) > 0.1
    expected = np.lib.stride_tricks.sliding_window_view(mask, (4, 4), axis=(1, 2)).all(axis=(3, 4))
    np.testing.assert_array_equal(np.asarray(window_valid(mask, patch=4)), expected)


@pytest.mark.parametrize(("side", "k"), [(16, 16), (35, 128), (64, 128)])
def test_rows_are_bit_equal_under_batch_size_padding_and_permutation(side, k):
    images, mask, filters = problem(9, n=32, side=side, patch=3, k=k, holes=0.01)
    whole = ours(images, mask, filters, 0.0, 3)
    for size in (2, 5, 8, 16):
        np.testing.assert_array_equal(ours(images[:size], mask[:size], filters, 0.0, 3), whole[:size])
    order = np.random.default_rng(0).permutation(32)
    np.testing.assert_array_equal(ours(images[order], mask[order], filters, 0.0, 3), whole[order])
    repeats = np.r_[np.arange(7), np.zeros(25, int)]
    np.testing.assert_array_equal(ours(images[repeats], mask[repeats], filters, 0.0, 3)[:7], whole[:7])


def test_result_type_does_not_depend_on_the_precision_mode():
    images, mask, filters = problem(10)
    assert ours(images, mask, filters, 0.0, 3).dtype == np.float32
