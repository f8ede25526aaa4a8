"""Columns of a nuisance fit: imputation inside the training part, unsupervised components, the penalty rule."""

import doctest

import numpy as np
import pytest

from causalsat.errors import DataError, OptionError
from causalsat.estimators import features
from causalsat.estimators.features import compressed, training_columns
from causalsat.estimators.nuisance_layout import assemble


def test_training_columns_use_training_rows_only():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 2)) + 3
    table[rng.random(60) < 0.2, 1] = np.nan
    train = np.arange(60) < 40
    ours = training_columns(assemble(table, None, 60, None), train.astype(float))
    filled = np.where(np.isnan(table), np.nanmean(table[train], axis=0), table)
    expected = (filled - filled[train].mean(axis=0)) / filled[train].std(axis=0)
    np.testing.assert_allclose(ours[:, :2], expected, atol=1e-12)
    assert ours.shape[1] == 3
    table[~train] += 100
    moved = training_columns(assemble(table, None, 60, None), train.astype(float))
    np.testing.assert_allclose(moved[train], ours[train], atol=1e-10)


def test_tabular_columns_are_free_only_when_few():
    few = assemble(np.zeros((100, 2)), np.zeros((100, 3)), 100, None)
    many = assemble(np.zeros((100, 3)), np.zeros((100, 3)), 100, None)
    assert (few.n_free, many.n_free) == (2, 0)
    assert few.searched
    assert not assemble(np.zeros((100, 2)), None, 100, None).searched


def test_components_are_those_of_the_standardised_images():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) * 10.0 ** np.arange(6)
    images[7] = np.nan
    scores = compressed(images, 3)
    used = np.delete(images, 7, axis=0)
    z = (used - used.mean(axis=0)) / used.std(axis=0)
    values = np.linalg.eigvalsh(z.T @ z)[::-1][:3]
    np.testing.assert_allclose(np.nansum(scores**2, axis=0), values, rtol=1e-10)
    assert np.isnan(scores[7]).all()
    np.testing.assert_allclose(compressed(images * 2 + 1, 3), scores, atol=1e-9, equal_nan=True)
    np.testing.assert_allclose(compressed(images[::-1], 3), scores[::-1], atol=1e-9, equal_nan=True)


def test_components_beyond_the_data_are_refused():
    with pytest.raises(OptionError, match="at most 4"):
        compressed(np.random.default_rng(0).normal(size=(5, 9)), 5)
    with pytest.raises(DataError, match="no image"):
        compressed(np.full((5, 9), np.nan), 1)


def test_examples_run():
    assert doctest.testmod(features).failed == 0
