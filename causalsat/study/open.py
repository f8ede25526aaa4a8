"""The door: data and roles in, checked arrays out, once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import DataError, DroppedRowsWarning, warn
from causalsat.study.columns import Column
from causalsat.study.coordinates import study_lonlat
from causalsat.study.embeddings import Embeddings
from causalsat.study.frame import Frame, read_frame
from causalsat.study.images import RowImages, row_images
from causalsat.study.roles import Role as Role
from causalsat.study.roles import RoleColumns, code_array, design_array, numeric_array, role_columns


@dataclass(frozen=True, eq=False)
class Study:
    """The rows in use as arrays; nothing in it needs checking again.

    Attributes
    ----------
    n_input : int
        Rows of the table.
    rows : ndarray (n,) int64
        Positions of the kept rows in the table.
    numeric : dict
        Role to float64 (n,), or (n, m) for roles of many.
    names : dict
        Role to its column names, after dummies.
    codes : dict
        Role to int64 (n,) codes of the sorted labels; -1 where missing is kept. ``"embedding_key"`` is among them when
        that column is given.
    labels : dict
        Role to its labels (g,).
    lonlat : ndarray (n, 2), optional
        Degrees WGS84.
    embeddings : Embeddings, optional
        The images in use.
    image : ndarray (n,) int64, optional
        Position of each row's image in ``embeddings``; the code of its key when only ``embedding_key`` is given.
    dropped : dict
        Reason to number of rows left out; a row counts under its first reason.
    data_hash : str
        SHA-256 of the columns in use (all rows of the table, their coordinates and vectors), the same for every type
        of frame.
    dates : dict
        Role to datetime64[D] (n,), NaT where missing is kept.
    """

    n_input: int
    rows: np.ndarray
    numeric: dict[str, np.ndarray]
    names: dict[str, tuple[str, ...]]
    codes: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    lonlat: np.ndarray | None
    embeddings: Embeddings | None
    image: np.ndarray | None
    dropped: dict[str, int]
    data_hash: str
    dates: dict[str, np.ndarray] = field(default_factory=dict)


def open_study(
    data: Any,
    roles: Sequence[Role],
    *,
    coords: Sequence[str] | None = None,
    embeddings: Any = None,
    embedding_key: str | None = None,
    verb: str = "image_ate",
) -> Study:
    """Check data and roles and turn them into arrays.

    Parameters
    ----------
    data : frame, mapping or path
        See :func:`causalsat.study.frame.read_frame`.
    roles : sequence of Role
        What each column is for.
    coords : pair of str, optional
        Longitude and latitude columns in degrees WGS84; None takes the geometry of a GeoDataFrame.
    embeddings : Embeddings, path, or array (n, d), optional
        Image embeddings; an array is aligned with the rows.
    embedding_key : str, optional
        Column that names each row's image.
    verb : str
        Name of the calling verb, for messages.

    Returns
    -------
    Study

    Raises
    ------
    DataError
        Data that cannot be used as asked; the message names column, value, rows and cure.

    Examples
    --------
    >>> from causalsat.study.open import Role, open_study
    >>> study = open_study({"y": [1.0, 2.0, 4.0], "w": [0, 1, 1]}, [Role("outcome", "y", "numeric")])
    >>> study.numeric["outcome"]
    array([1., 2., 4.])
    """
    frame = read_frame(data)
    shared = () if embedding_key is None else (embedding_key,)
    found = role_columns(frame, roles, shared)
    lonlat = study_lonlat(frame, coords)
    images = None if embeddings is None else row_images(frame, embeddings, embedding_key)
    keyed = list(found)
    if embedding_key is not None:
        keyed.append(_key_role(frame, embedding_key, dropping=embeddings is None))
    rows, dropped = _kept_rows(frame.n, keyed, images, verb)
    numeric, names, codes, labels, dates = _arrays(keyed, rows)
    used, image = (None, codes.get("embedding_key")) if images is None else _images_in_use(images, rows)
    return Study(
        n_input=frame.n,
        rows=rows,
        numeric=numeric,
        names=names,
        codes=codes,
        labels=labels,
        lonlat=None if lonlat is None else lonlat[rows],
        embeddings=used,
        image=image,
        dropped=dropped,
        data_hash=_hash(keyed, lonlat, images),
        dates=dates,
    )


def _key_role(frame: Frame, key: str, *, dropping: bool) -> RoleColumns:
    role = Role("embedding_key", key, "codes", missing="drop" if dropping else "keep", constant="allow")
    return RoleColumns(role, (frame.column(key, "embedding_key"),))


def _kept_rows(
    n: int, found: Sequence[RoleColumns], images: RowImages | None, verb: str
) -> tuple[np.ndarray, dict[str, int]]:
    reasons = [reason for item in found for reason in item.missing()] + ([] if images is None else images.reasons)
    keep = np.ones(n, bool)
    dropped: dict[str, int] = {}
    for reason, rows in reasons:
        fresh = int((rows & keep).sum())
        if fresh:
            dropped[reason] = dropped.get(reason, 0) + fresh
        keep &= ~rows
    listed = "; ".join(f"{reason} in {count}" for reason, count in dropped.items())
    if not keep.any():
        raise DataError(f"{verb}: none of the {n} rows can be used: {listed}. Fill these columns, or leave a role out.")
    if dropped:
        warn(f"{verb}: {n - int(keep.sum())} of {n} rows are left out: {listed}.", DroppedRowsWarning)
    return np.flatnonzero(keep).astype(np.int64), dropped


def _arrays(found: Sequence[RoleColumns], rows: np.ndarray) -> tuple[dict, dict, dict, dict, dict]:
    numeric: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    codes: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    dates: dict[str, np.ndarray] = {}
    for item in found:
        role = item.role
        names[role.name] = tuple(column.name for column in item.columns)
        if role.kind == "codes":
            codes[role.name], labels[role.name] = code_array(item, rows)
        elif role.kind == "design":
            numeric[role.name], names[role.name] = design_array(item, rows)
        elif role.kind == "date":
            dates[role.name] = item.columns[0].dates(role.name)[rows]
        else:
            numeric[role.name] = numeric_array(item, rows)
    return numeric, names, codes, labels, dates


def _images_in_use(images: RowImages, rows: np.ndarray) -> tuple[Embeddings, np.ndarray]:
    used, image = np.unique(images.image[rows], return_inverse=True)
    return images.embeddings.take(used), np.asarray(image, dtype=np.int64)


def _hash(found: Sequence[RoleColumns], lonlat: np.ndarray | None, images: RowImages | None) -> str:
    digest = hashlib.sha256()
    for item in sorted(found, key=lambda item: item.role.name):
        for column in item.columns:
            digest.update(f"{item.role.name}\0{column.name}\0".encode())
            _update(digest, column)
    if lonlat is not None:
        digest.update(np.ascontiguousarray(lonlat + 0.0, dtype="<f8").tobytes())
    if images is not None:
        used = np.unique(images.image[images.image >= 0])
        digest.update(np.ascontiguousarray(images.embeddings.matrix[used], dtype="<f4").tobytes())
    return digest.hexdigest()


def _update(digest: Any, column: Column) -> None:
    """Numbers as doubles, everything else as sorted labels and codes: one content, one hash."""
    if column.kind in ("number", "bool") and not _beyond_doubles(column):
        numbers = column.values.astype(np.float64)
        numbers[column.missing] = np.nan
        digest.update(np.ascontiguousarray(numbers + 0.0, dtype="<f8").tobytes())
        return
    codes, labels = column.codes("data")
    digest.update("\0".join(str(label) for label in labels.tolist()).encode())
    digest.update(codes.astype("<i8").tobytes())


def _beyond_doubles(column: Column) -> bool:
    return column.values.dtype.kind == "i" and bool((np.abs(column.values) > 2**53).any())
