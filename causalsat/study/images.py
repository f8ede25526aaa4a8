"""Which image each row shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causalsat.errors import DataError, nearest
from causalsat.study.embeddings import USABLE, Embeddings, vectors_of
from causalsat.study.frame import Frame
from causalsat.study.overlap import row_bytes

MAX_SHARE_ABSENT = 0.5


@dataclass(frozen=True, eq=False)
class RowImages:
    """Images and, for each row of the table, the position of its image (n,), -1 where it has none."""

    embeddings: Embeddings
    image: np.ndarray
    reasons: list[tuple[str, np.ndarray]]


def row_images(frame: Frame, embeddings: Any, key: str | None) -> RowImages:
    """Join rows to images.

    Parameters
    ----------
    frame : Frame
        The table, n rows.
    embeddings : Embeddings, path, or array (n, d)
        An array is aligned with the rows; rows with one key, or with identical vectors when there is no key, share one
        image.
    key : str, optional
        Column that names each row's image.

    Returns
    -------
    RowImages
        ``reasons`` are the rows without a usable image: key missing, no such id, or the image's status.

    Raises
    ------
    DataError
        A key that joins fewer than half of the rows, a matrix of another length, rows of one image with different
        vectors.
    """
    if isinstance(embeddings, (str, Path)):
        embeddings = Embeddings.read(embeddings)
    if isinstance(embeddings, Embeddings):
        images, image = embeddings, _joined(frame, embeddings, key)
    else:
        images, image = _aligned(frame, embeddings, key)
    status = np.where(np.isin(images.status, USABLE) & ~images.usable, "all_nodata", images.status)
    of_row = status[np.maximum(image, 0)]
    reasons = []
    if key is not None:
        unnamed = frame.column(key, "embedding_key").missing
        reasons = [
            (f"embedding_key {key} is missing", unnamed),
            ("image not among the embeddings", (image < 0) & ~unnamed),
        ]
    lost = [name for name in np.unique(status).tolist() if name not in USABLE]
    reasons += [(f"image {name}", (image >= 0) & (of_row == name)) for name in lost]
    reasons = [(reason, rows) for reason, rows in reasons if rows.any()]
    gone = np.zeros(frame.n, bool)
    for _, rows in reasons:
        gone |= rows
    return RowImages(images, np.where(gone, -1, image), reasons)


def key_texts(frame: Frame, key: str) -> np.ndarray:
    """The key of each row as text (n,), "" where missing; whole floats read as whole numbers."""
    codes, labels = frame.column(key, "embedding_key").codes("embedding_key")
    texts = labels.astype(str) if len(labels) else np.array([""])
    return np.where(codes < 0, "", texts[np.maximum(codes, 0)])


def _joined(frame: Frame, embeddings: Embeddings, key: str | None) -> np.ndarray:
    if key is None:
        ids = set(embeddings.ids.tolist())
        fitting = max(frame.names, key=lambda name: _n_fitting(frame, name, ids))
        known = _n_fitting(frame, fitting, ids) > 1
        hint = f" Column {fitting!r} holds such ids: embedding_key={fitting!r}." if known else ""
        raise DataError(
            f"embeddings holds {len(embeddings)} images named {_some(embeddings.ids)} and embedding_key is not "
            f"given; name the column that tells which image each row shows.{hint}"
        )
    column = frame.column(key, "embedding_key")
    if column.missing.all():
        raise DataError(f"embedding_key column {key!r} is missing in all {frame.n} rows; was it lost in a join?")
    texts = key_texts(frame, key)
    image = np.where(column.missing, -1, embeddings.align(texts))
    absent = (image < 0) & ~column.missing
    if absent.sum() > MAX_SHARE_ABSENT * (~column.missing).sum():
        first = str(texts[absent][0])
        raise DataError(
            f"embedding_key column {key!r} names images that the embeddings lack in {int(absent.sum())} of "
            f"{int((~column.missing).sum())} rows, for example {first!r}; the embeddings are named "
            f"{_some(embeddings.ids)}.{nearest(first, embeddings.ids.tolist()[:1000])} Check that it is the column "
            "the images were made with."
        )
    return image


def _aligned(frame: Frame, matrix: Any, key: str | None) -> tuple[Embeddings, np.ndarray]:
    given = _array(matrix)
    vectors = vectors_of(given, "embeddings")
    if len(vectors) != frame.n:
        raise DataError(
            f"embeddings is a matrix of {len(vectors)} rows and the data have {frame.n}; a matrix is aligned row by "
            "row. For one vector per image use Embeddings.from_matrix(matrix, ids=...) with embedding_key."
        )
    prints = row_bytes(given)
    if key is None:
        _, first, image = np.unique(prints, return_index=True, return_inverse=True)
        if len(first) == 1:
            # One vector everywhere says nothing about which rows share an image.
            first = image = np.arange(frame.n)
        rank = np.argsort(np.argsort(first))
        first, image = np.sort(first), rank[image]
        return Embeddings.from_matrix(vectors[first]), image.astype(np.int64)
    column = frame.column(key, "embedding_key")
    texts = key_texts(frame, key)
    ids, first, inverse = np.unique(texts, return_index=True, return_inverse=True)
    differ = (prints != prints[first[inverse]]) & ~column.missing
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise DataError(
            f"embeddings: rows {int(first[inverse[row]])} and {row} have the same {key} {str(texts[row])!r} and "
            f"different vectors ({int(differ.sum())} such rows); one image has one vector. Is the matrix in the "
            "order of the rows?"
        )
    return Embeddings.from_matrix(vectors[first], ids=ids), np.where(column.missing, -1, inverse).astype(np.int64)


def _array(matrix: Any) -> np.ndarray:
    try:
        given = np.asarray(matrix)
        return given if given.dtype.kind in "fiu" else given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"embeddings is a {type(matrix).__name__} and no matrix of numbers ({error}); pass an Embeddings, the "
            "path of one, or an array (n, d)."
        ) from error


def _n_fitting(frame: Frame, name: str, ids: set[str]) -> int:
    """How many ids a column names, 0 when it also holds other values."""
    column = frame.column(name, "embedding_key")
    if column.kind == "mixed" or column.missing.all():
        return 0
    _, labels = column.codes("embedding_key")
    found = set(labels.astype(str).tolist())
    return len(found) if found <= ids else 0


def _some(ids: np.ndarray) -> str:
    return ", ".join(repr(name) for name in ids[:3].tolist()) + (", ..." if len(ids) > 3 else "")
