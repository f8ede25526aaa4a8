"""Fold units: what may not be split, and what may not change it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.errors import ImageSplitError
from causalsat.study.fold_units import fold_units
from causalsat.study.folds import deal_folds, training_sets
from causalsat.study.open import Role, open_study
from tests.study.making import ROLES, opened, permuted, same_partition, table


def folds_of(study, seed: int = 0, folds: cs.Folds = cs.Folds()) -> np.ndarray:
    units, labels = fold_units(study, folds=folds, seed=seed)
    return deal_folds(units, study.numeric["treatment"][:, 0], n_folds=folds.n, seed=seed, unit_labels=labels)


KINDS = {
    "rows": {},
    "places": {"coords": ("lon", "lat")},
    "cluster": {"cluster": "site"},
    "image": {"embedding_key": "site"},
    "matrix": {"embeddings": True},
    "blocks": {"coords": ("lon", "lat"), "folds": cs.Folds(block_km=10)},
}


def dealt(data, kind, seed=0):
    more = dict(KINDS[kind])
    folds = more.pop("folds", cs.Folds())
    if more.get("embeddings"):
        more["embeddings"] = np.column_stack([data["a"], data["b"]])
    return folds_of(opened(data, **more), seed, folds)


def study_table(n: int = 150) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    return table(n) | {"a": rng.normal(size=n), "b": rng.normal(size=n)}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_sorting_rows_changes_no_fold(kind, random):
    data = study_table()
    order = np.array(random.sample(range(150), 150))
    np.testing.assert_array_equal(dealt(permuted(data, order), kind), dealt(data, kind)[order])


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_measurement_and_swapped_arms_change_no_fold(kind):
    data = study_table()
    scaled = data | {"y": 5.0 + 3.0 * data["y"], "x": 0.1 * data["x"]}
    np.testing.assert_array_equal(dealt(scaled, kind), dealt(data, kind))
    if kind in ("rows", "places", "matrix"):
        turned = data | {"a": data["a"] * 0.6 - data["b"] * 0.8, "b": data["a"] * 0.8 + data["b"] * 0.6}
        np.testing.assert_array_equal(dealt(turned, kind), dealt(data, kind))
        noise = data | {"y": np.random.default_rng(77).normal(size=150)}
        np.testing.assert_array_equal(dealt(noise, kind), dealt(data, kind))


def test_rows_that_are_equal_but_for_the_outcome_are_told_apart():
    data = {"y": np.arange(100.0), "w": np.arange(100) % 2}
    roles = (Role("outcome", "y", "numeric"), Role("treatment", "w", "binary", many=True))
    study = open_study(data, roles)
    _, labels = fold_units(study)
    assert len(set(labels.tolist())) == 100
    order = np.random.default_rng(0).permutation(100)
    again = open_study(permuted(data, order), roles)
    np.testing.assert_array_equal(folds_of(again), folds_of(study)[order])


def test_the_first_unit_that_exists_is_used():
    data = table()
    for more, role in (({"cluster": "region"}, "region"), ({"embedding_key": "site"}, "site")):
        roles = [ROLES[0], ROLES[1]] + ([Role("cluster", "region", "codes")] if "cluster" in more else [])
        study = open_study(data, roles, embedding_key=more.get("embedding_key"))
        units, labels = fold_units(study)
        assert same_partition(units, np.unique(data[role].astype(str), return_inverse=True)[1])
        assert labels[units[0]].endswith(data[role][0])
    units, _ = fold_units(open_study(data, [ROLES[0]]))
    assert len(np.unique(units)) == 120


def images(n: int, **more) -> cs.Embeddings:
    return cs.Embeddings.from_matrix(np.random.default_rng(0).normal(size=(n, 3)), ids=np.arange(n), **more)


def test_clusters_images_identical_and_overlapping_chips_merge():
    data = table(60) | {"key": np.arange(60) // 3, "village": np.arange(60) // 6}
    box = np.zeros((20, 4))
    box[:, 0] = 10.0 * np.arange(20)
    box[5, 0] = box[2, 0] + 0.5
    box[:, 2:] = box[:, :2] + 1.0
    hashes = [f"h{i}" for i in range(20)]
    hashes[19] = hashes[10]
    e = images(20, footprint=box, footprint_crs="EPSG:3857", chip_sha256=hashes)
    study = open_study(
        data, [ROLES[0], ROLES[1], Role("cluster", "village", "codes")], embeddings=e, embedding_key="key"
    )
    units, labels = fold_units(study, folds=cs.Folds(n=2))
    expected = data["village"].copy()
    expected[expected == 2] = 1
    expected[expected == 9] = 5
    assert same_partition(units, expected)
    assert len(labels) == 8


def test_with_by_its_levels_stay_whole_and_merge_too():
    data = table(60) | {"key": np.arange(60) // 3, "area": np.arange(60) // 5}
    roles = [ROLES[0], ROLES[1], Role("fold group", "area", "codes")]
    units, _ = fold_units(open_study(data, roles, embedding_key="key"), folds=cs.Folds(n=2, by="area"))
    assert same_partition(units, np.arange(60) // 15)


def test_a_column_with_one_level_per_fold_is_the_folds():
    data = table(60) | {"key": np.arange(60) // 3, "fold": np.arange(60) // 3 % 4, "bad": np.arange(60) % 4}
    for column in ("fold", "bad"):
        study = open_study(data, [ROLES[0], ROLES[1], Role("fold group", column, "codes")], embedding_key="key")
        if column == "fold":
            units, labels = fold_units(study, folds=cs.Folds(n=4, by=column))
            assert same_partition(deal_folds(units, n_folds=4, seed=0, unit_labels=labels), data["fold"])
        else:
            with pytest.raises(ImageSplitError, match="split 20 units"):
                fold_units(study, folds=cs.Folds(n=4, by=column))


def test_without_folds_a_giant_unit_is_reported_not_refused():
    data = table() | {"g": np.where(np.arange(120) < 90, 0, np.arange(120))}
    study = open_study(data, [ROLES[0], Role("cluster", "g", "codes")])
    units, _ = fold_units(study)
    assert np.bincount(units).max() == 90


def test_blocks_keep_images_and_clusters_whole():
    data = table(400)
    study = opened(data, coords=("lon", "lat"), cluster="site", embedding_key="site")
    units, labels = fold_units(study, folds=cs.Folds(n=2, block_km=15), seed=4)
    assert len(np.unique(np.column_stack([units, study.codes["cluster"]]), axis=0)) == len(study.labels["cluster"])
    assert all(label.startswith("block ") for label in labels)


def test_a_buffer_keeps_overlapping_chips_of_two_blocks_apart():
    n = 40
    data = table(n) | {"key": np.arange(n), "lon": 33 + np.arange(n) * 0.01, "lat": np.zeros(n)}
    x = 1113.0 * np.arange(n)
    e = images(n, footprint=np.column_stack([x, x * 0, x + 2000, x * 0 + 2000]), footprint_crs="EPSG:3857")
    study = open_study(data, [ROLES[0], ROLES[1]], coords=("lon", "lat"), embeddings=e, embedding_key="key")
    with pytest.raises(ImageSplitError, match="overlapping chips"):
        fold_units(study, folds=cs.Folds(n=2, block_km=8), seed=0)
    folds = cs.Folds(n=2, block_km=8, buffer_km=1.2)
    units, labels = fold_units(study, folds=folds, seed=0)
    fold = deal_folds(units, n_folds=2, seed=0, unit_labels=labels)
    train = training_sets(fold, study.lonlat, folds.buffer_km)
    for k in range(2):
        used, tested = np.flatnonzero(train[k]), np.flatnonzero(fold == k)
        assert np.abs(used[:, None] - tested[None, :]).min() >= 2
