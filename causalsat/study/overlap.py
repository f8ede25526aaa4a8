"""Images that show the same ground: identical chips and overlapping footprints."""

import hashlib

import numpy as np

from causalsat.study.embeddings import Embeddings

# Neighbouring cells of a grid share an edge, not ground: rounding of their corners must not join them.
_EDGE = 1e-6


def identical_images(embeddings: Embeddings) -> np.ndarray:
    """Pairs of images with equal pixels.

    Two images are identical when their ``chip_sha256`` agree; where hashes are unknown, when their vectors are equal
    byte for byte. One vector shared by all images says nothing and joins none.

    Parameters
    ----------
    embeddings : Embeddings
        J images.

    Returns
    -------
    ndarray (m, 2) int64
        Pairs of positions, first < second; of several identical images each is paired with the first.
    """
    hashes = embeddings.chip_sha256
    known = np.zeros(len(embeddings), bool) if hashes is None else hashes != ""
    pairs = [_equal_pairs(hashes[known], np.flatnonzero(known))] if hashes is not None else []
    bare = np.flatnonzero(~known & embeddings.usable)
    prints = row_bytes(embeddings.matrix)
    if len(bare) and len(np.unique(prints[embeddings.usable])) > 1:
        pairs.append(_equal_pairs(prints[bare], bare))
    found = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def row_bytes(matrix: np.ndarray) -> np.ndarray:
    """Each row of a matrix (n, d) as one value that compares byte for byte: (n,) void.

    Wide rows are stood for by a 128-bit digest, which sorts far faster than the row itself.
    """
    # Adding zero turns -0.0 into 0.0, which are equal numbers with different bytes.
    rows = np.ascontiguousarray(matrix) + matrix.dtype.type(0)
    width = rows.dtype.itemsize * rows.shape[1]
    if width <= 64:
        return rows.view(np.dtype((np.void, width))).reshape(-1)
    digests = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows)
    return np.frombuffer(digests, dtype=np.dtype((np.void, 16)))


def overlapping_footprints(embeddings: Embeddings) -> np.ndarray:
    """Pairs of images whose chips cover common ground (more than a shared edge).

    Boxes in one coordinate system are compared there; boxes in different ones as polygons in longitude and latitude.

    Parameters
    ----------
    embeddings : Embeddings
        J images; those without a footprint overlap none.

    Returns
    -------
    ndarray (m, 2) int64
        Pairs of positions, first < second, sorted.
    """
    if embeddings.footprint is None or embeddings.footprint_crs is None:
        return np.empty((0, 2), np.int64)
    known = np.flatnonzero(np.isfinite(embeddings.footprint).all(axis=1))
    boxes, systems = embeddings.footprint[known], embeddings.footprint_crs[known]
    names = np.unique(systems)
    pairs = [known[_box_pairs(boxes, np.flatnonzero(systems == name))] for name in names]
    if len(names) > 1:
        pairs.append(known[_polygon_pairs(boxes, systems)])
    found = np.sort(np.concatenate(pairs), axis=1) if pairs else np.empty((0, 2), np.int64)
    return np.unique(found, axis=0)


def _equal_pairs(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    leader = first[inverse]
    later = leader != np.arange(len(values))
    return np.column_stack([positions[leader[later]], positions[later]]).astype(np.int64)


def _box_pairs(boxes: np.ndarray, members: np.ndarray) -> np.ndarray:
    import shapely

    mine = boxes[members]
    tree = shapely.STRtree(shapely.box(*mine.T))
    left, right = tree.query(tree.geometries, predicate="intersects")
    left, right = left[left < right], right[left < right]
    depth = np.minimum(mine[left, 2:], mine[right, 2:]) - np.maximum(mine[left, :2], mine[right, :2])
    side = np.minimum(mine[left, 2:] - mine[left, :2], mine[right, 2:] - mine[right, :2])
    shared = (depth > _EDGE * side).all(axis=1)
    return np.column_stack([members[left[shared]], members[right[shared]]])


def _polygon_pairs(boxes: np.ndarray, systems: np.ndarray) -> np.ndarray:
    import shapely

    corners = _degrees(boxes, systems)
    found = []
    # Twice: with longitudes in [-180, 180) and in [0, 360), so that chips astride either seam are seen once whole.
    for seam in (-180.0, 0.0):
        turned = corners.copy()
        turned[..., 0] = (turned[..., 0] - seam) % 360.0 + seam
        whole = np.flatnonzero(np.ptp(turned[..., 0], axis=1) < 180.0)
        shapes = shapely.polygons(turned[whole])
        left, right = shapely.STRtree(shapes).query(shapes, predicate="intersects")
        other = (left < right) & (systems[whole[left]] != systems[whole[right]])
        left, right = left[other], right[other]
        common = shapely.area(shapely.intersection(shapes[left], shapes[right]))
        shared = common > 1e-3 * np.minimum(shapely.area(shapes[left]), shapely.area(shapes[right]))
        found.append(np.column_stack([whole[left[shared]], whole[right[shared]]]))
    return np.concatenate(found)


def _degrees(boxes: np.ndarray, systems: np.ndarray, steps: int = 4) -> np.ndarray:
    """Outlines (m, 4 steps + 1, 2) in longitude and latitude; edges get points because they bend."""
    from pyproj import Transformer

    t = np.arange(steps) / steps
    zero, one = np.zeros(steps), np.ones(steps)
    u, v = np.concatenate([t, one, 1 - t, zero, [0.0]]), np.concatenate([zero, t, one, 1 - t, [0.0]])
    x = boxes[:, [0]] + (boxes[:, [2]] - boxes[:, [0]]) * u[None, :]
    y = boxes[:, [1]] + (boxes[:, [3]] - boxes[:, [1]]) * v[None, :]
    out = np.empty((*x.shape, 2))
    for name in np.unique(systems):
        mine = systems == name
        transformer = Transformer.from_crs(str(name), "EPSG:4326", always_xy=True)
        out[mine, :, 0], out[mine, :, 1] = transformer.transform(x[mine], y[mine])
    return out
