"""Identical chips, overlapping footprints, connected components."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import causalsat as cs
from causalsat.study.groups import connected
from causalsat.study.overlap import identical_images, overlapping_footprints
from tests.study.making import same_partition


def boxes(footprint, crs="EPSG:32636") -> cs.Embeddings:
    footprint = np.asarray(footprint, dtype=float)
    return cs.Embeddings.from_matrix(np.arange(len(footprint))[:, None], footprint=footprint, footprint_crs=crs)


def by_hand(footprint: np.ndarray) -> list[list[int]]:
    pairs = []
    for i in range(len(footprint)):
        for j in range(i + 1, len(footprint)):
            a, b = footprint[i], footprint[j]
            if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1]):
                pairs.append([i, j])
    return pairs


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=12))
def test_overlap_is_common_area_and_never_a_shared_edge(corners):
    footprint = np.array([[x, y, x + side, y + side] for x, y, side in corners], dtype=float)
    assert overlapping_footprints(boxes(footprint)).tolist() == by_hand(footprint)


def test_a_tiling_with_rounded_corners_does_not_overlap():
    x = 500_000.0 + 1050.1 * np.arange(30)
    footprint = np.column_stack([x, np.zeros(30), x + 1050.1, np.full(30, 1050.1)])
    assert len(overlapping_footprints(boxes(footprint))) == 0


def test_unknown_footprints_overlap_none():
    footprint = [[0, 0, 10, 10], [np.nan] * 4, [5, 5, 15, 15]]
    assert overlapping_footprints(boxes(footprint)).tolist() == [[0, 2]]
    assert len(overlapping_footprints(cs.Embeddings.from_matrix(np.eye(3)))) == 0


def around(lon: float, lat: float, crs: str, side: float = 1000.0) -> list[float]:
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    half = side / 2 if crs != "EPSG:4326" else side / 2 / 111_320.0
    return [x - half, y - half, x + half, y + half]


@pytest.mark.parametrize(("lon", "near"), [(30.0, 30.005), (180.0, -179.996), (0.0, -0.004), (179.999, -179.999)])
def test_chips_in_two_coordinate_systems_are_compared_on_the_ground(lon, near):
    crs = ["EPSG:3857", "EPSG:4326", "EPSG:4326"]
    footprint = [
        around(lon if lon < 180 else 179.9999, 1.0, crs[0]),
        around(near, 1.0, crs[1]),
        around(near + 0.1, 1.0, crs[2]),
    ]
    assert overlapping_footprints(boxes(footprint, crs)).tolist() == [[0, 1]]


def test_identical_chips_by_hash_and_where_hashes_are_unknown_by_vector():
    matrix = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0], [np.nan, 1.0], [np.nan, 1.0]])
    plain = cs.Embeddings.from_matrix(matrix)
    assert identical_images(plain).tolist() == [[0, 1], [2, 3]]
    hashed = cs.Embeddings.from_matrix(matrix, chip_sha256=["a", "b", "", "", "a", "", ""])
    assert identical_images(hashed).tolist() == [[0, 4], [2, 3]]


def test_one_vector_everywhere_joins_nothing():
    assert len(identical_images(cs.Embeddings.from_matrix(np.ones((5, 2))))) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=15),
    st.lists(st.integers(-1, 5), min_size=20, max_size=20),
)
def test_components_are_the_closure_of_all_links(n, pairs, codes):
    links = np.array([p for p in pairs if max(p) < n], dtype=np.int64).reshape(-1, 2)
    code = np.array(codes[:n])
    found = connected(n, links, code)
    reach = np.eye(n, dtype=bool) | ((code[:, None] == code[None, :]) & (code >= 0)[:, None])
    reach[links[:, 0], links[:, 1]] = reach[links[:, 1], links[:, 0]] = True
    for _ in range(n):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    assert same_partition(found, reach.argmax(axis=1))
    first = [found.tolist().index(c) for c in range(found.max() + 1)]
    assert first == sorted(first)


@pytest.mark.parametrize("d", [1, 16, 17, 300])
def test_rows_compare_byte_for_byte_at_any_width(d):
    matrix = np.random.default_rng(0).normal(size=(6, d)).astype(np.float32)
    matrix[4], matrix[5] = matrix[1], matrix[2]
    matrix[5, -1] = np.nextafter(matrix[2, -1], np.float32(9))
    matrix[0, 0], matrix[3] = 0.0, matrix[0]
    matrix[3, 0] = -0.0
    assert identical_images(cs.Embeddings.from_matrix(matrix)).tolist() == [[0, 3], [1, 4]]
