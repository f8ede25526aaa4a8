"""Folds: whole units, balanced, the same whatever the order of the rows; buffers; blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import DataError, ImageSplitError
from causalsat.study.blocks import spatial_blocks
from causalsat.study.folds import check_arms, check_user_folds, deal_folds, other_folds, share_lost, training_sets
from causalsat.study.sphere import great_circle_km
from tests.study.making import same_partition


def units_of(seed: int, n: int = 300, g: int = 60):
    rng = np.random.default_rng(seed)
    units = rng.integers(0, g, n)
    return units, (rng.random(n) < 0.4).astype(float), np.array([f"village {i}" for i in range(g)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(0, 3))
def test_units_stay_whole_and_sizes_within_one_unit(seed, k, repeat):
    units, treated, labels = units_of(seed)
    fold = deal_folds(units, treated, n_folds=k, seed=seed, repeat=repeat, unit_labels=labels)
    assert len(np.unique(np.column_stack([units, fold]), axis=0)) == len(np.unique(units))
    sizes = np.bincount(fold, minlength=k)
    assert sizes.max() - sizes.min() <= np.bincount(units).max()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_of_rows_and_numbering_of_units_change_no_fold(seed, random):
    units, treated, labels = units_of(seed)
    fold = deal_folds(units, treated, n_folds=5, seed=1, unit_labels=labels)
    order = np.array(random.sample(range(len(units)), len(units)))
    other = deal_folds(units[order], treated[order], n_folds=5, seed=1, unit_labels=labels)
    np.testing.assert_array_equal(other, fold[order])
    renumber = np.array(random.sample(range(len(labels)), len(labels)))
    moved = np.empty_like(labels)
    moved[renumber] = labels
    np.testing.assert_array_equal(deal_folds(renumber[units], treated, n_folds=5, seed=1, unit_labels=moved), fold)


def test_seed_and_repeat_deal_anew():
    units, treated, labels = units_of(0)
    deals = [
        deal_folds(units, treated, n_folds=5, seed=s, repeat=r, unit_labels=labels) for s in (0, 1) for r in (0, 1)
    ]
    for i in range(4):
        for j in range(i):
            assert not same_partition(deals[i], deals[j])


def test_known_deal_is_the_same_on_every_machine():
    fold = deal_folds(np.arange(12), n_folds=3, seed=0, unit_labels=np.arange(12))
    assert np.bincount(fold).tolist() == [4, 4, 4]
    assert fold.tolist() == [1, 2, 0, 1, 0, 2, 2, 0, 2, 1, 0, 1]


def test_treated_share_is_spread_over_folds():
    units, treated = np.repeat(np.arange(100), 4), np.repeat(np.arange(100) < 30, 4).astype(float)
    fold = deal_folds(units, treated, n_folds=5, seed=3, unit_labels=np.arange(100))
    assert [treated[fold == k].mean() for k in range(5)] == [0.3] * 5


def test_as_many_units_as_folds_get_one_each():
    units = np.repeat(np.arange(4), [500, 30, 20, 10])
    fold = deal_folds(units, n_folds=4, seed=0, unit_labels=np.arange(4))
    assert same_partition(units, fold)


def test_swapped_arms_give_the_same_sizes_and_doses_are_not_stratified():
    units, treated, labels = units_of(5)
    dose = deal_folds(units, treated * 2.5, n_folds=5, seed=0, unit_labels=labels)
    plain = deal_folds(units, None, n_folds=5, seed=0, unit_labels=labels)
    np.testing.assert_array_equal(dose, plain)


def test_codes_may_be_a_subset_of_the_labels():
    units, _, labels = units_of(6)
    rows = np.isin(units, np.unique(units)[::2])
    fold = deal_folds(units[rows], n_folds=3, seed=0, unit_labels=labels)
    compact, code = np.unique(units[rows], return_inverse=True)
    np.testing.assert_array_equal(fold, deal_folds(code, n_folds=3, seed=0, unit_labels=labels[compact]))


def test_a_thin_arm_is_named_with_its_fold():
    with pytest.raises(DataError, match=r"fold 1 leaves 5 control rows.*needs 20"):
        check_arms(np.array([[True] * 50, [False] * 20 + [True] * 30]), np.array([0.0] * 25 + [1.0] * 25))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.0, 12.0))
def test_no_training_row_is_closer_to_a_test_row_than_the_buffer(seed, buffer_km):
    rng = np.random.default_rng(seed)
    lonlat = np.column_stack([179.0 + 2 * rng.random(80), 60 + rng.random(80)])
    lonlat[:, 0] = np.where(lonlat[:, 0] > 180, lonlat[:, 0] - 360, lonlat[:, 0])
    fold = (np.argsort(np.argsort(lonlat[:, 1])) * 3) // 80
    train = training_sets(fold, lonlat, buffer_km)
    for k in range(3):
        test = np.flatnonzero(fold == k)
        nearest = np.array(
            [great_circle_km(np.repeat(lonlat[[i]], len(test), 0), lonlat[test]).min() for i in range(80)]
        )
        np.testing.assert_array_equal(train[k], (fold != k) & (nearest >= buffer_km))
    assert (share_lost(train, fold) <= 0.5).all()


def test_no_buffer_means_the_other_folds():
    fold = np.array([0, 1, 2, 0])
    assert training_sets(fold, None, 0.0) is None
    np.testing.assert_array_equal(other_folds(fold)[1], [True, False, True, True])
    with pytest.raises(DataError, match="give coords"):
        training_sets(fold, None, 5.0)


def test_user_folds_are_checked_unit_by_unit():
    check_user_folds(np.array(["a", "a", "b"]), np.array([0, 0, 1]), np.array(["u", "v"]))
    with pytest.raises(ImageSplitError, match=r"split 1 units.*for example v over folds a, b"):
        check_user_folds(np.array(["a", "b", "a"]), np.array([0, 1, 1]), np.array(["u", "v"]))


def test_folds_take_whole_floats_from_r():
    assert cs.Folds(n=5.0, repeats=2.0) == cs.Folds(n=5, repeats=2)
    assert cs.Folds.__module__ == "causalsat"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(5.0, 40.0), st.randoms(use_true_random=False))
def test_blocks_are_small_and_do_not_depend_on_the_order_of_rows(seed, block_km, random):
    rng = np.random.default_rng(seed)
    lonlat = np.column_stack([30 + 2 * rng.random(60), rng.uniform(-60, 60) + rng.random(60)])
    codes = spatial_blocks(lonlat, block_km, seed)
    order = np.array(random.sample(range(60), 60))
    np.testing.assert_array_equal(spatial_blocks(lonlat[order], block_km, seed), codes[order])
    for code in np.unique(codes):
        inside = lonlat[codes == code]
        far = great_circle_km(np.repeat(inside, len(inside), 0), np.tile(inside, (len(inside), 1))).max()
        assert far <= 1.02 * np.sqrt(2) * block_km


def test_blocks_hold_equal_areas_at_any_latitude():
    rng = np.random.default_rng(0)
    for lat in (0.0, 55.0):
        z = rng.uniform(np.sin(np.radians(lat - 2)), np.sin(np.radians(lat + 2)), 200_000)
        lonlat = np.column_stack([rng.uniform(-2, 2, 200_000), np.degrees(np.arcsin(z))])
        per_block = np.sort(np.bincount(spatial_blocks(lonlat, 20.0, 0)))
        inner = per_block[len(per_block) // 4 :]
        km2 = 6371.01**2 * np.radians(4.0) * (np.sin(np.radians(lat + 2)) - np.sin(np.radians(lat - 2)))
        assert np.median(inner) == pytest.approx(200_000 * 400 / km2, rel=0.03)


def test_the_seed_moves_the_origin_of_blocks():
    rng = np.random.default_rng(1)
    lonlat = np.column_stack([30 + rng.random(200), rng.random(200)])
    assert not same_partition(spatial_blocks(lonlat, 20.0, 0), spatial_blocks(lonlat, 20.0, 1))
    assert same_partition(spatial_blocks(lonlat, 20.0, 1), spatial_blocks(lonlat, 20.0, 1))
