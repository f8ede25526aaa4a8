"""The Uganda sample: its images, their overlaps, its folds."""

import hashlib

import numpy as np
import pytest

import causalsat as cs
from causalsat.errors import DroppedRowsWarning
from causalsat.study.fold_units import fold_units, image_pairs
from causalsat.study.folds import deal_folds, training_sets
from causalsat.study.open import Role, open_study

ROLES = (
    Role("outcome", "outcome", "numeric"),
    Role("treatment", "treated", "binary", many=True, missing="keep"),
    Role("covariates", ["x1", "x3", "x5"], "design", many=True, missing="keep"),
)


@pytest.fixture(scope="module")
def chips(real_data):
    import rasterio

    ids, features, boxes, hashes = [], [], [], []
    for path in sorted(real_data("uganda/chips").glob("*.tif"), key=lambda p: int(p.stem)):
        with rasterio.open(path) as source:
            pixels = source.read()
            assert source.crs.to_epsg() == 32636
            boxes.append([*source.bounds])
        ids.append(int(path.stem))
        features.append([*pixels.mean(axis=(1, 2)), *pixels.std(axis=(1, 2))])
        hashes.append(hashlib.sha256(pixels.tobytes()).hexdigest())
    return cs.Embeddings.from_matrix(features, ids=ids, footprint=boxes, footprint_crs="EPSG:32636", chip_sha256=hashes)


@pytest.fixture(scope="module")
def study(real_data, chips):
    people = real_data("uganda/people.csv")
    return open_study(people, ROLES, coords=("longitude", "latitude"), embeddings=chips, embedding_key="site")


def test_overlaps_identical_chips_and_components(study):
    assert (len(study.rows), len(study.embeddings)) == (2082, 327)
    pairs = image_pairs(study)
    assert len(pairs.overlapping) == 20
    assert study.embeddings.ids[pairs.identical].tolist() == [["157", "159"], ["228", "229"]]
    units, labels = fold_units(study, folds=cs.Folds())
    assert len(labels) == len(np.unique(units)) == 309
    sites = np.unique(np.column_stack([units, study.image]), axis=0)
    assert np.bincount(sites[:, 0]).max() == 4


def test_identical_chips_are_found_without_hashes(study):
    bare = cs.Embeddings.from_matrix(study.embeddings.matrix, ids=study.embeddings.ids)
    from causalsat.study.overlap import identical_images

    assert bare.ids[identical_images(bare)].tolist() == [["157", "159"], ["228", "229"]]


def test_folds_are_balanced_and_do_not_depend_on_the_order_of_people(real_data, chips, study):
    import pandas as pd

    units, labels = fold_units(study, folds=cs.Folds())
    w = study.numeric["treatment"][:, 0]
    fold = deal_folds(units, w, n_folds=5, seed=0, unit_labels=labels)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= np.bincount(units).max()
    shares = np.array([w[fold == k].mean() for k in range(5)])
    assert np.abs(shares - w.mean()).max() < 0.03
    people = pd.read_csv(real_data("uganda/people.csv"))
    order = np.random.default_rng(0).permutation(len(people))
    other = open_study(
        people.iloc[order],
        ROLES,
        coords=("longitude", "latitude"),
        embeddings=chips.take(np.arange(327)[::-1]),
        embedding_key="site",
    )
    units, labels = fold_units(other, folds=cs.Folds())
    again = deal_folds(units, other.numeric["treatment"][:, 0], n_folds=5, seed=0, unit_labels=labels)
    np.testing.assert_array_equal(again, fold[order])


def test_blocks_with_a_buffer(study):
    folds = cs.Folds(block_km=50, buffer_km=5)
    units, labels = fold_units(study, folds=folds, seed=0)
    fold = deal_folds(units, study.numeric["treatment"][:, 0], n_folds=5, seed=0, unit_labels=labels)
    assert len(labels) >= 10
    assert training_sets(fold, study.lonlat, folds.buffer_km).shape == (5, 2082)


def test_seven_people_lack_a_covariate(real_data):
    roles = [*ROLES[:2], Role("covariates", ["x1", "x3", "x5"], "design", many=True)]
    with pytest.warns(DroppedRowsWarning, match="7 of 2082"):
        study = open_study(real_data("uganda/people.csv"), roles)
    assert study.dropped == {"covariates x3 is missing": 7}
